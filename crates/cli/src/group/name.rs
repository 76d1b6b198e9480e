//! Ids of groups and instances, as they are given.

use std::fmt::Display;

use tidelog_types::{ErrorCode, GroupName, InstanceId};

use crate::Failure;

/// Checks the id of a group, so that a wrong one is refused before anything is asked or changed.
pub(crate) fn group_name(text: &str) -> Result<GroupName, Failure> {
    GroupName::new(text).map_err(|error| wrong(&error))
}

/// Checks the id of an instance.
pub(crate) fn instance_id(text: &str) -> Result<InstanceId, Failure> {
    InstanceId::new(text).map_err(|error| wrong(&error))
}

fn wrong(error: &dyn Display) -> Failure {
    // The id itself may be long, or hold what no terminal should get.
    Failure::usage(format!("{error} ({})", ErrorCode::InvalidGroupId))
        .next_step("choose 1 to 255 bytes without control characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_id_is_one_line_without_the_id() {
        for id in ["", "a\nb", &"x".repeat(256)] {
            let failure = group_name(id).unwrap_err().to_string();
            assert!(failure.starts_with("group id "), "{failure}");
            assert!(failure.contains("(INVALID_GROUP_ID); choose"), "{failure}");
            assert!(!failure.contains('\n') && failure.len() < 160, "{failure}");
        }
        assert!(instance_id("").unwrap_err().to_string().starts_with("instance id "));
        assert_eq!(group_name("billing").unwrap().as_str(), "billing");
    }
}
