//! The lines of a history, as they are written and read.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// When a call was made and when its answer was there: ticks of one monotonic clock that all recorders
/// share, such as microseconds of `CLOCK_MONOTONIC` on one machine. Written as `[invoke, complete]`.
///
/// Invariant of a well-formed history: `invoke <= complete`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct Span {
    /// Before the call was sent.
    pub invoke: u64,
    /// After its answer was read, or when it was given up.
    pub complete: u64,
}

impl From<(u64, u64)> for Span {
    fn from((invoke, complete): (u64, u64)) -> Self {
        Self { invoke, complete }
    }
}

impl From<Span> for (u64, u64) {
    fn from(span: Span) -> Self {
        (span.invoke, span.complete)
    }
}

/// One line of a history: an object with one field, the name of the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event<'a> {
    /// A record was acked.
    #[serde(borrow)]
    Produced(Produced<'a>),
    /// A member's first heartbeat was answered.
    #[serde(borrow)]
    Joined(Membership<'a>),
    /// Somebody learned that a membership is over: left, expired, or replaced by another member of the
    /// same instance.
    #[serde(borrow)]
    Ended(Membership<'a>),
    /// A member was told what it holds.
    #[serde(borrow)]
    Assigned(Assigned<'a>),
    /// A member acknowledged that it gave partitions up.
    #[serde(borrow)]
    Released(Released<'a>),
    /// A record was handed to the user of a member.
    #[serde(borrow)]
    Delivered(Delivered<'a>),
    /// A member went to another place of a partition, by the will of its user or because the record at
    /// its place was gone, and its user knows.
    #[serde(borrow)]
    Repositioned(Repositioned<'a>),
    /// A member sent an offset.
    #[serde(borrow)]
    Commit(Commit<'a>),
    /// A committed offset was read.
    #[serde(borrow)]
    Committed(Committed<'a>),
    /// A committed offset was set by the group's administrator.
    #[serde(borrow)]
    Seek(Seek<'a>),
}

/// Fields of [`Event::Produced`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Produced<'a> {
    /// When.
    pub at: Span,
    /// The topic.
    #[serde(borrow)]
    pub topic: Cow<'a, str>,
    /// The partition.
    pub partition: u32,
    /// Where the record lies.
    pub offset: u64,
    /// What the record is: a number of its own in the run.
    pub id: u64,
}

/// Fields of [`Event::Joined`] and [`Event::Ended`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership<'a> {
    /// When.
    pub at: Span,
    /// The group.
    #[serde(borrow)]
    pub group: Cow<'a, str>,
    /// The member.
    #[serde(borrow)]
    pub member: Cow<'a, str>,
}

/// Fields of [`Event::Assigned`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assigned<'a> {
    /// From the heartbeat to its answer.
    pub at: Span,
    /// The group.
    #[serde(borrow)]
    pub group: Cow<'a, str>,
    /// The member.
    #[serde(borrow)]
    pub member: Cow<'a, str>,
    /// The member's epoch.
    pub epoch: u32,
    /// Everything that it is to hold.
    #[serde(borrow)]
    pub partitions: Vec<Grant<'a>>,
}

/// A partition that a member holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant<'a> {
    /// The topic.
    #[serde(borrow)]
    pub topic: Cow<'a, str>,
    /// The partition.
    pub partition: u32,
    /// Epoch under which it was granted.
    pub granted: u32,
    /// The committed offset that was told with it; null when there was none.
    pub committed: Option<u64>,
}

/// Fields of [`Event::Released`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Released<'a> {
    /// From the acknowledging heartbeat to its answer.
    pub at: Span,
    /// The group.
    #[serde(borrow)]
    pub group: Cow<'a, str>,
    /// The member.
    #[serde(borrow)]
    pub member: Cow<'a, str>,
    /// What it gave up.
    #[serde(borrow)]
    pub partitions: Vec<GivenUp<'a>>,
}

/// A partition that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenUp<'a> {
    /// The topic.
    #[serde(borrow)]
    pub topic: Cow<'a, str>,
    /// The partition.
    pub partition: u32,
    /// Epoch under which it had been granted.
    pub granted: u32,
}

/// Fields of [`Event::Delivered`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivered<'a> {
    /// From the call that asked for a record to its return.
    pub at: Span,
    /// The group.
    #[serde(borrow)]
    pub group: Cow<'a, str>,
    /// The member.
    #[serde(borrow)]
    pub member: Cow<'a, str>,
    /// The topic.
    #[serde(borrow)]
    pub topic: Cow<'a, str>,
    /// The partition.
    pub partition: u32,
    /// Where the record lies.
    pub offset: u64,
    /// What it is, as in [`Produced::id`].
    pub id: u64,
    /// The grant under which it was fetched, where the recorder knows it; otherwise the newest that the
    /// member was told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<u32>,
}

/// Fields of [`Event::Repositioned`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repositioned<'a> {
    /// When.
    pub at: Span,
    /// The group.
    #[serde(borrow)]
    pub group: Cow<'a, str>,
    /// The member.
    #[serde(borrow)]
    pub member: Cow<'a, str>,
    /// The topic.
    #[serde(borrow)]
    pub topic: Cow<'a, str>,
    /// The partition.
    pub partition: u32,
    /// The next record that it is to get.
    pub offset: u64,
}

/// What became of a call that changes an offset. `T` is what an accepted one was answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome<T> {
    /// It took effect between invocation and completion.
    Accepted(T),
    /// It never takes effect.
    Refused,
    /// No answer: it may have taken effect, or may yet, or not at all.
    Unknown,
}

/// Fields of [`Event::Commit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit<'a> {
    /// When.
    pub at: Span,
    /// The group.
    #[serde(borrow)]
    pub group: Cow<'a, str>,
    /// The member.
    #[serde(borrow)]
    pub member: Cow<'a, str>,
    /// The epoch that the member sent.
    pub epoch: u32,
    /// The topic.
    #[serde(borrow)]
    pub topic: Cow<'a, str>,
    /// The partition.
    pub partition: u32,
    /// The first offset that is not done.
    pub offset: u64,
    /// Accepted: the offset that holds now, which may be a higher one.
    pub outcome: Outcome<u64>,
}

/// Fields of [`Event::Committed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Committed<'a> {
    /// When.
    pub at: Span,
    /// The group.
    #[serde(borrow)]
    pub group: Cow<'a, str>,
    /// The topic.
    #[serde(borrow)]
    pub topic: Cow<'a, str>,
    /// The partition.
    pub partition: u32,
    /// The offset; null when none is committed.
    pub offset: Option<u64>,
}

/// Fields of [`Event::Seek`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seek<'a> {
    /// When.
    pub at: Span,
    /// The group.
    #[serde(borrow)]
    pub group: Cow<'a, str>,
    /// The topic.
    #[serde(borrow)]
    pub topic: Cow<'a, str>,
    /// The partition.
    pub partition: u32,
    /// The first offset that is not done.
    pub offset: u64,
    /// Accepted: the offset that held before; null when there was none.
    pub outcome: Outcome<Option<u64>>,
}
