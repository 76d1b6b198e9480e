//! Raft: many groups per node over openraft, [`tidelog_log`] and [`tidelog_state`].
//!
//! The Raft log of a partition *is* its record log: one copy of the bytes, one write. This crate
//! alone names openraft; nothing of it shows outside.
//!
//! The way of a batch: [`Partition::enqueue`] -> `sequencing` (the only proposer of its partition)
//! -> the engine -> `store::log_store` and, through `link`, the followers' -> committed ->
//! `store::applier` -> back to `sequencing`, which answers.
//!
//! Invariants, above all what is deliberately absent:
//! - No read trusts a lease or a clock: linearizable reads ask a quorum (ReadIndex).
//! - An ack is given only after a quorum's fsync: the engine counts a replica once its flusher says
//!   so, and a vote is saved only after everything appended before it is on disk.
//! - A node never comes back under its id with less than it had: a damaged or half missing replica
//!   stays out ([`Error::Quarantined`]) until all that its leader holds is back ([`Node::refill`]).

mod clock;
mod commands;
mod config;
mod coordinator;
mod environment;
mod executor;
mod fence;
mod formation;
mod latest;
mod leadership;
mod link;
mod members;
mod membership;
mod metadata;
#[cfg(test)]
mod mutated;
mod node;
mod pace;
mod partition;
mod peers;
mod quiescence;
mod replica;
mod sequencing;
mod sources;
mod space;
mod store;

pub use clock::{Clock, SystemClock};
pub use commands::CommandError;
pub use coordinator::Coordinator;
pub use environment::{Environment, NodeConfig};
pub use executor::{Executor, InlineExecutor, Job, ThreadExecutor};
pub use formation::{Introduction, introduce};
pub use leadership::{Leadership, Role};
pub use link::connector::{BoxedIo, Connector, Dial, Io, TcpConnector};
pub use link::peer::PeerStatus;
pub use link::server::{Introduce, RaftServer};
pub use members::{MemberError, MemberStep, Target};
pub use metadata::Metadata;
pub use node::{
    COMPACT_INFLATE_BYTES_MAX, Compacting, Error, Founding, Node, RecoverError, Refilled,
    RepairError, ScrubReport, Scrubbing, Standing, Stats, SteppedOut, Turn,
};
pub use partition::{Partition, PartitionConfig, PendingAppend, ReadError, TransferError, View};
pub use replica::RaftStatus;
pub use sequencing::{Appended, ProposeError};
pub use sources::with_sources;
pub use space::DiskSpace;
pub use store::machines::Progress;
pub use tidelog_log::Read;
