//! Deterministic state machines: a partition, its sequencer, and the cluster's metadata.
//!
//! Every replica of a Raft group feeds the same entries into the same machine and reaches the same
//! state. So nothing here does I/O, reads a clock, rolls dice or starts a task: time arrives as the
//! append time that the leader stamped into an entry, and every random choice arrives as an
//! argument of a command.
//!
//! Invariants:
//! - `apply` is a function of the machine and the entry alone.
//! - Equal machines encode to equal snapshots, byte for byte.
//! - Bytes that cannot be decoded are an error, never a panic.

mod codec;
pub mod group;
pub mod metadata;
pub mod partition;

pub use codec::DecodeError;
