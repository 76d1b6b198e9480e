//! Records on their way through stdin and stdout.

mod format;
mod json;
mod lines;

pub(crate) use format::Template;
pub(crate) use json::{parse, parse_consumed, write};
pub(crate) use lines::{LINE_BYTES_MAX, read_line};

use bytes::Bytes;
use tidelog_types::{Offset, PartitionId, Timestamp, TopicName};

/// The parts of a record that its producer decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// The key; `None` is no key, which is not the empty one.
    pub(crate) key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub(crate) value: Option<Bytes>,
    /// The headers in order. Names may repeat.
    pub(crate) headers: Vec<(String, Option<Bytes>)>,
}

/// A record to produce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Input {
    /// What it holds.
    pub(crate) content: Content,
    /// The partition, if it is given.
    pub(crate) partition: Option<PartitionId>,
    /// The time, if it is given.
    pub(crate) timestamp: Option<Timestamp>,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consumed {
    /// Its topic.
    pub(crate) topic: TopicName,
    /// Its partition.
    pub(crate) partition: PartitionId,
    /// Its offset.
    pub(crate) offset: Offset,
    /// Its time.
    pub(crate) timestamp: Timestamp,
    /// What it holds.
    pub(crate) content: Content,
}
