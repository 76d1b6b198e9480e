//! What an audit found.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many faults a verdict describes in words; the rest is only counted.
pub const EXAMPLES_MAX: usize = 20;

/// The kinds of broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Acked, and not in the log any more.
    Lost,
    /// In the log more than once.
    Duplicated,
    /// Behind a record that was sent after it.
    OutOfOrder,
    /// Not what was sent, or not at the offset that was acked.
    Changed,
    /// An offset that no record has, or that a reader met twice.
    Gap,
    /// In the log, and never sent.
    Invented,
    /// Shown to a reader, and not there later.
    Retracted,
}

/// The outcome of an audit: counts of records, counts of faults, and the first faults in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Records given to producers.
    pub sent: u64,
    /// Records acknowledged.
    pub acked: u64,
    /// Records read back.
    pub read: u64,
    /// Records read back that no ack names: allowed, each at most once.
    pub unacked_stored: u64,
    /// Acked records that were not read back.
    pub lost: u64,
    /// Records beyond the first of each id.
    pub duplicated: u64,
    /// Records behind one that was sent after them.
    pub out_of_order: u64,
    /// Records whose content or offset is not the acked one.
    pub changed: u64,
    /// Offsets skipped or met twice in one read.
    pub gaps: u64,
    /// Records that nobody sent.
    pub invented: u64,
    /// Records that a reader saw and that are gone or different.
    pub retracted: u64,
    /// The first faults, one sentence each, at most [`EXAMPLES_MAX`].
    pub examples: Vec<String>,
}

impl Verdict {
    /// Whether every promise was kept.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.faults() == 0
    }

    /// The number of faults of all kinds.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.lost
            + self.duplicated
            + self.out_of_order
            + self.changed
            + self.gaps
            + self.invented
            + self.retracted
    }

    /// Counts `count` faults of one kind, described by `sentence`.
    pub(super) fn blame(&mut self, fault: Fault, count: u64, sentence: impl FnOnce() -> String) {
        *self.counter(fault) += count;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(sentence());
        }
    }

    fn counter(&mut self, fault: Fault) -> &mut u64 {
        match fault {
            Fault::Lost => &mut self.lost,
            Fault::Duplicated => &mut self.duplicated,
            Fault::OutOfOrder => &mut self.out_of_order,
            Fault::Changed => &mut self.changed,
            Fault::Gap => &mut self.gaps,
            Fault::Invented => &mut self.invented,
            Fault::Retracted => &mut self.retracted,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sent {} acked {} read {} lost {} duplicated {} out of order {} changed {} gaps {} \
             invented {} retracted {}",
            self.sent,
            self.acked,
            self.read,
            self.lost,
            self.duplicated,
            self.out_of_order,
            self.changed,
            self.gaps,
            self.invented,
            self.retracted,
        )?;
        self.examples.iter().try_for_each(|example| write!(f, "\n  {example}"))
    }
}
