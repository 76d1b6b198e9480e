//! One partition: what its replicas agree on, and how its leader puts batches in order.
//!
//! [`Machine`] runs on every replica and follows the log. [`Sequencer`] runs on the leader only and
//! decides which batches may enter the log. Both use the same table of producers, so that what the
//! leader lets in is what every replica remembers.

mod command;
mod compaction;
mod decision;
mod epochs;
mod event;
mod machine;
mod overlay;
mod producers;
#[cfg(test)]
mod room_tests;
mod sequencer;
mod snapshot;
#[cfg(test)]
mod test_batch;
mod time_guard;

pub use command::Command;
pub use compaction::{Closed, Compaction, CompactionPolicy, Goal, Mature};
pub use decision::{Answer, BatchAnswer, Decision, Sealed, Settlement, StartError, State, Ticket};
pub use event::{Event, Outcome};
pub use machine::Machine;
pub use producers::{BATCHES_REMEMBERED, PRODUCER_EXPIRY_MS, PRODUCER_KEPT_MS_MIN, PRODUCERS_MAX};
pub use sequencer::Sequencer;
pub use snapshot::VERSION as SNAPSHOT_VERSION;
pub use time_guard::{CLOCK_STEP_MS_MAX, ClockJump};
