//! What consumer and admin share about groups: calls to the group service, and committed offsets.

mod calls;
mod offset;

pub(crate) use calls::{Calls, check_count, client};
pub use offset::{CommittedOffset, OffsetCommit};

use tidelog_proto::v1;
use tidelog_types::{GroupName, TopicPartition};

use crate::Error;
use crate::settings::refuse;

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
