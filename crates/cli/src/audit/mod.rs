//! Checks, from the client's side, that a cluster kept its promises to one run of producers.
//!
//! A run writes a [`Ledger`]: how many records each producer sent, every ack it got, what a complete
//! read found afterwards, and what other readers saw on the way. [`Ledger::check`] compares them and
//! gives a [`Verdict`]. Everything here is pure but [`file`], and knows records only by
//! [`RecordId`] and fingerprint: that is why it stays small enough to be trusted, and testable by
//! planting one fault at a time.
//!
//! What is checked (numbers as in the promises table of the README):
//! - P1: every acked record is read back;
//! - P2: at the acked offset, with the acked content, for every reader;
//! - P3: offsets are dense, and a send completed before another began has the smaller offset;
//! - P4: a producer's records in one partition, hence of one key, keep their order, and a key keeps
//!   its partition;
//! - P5, P6: whatever a reader saw on the way is still there, and it saw no hole and no repeat;
//! - P7: nothing is read twice. A record sent but not acked may be there once or not at all.

pub mod file;
mod ledger;
mod record;
mod rules;
#[cfg(test)]
mod tests;
mod verdict;

pub use ledger::Ledger;
pub use record::{Ack, Read, RecordId, fingerprint, mix};
pub use verdict::{EXAMPLES_MAX, Fault, Verdict};
