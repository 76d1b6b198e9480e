//! What a log is given, and what it gives back.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tidelog_types::{LogIndex, Offset, Timestamp};

use crate::cache::CacheBudget;
use crate::disk::Disk;
use crate::flusher::Flusher;
use crate::log::Log;
use crate::votes::VotesLog;

/// Told once that what it stands for is on stable storage, or never will be.
///
/// It runs on a flusher thread, or on the caller's, under the log's flush lock: it may append and
/// look things up, but must neither block nor truncate, purge or reset.
pub type Done = Box<dyn FnOnce(Result<(), Arc<io::Error>>) + Send>;

/// Told after each flush. The rules of [`Done`] hold.
pub type Listener = Arc<dyn Fn() + Send + Sync>;

/// Where generations of segment files come from: random numbers in the product, a seed in tests.
pub type Generations = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What a log needs from its node.
#[derive(Clone)]
pub struct Env {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The data directory, which exists.
    pub data: PathBuf,
    /// The node's votes, with the durable marks.
    pub votes: Arc<VotesLog>,
    /// Who runs the flush jobs.
    pub flusher: Arc<dyn Flusher>,
    /// Where generations of segment files come from.
    pub generations: Generations,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").field("data", &self.data).finish_non_exhaustive()
    }
}

/// How a log is kept.
#[derive(Clone, Debug)]
pub struct Config {
    /// A segment is closed before it grows over this. Default 64 MiB. Smaller: more files and
    /// start points; larger: retention is coarser and a restart reads more.
    pub segment_bytes: u64,
    /// An index point every so many bytes. Default 4 KiB. Smaller: larger index files; larger:
    /// each cold look-up reads more.
    pub index_every_bytes: u64,
    /// The largest body of an entry. Default 16 MiB.
    pub entry_bytes_max: u32,
    /// The node's budget for tails in memory.
    pub cache: Arc<CacheBudget>,
}

impl Config {
    /// The defaults, over a node's cache budget.
    #[must_use]
    pub const fn new(cache: Arc<CacheBudget>) -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            index_every_bytes: 4096,
            entry_bytes_max: 16 * 1024 * 1024,
            cache,
        }
    }
}

/// A log that was opened, and what its recovery met.
#[derive(Debug)]
pub struct Opened {
    /// The log.
    pub log: Arc<Log>,
    /// Bytes of a torn tail that were cut: written before a crash, never acknowledged.
    pub torn_bytes: u64,
    /// Start points that were damaged and are derived again; an older one took their place.
    pub starts_ignored: Vec<LogIndex>,
}

/// What [`Log::read`] found.
#[derive(Clone, Debug)]
pub struct Read {
    /// Whole batches, stamped, in order, without a hole between them.
    pub batches: Vec<Bytes>,
    /// The offset to go on from.
    pub next: Offset,
}

/// A segment, for describing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its first index.
    pub first_index: LogIndex,
    /// The index after its last entry.
    pub end_index: LogIndex,
    /// Its first offset.
    pub base_offset: Offset,
    /// The offset after its last record.
    pub end_offset: Offset,
    /// The length of its file.
    pub bytes: u64,
    /// The newest append time in it or before it.
    pub append_time: Timestamp,
    /// Whether its start point is on disk; the segment at index 0 needs none.
    pub started: bool,
}
