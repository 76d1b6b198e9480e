//! What goes into a sequencer and what comes out.

use std::fmt;

use tidelog_types::{ErrorCode, LogPosition, Offset, Term, Timestamp};

use super::Outcome;

/// Names a batch that the sequencer let in, until it is answered. Tickets ascend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What becomes of an offered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes into the entry that the next [`Sequencer::seal`](super::Sequencer::seal) closes, after those before it.
    Append {
        /// Its name in the answers.
        ticket: Ticket,
    },
    /// It was appended before: answer with that.
    Duplicate {
        /// The offset of its first record.
        base_offset: Offset,
        /// When it was appended.
        append_time: Timestamp,
    },
    /// The same batch is on its way: wait for its answer.
    InFlight {
        /// The ticket of the first send.
        ticket: Ticket,
    },
    /// The sequencer takes nothing now: offer it again after [`Sequencer::restart`](super::Sequencer::restart), or answer
    /// `NOT_LEADER` when the state is [`State::Ended`].
    Hold,
    /// It may not be appended.
    Reject(ErrorCode),
}

/// A closed entry, ready to be proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Goes into the entry.
    pub ordinal: u64,
    /// Goes into the entry.
    pub append_time: Timestamp,
    /// How many batches it holds: all that were let in since the last seal, in order.
    pub batches: usize,
}

/// How a proposed entry ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// It was applied: [`Outcome::Appended`] or [`Outcome::Void`].
    Applied(Outcome),
    /// It certainly never entered the log, and never will.
    Refused,
    /// Unknown: leadership or the group is lost, and the entry may or may not be in the log.
    Lost,
}

/// What to tell the sender of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is in the log for good.
    Appended {
        /// The offset of its first record.
        base_offset: Offset,
        /// When it was appended.
        append_time: Timestamp,
    },
    /// It was not written: offer it again after the restart, in the order of the tickets, or tell
    /// the sender to retry.
    Again,
    /// It may have been written; the sender's retry will tell.
    Unknown,
}

/// The answer to one batch, and to every resend that waits for its ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchAnswer {
    /// Which batch.
    pub ticket: Ticket,
    /// What became of it.
    pub answer: Answer,
}

/// Whether the sequencer takes batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Running,
    /// Not until everything on its way has ended.
    Draining,
    /// Everything has ended: [`Sequencer::restart`](super::Sequencer::restart) is due.
    Drained,
    /// Never again; the next term has its own sequencer.
    Ended,
}

/// Why a sequencer cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The leader's own blank entry is not applied yet, or a later term has begun.
    OtherTerm {
        /// The sequencer's term.
        term: Term,
        /// The last applied entry.
        applied: Option<LogPosition>,
    },
    /// An entry that was settled as refused has been applied after all.
    OtherOrdinal {
        /// The ordinal after the settled entries.
        expected: u64,
        /// The ordinal after the applied ones.
        applied: u64,
    },
    /// Entries are still on their way.
    NotDrained,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherTerm { term, applied: Some(applied) } => {
                write!(f, "sequencer of term {term} cannot start, last applied is {applied}")
            }
            Self::OtherTerm { term, applied: None } => {
                write!(f, "sequencer of term {term} cannot start, nothing is applied")
            }
            Self::OtherOrdinal { expected, applied } => {
                write!(f, "next ordinal is {expected} by answers and {applied} by the log")
            }
            Self::NotDrained => f.write_str("entries are still on their way"),
        }
    }
}

impl std::error::Error for StartError {}
