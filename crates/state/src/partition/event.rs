//! What a log entry means to a partition, and what comes of it.

use smallvec::SmallVec;
use tidelog_types::{Offset, Timestamp, batch};

use super::Command;

/// One committed entry, as the machine sees it.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The entry with which a leader begins its term.
    Blank,
    /// A change of the group's own membership; Raft keeps it, the machine does not.
    Membership,
    /// One or more record batches, stamped with their offsets.
    Records {
        /// Which sealed entry of its term this is, from zero; void entries are not counted.
        ordinal: u64,
        /// The offset of the entry's first record: the high watermark before it.
        base_offset: Offset,
        /// The ordinal was out of turn at append, so the entry takes no offset and has no effect.
        void: bool,
        /// The entry's effective append time.
        append_time: Timestamp,
        /// The headers of its batches, in order.
        batches: &'a [batch::Info],
    },
    /// A command of ours.
    Command {
        /// The entry's effective append time.
        append_time: Timestamp,
        /// What to do.
        command: Command,
    },
}

/// What an entry came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing that a proposer waits for.
    None,
    /// The batches are in the log for good.
    Appended {
        /// The offset of each batch's first record.
        base_offsets: SmallVec<[Offset; 1]>,
        /// The effective append time.
        append_time: Timestamp,
    },
    /// The entry was out of turn: nothing happened, send its batches again.
    Void,
    /// The log now starts here.
    Trimmed {
        /// The new log start.
        log_start: Offset,
    },
}
