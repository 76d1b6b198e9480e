//! One Raft group's log on disk, and the votes of all groups of a node.
//!
//! The log of a partition *is* the record log: entries carry whole record batches, every replica
//! derives offsets from the log prefix ([`Frontier`]), and a batch lies on disk as the producer
//! encoded it, its head stamped.
//!
//! What stands where:
//! - [`disk`]: the [`Disk`](disk::Disk) trait, the real disk and the lock of the data directory.
//! - [`sim`]: a disk in memory that loses power, tears writes, fails and rots on demand.
//! - [`Log`]: one group's segments: append, flush, read, truncate, purge, reset, recovery; [`Scrub`]
//!   finds what has rotted, [`Mending`] and [`Salvaged`] are the ways back.
//! - [`votes`]: the node's votes, commits and durable marks, in one file.
//! - [`flusher`]: who runs the flush jobs.
//! - [`dump`]: reads a segment offline, for people.
//!
//! Invariants, above all what is deliberately absent:
//! - No clock, no randomness, no runtime: times and generations are arguments.
//! - `append` does no I/O. No lock is held across I/O, except a log's own flush lock.
//! - A completion is called after the fsync that covers it, in the order of the appends.
//! - The first failed write or fsync poisons a log or the votes: nothing is ever retried. A full disk
//!   alone is waited out, see [`Room`].
//! - Every byte that is served was checked against a CRC after it came from the disk.

pub mod cache;
pub mod disk;
pub mod dump;
mod entry;
mod envelope;
mod error;
pub mod flusher;
pub mod formats;
mod frontier;
mod log;
mod room;
mod segment;
pub mod sim;
mod start;
mod stats;
pub mod votes;
mod wire;

pub use cache::CacheBudget;
pub use entry::{Body, Entry, Header, Kind, NewEntry};
pub use envelope::Part;
pub use error::{Error, ErrorKind, OpenError};
pub use frontier::Frontier;
pub use log::{
    CompactLimits, CompactReport, CompactStep, Compacted, Compaction, Config, Damage, DamagedFile,
    Done, Env, Generations, Listener, Log, Mending, Opened, Read, Salvaged, Scrub, Scrubbed,
    SegmentInfo,
};
pub use room::Room;
pub use segment::SegmentSlice;
pub use start::{MalformedStart, StartPoint};
pub use stats::Stats;
pub use votes::{GroupRecord, Vote, VotesLog};
