//! What consumer and admin share about groups: calls to the group service, and committed offsets.

mod calls;
mod offset;

pub(crate) use calls::{Calls, check_count, client};
pub use offset::{CommittedOffset, OffsetCommit};

use tidelog_proto::v1;
use tidelog_types::{GroupName, TopicPartition};

use crate::settings::refuse;
use crate::{Entropy, Environment, Error};

/// Where answers come from, when any broker may have given them.
pub(crate) const ANY: &str = "any";

/// Checks the id of a group.
pub(crate) fn group_name(group: &str) -> Result<GroupName, Error> {
    GroupName::new(group).map_err(|error| refuse("group.id", group, error.to_string()))
}

/// A partition that an answer names.
pub(crate) fn partition(topic: &str, partition: u32) -> Result<TopicPartition, Error> {
    let wire = v1::TopicPartition { topic: topic.to_owned(), partition };
    TopicPartition::try_from(&wire).map_err(|error| Error::protocol(ANY, error.to_string()))
}

/// A UUID of version 4.
pub(crate) fn uuid(environment: &Environment) -> String {
    let random = |entropy: &dyn Entropy| u128::from(entropy.next());
    let high = random(&*environment.entropy);
    let bits = high << 64 | random(&*environment.entropy);
    let bits = bits & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        (bits >> 96) as u32,
        (bits >> 80) as u16,
        (bits >> 64) as u16,
        (bits >> 48) as u16,
        bits & 0xffff_ffff_ffff,
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn ids_are_uuids_of_version_4() {
        for (random, expected) in [
            (0, "00000000-0000-4000-8000-000000000000"),
            (u64::MAX, "ffffffff-ffff-4fff-bfff-ffffffffffff"),
        ] {
            let entropy = Arc::new(move || random);
            let environment = Environment { entropy, ..Environment::default() };
            assert_eq!(uuid(&environment), expected);
        }
    }
}
