//! How far partitions are done: as it is committed, and as it is read back.

use tidelog_proto::v1;
use tidelog_types::{Offset, Timestamp, TopicPartition};

use super::ANY;
use crate::Error;

/// How far a partition is done, to be committed.
///
/// ```
/// use tidelog_client::{Offset, OffsetCommit};
///
/// let commit = OffsetCommit::new(Offset(42)).metadata("nightly run");
/// assert_eq!(commit.offset, Offset(42));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffsetCommit {
    /// The first offset that is not done.
    pub offset: Offset,
    /// Leader epoch of the record before it, if known.
    pub leader_epoch: Option<i32>,
    /// Whatever is to be kept beside it; at most 4,096 bytes.
    pub metadata: String,
}

impl OffsetCommit {
    /// Everything before `offset` is done.
    #[must_use]
    pub fn new(offset: Offset) -> Self {
        Self { offset, leader_epoch: None, metadata: String::new() }
    }

    /// Keeps `metadata` beside the offset.
    #[must_use]
    pub fn metadata(mut self, metadata: impl Into<String>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// Says of which leader epoch the record before the offset is.
    #[must_use]
    pub fn leader_epoch(mut self, epoch: i32) -> Self {
        self.leader_epoch = Some(epoch);
        self
    }

    pub(crate) fn wire(&self, partition: &TopicPartition, topic_id: &str) -> v1::OffsetCommit {
        v1::OffsetCommit {
            topic: partition.topic.to_string(),
            partition: partition.partition.0,
            offset: self.offset.to_wire(),
            leader_epoch: self.leader_epoch,
            metadata: self.metadata.clone(),
            topic_id: topic_id.to_owned(),
        }
    }
}

impl From<Offset> for OffsetCommit {
    fn from(offset: Offset) -> Self {
        Self::new(offset)
    }
}

/// How far a partition is done, as it was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommittedOffset {
    /// The first offset that is not done.
    pub offset: Offset,
    /// Leader epoch of the record before it, if the committer knew it.
    pub leader_epoch: Option<i32>,
    /// What the committer kept beside it.
    pub metadata: String,
    /// When it was committed, by the coordinator's clock.
    pub committed: Timestamp,
}

impl CommittedOffset {
    pub(crate) fn read(committed: v1::CommittedOffset) -> Result<Self, Error> {
        let v1::CommittedOffset { offset, leader_epoch, metadata, commit_time_ms } = committed;
        let reason = || Error::protocol(ANY, format!("committed offset {offset}"));
        Ok(Self {
            offset: Offset::from_wire(offset).ok_or_else(reason)?,
            leader_epoch: (leader_epoch >= 0).then_some(leader_epoch),
            metadata,
            committed: Timestamp(commit_time_ms),
        })
    }
}
