//! Consumer groups: members, what they hold, and how far they are.
//!
//! Coordinators are Raft groups; each holds the consumer groups whose names hash to it. The machine
//! decides everything when a command is applied, the assignment included, so that a new leader goes on
//! without asking anybody. See docs/adr/0006.
//!
//! ```text
//! join, leave, expire, resolve ─> target (who should hold what)
//!                                   │ differs from the holder
//!                                   v
//!   held ──> revoking ──> free ──> held by the next, under a new epoch
//!                  acknowledge
//! ```

mod assignor;
mod command;
mod group;
mod machine;
mod member;
mod offsets;
mod outcome;
mod reconcile;
mod snapshot;

pub use assignor::assign;
pub use command::{Command, Committer, Join, OffsetChange, Topics};
pub use group::{Group, State};
pub use machine::{Applied, Machine};
pub use member::{Holding, Member, Subscription};
pub use offsets::{Committed, OFFSET_METADATA_BYTES_MAX};
pub use outcome::{Outcome, Refusal};
