//! Committed offsets.

use tidelog_types::{Offset, Timestamp};

/// The most bytes of metadata beside an offset, as in Kafka.
pub const OFFSET_METADATA_BYTES_MAX: usize = 4_096;

/// How far a partition is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The first offset that is not done.
    pub offset: Offset,
    /// Leader epoch of the record before it, if known.
    pub leader_epoch: Option<i32>,
    /// Whatever the committer wanted to keep.
    pub metadata: String,
    /// When it was committed, by the log's time.
    pub time: Timestamp,
}
