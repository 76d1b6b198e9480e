//! One group's log.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidelog_types::{GroupId, LogIndex, LogPosition, Offset, Timestamp};

use crate::cache::CacheBudget;
use crate::disk::Disk;
use crate::entry::{Entry, Header, NewEntry};
use crate::error::{Error, OpenError};
use crate::flusher::Flusher;
use crate::frontier::Frontier;
use crate::start::StartPoint;
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

/// One group's log on disk.
#[derive(Debug)]
pub struct Log {}

impl Log {
    /// Creates the log of a group and its vote record, durably. Blocks.
    ///
    /// With `start`, the log begins there, empty; without, at index 0. After a crash at any point
    /// it is either whole or not there at all.
    pub fn create(
        env: Env,
        group: GroupId,
        config: Config,
        start: Option<StartPoint>,
    ) -> Result<Arc<Self>, OpenError> {
        let _ = (env, group, config, start);
        todo!()
    }

    /// Opens the log of a group after a restart: recovers it, cuts a torn tail. Blocks.
    pub fn open(env: Env, group: GroupId, config: Config) -> Result<Opened, OpenError> {
        let _ = (env, group, config);
        todo!()
    }

    /// Deletes the log of a group, first from the votes, then from the disk. Blocks.
    ///
    /// The group's vote outlives it, marked as deleted: Raft must not forget one.
    pub fn delete(env: &Env, group: GroupId) -> Result<(), OpenError> {
        let _ = (env, group);
        todo!()
    }

    /// Appends entries: all of them or none. No I/O: they can be read from memory on return.
    ///
    /// `done` is called exactly once, after the fsync that covers them, in the order of appends;
    /// also when they are refused, or the log is poisoned, before this returns.
    pub fn append(&self, entries: Vec<NewEntry>, done: Done) -> Result<Vec<Header>, Error> {
        let _ = (entries, done);
        todo!()
    }

    /// Calls `done` once everything appended so far is on stable storage.
    pub fn after_flush(&self, done: Done) {
        let _ = done;
        todo!()
    }

    /// Removes all entries behind `last`, or all with `None`, durably. Blocks.
    ///
    /// Flushes what is pending first, so that every completion is called.
    pub fn truncate_after(&self, last: Option<LogIndex>) -> Result<(), Error> {
        let _ = last;
        todo!()
    }

    /// Deletes the segments whose entries are all at or below `upto` and whose successor has its
    /// start point on disk. Keeps the last segment. Blocks.
    pub fn purge(&self, upto: LogIndex) -> Result<(), Error> {
        let _ = upto;
        todo!()
    }

    /// Empties the log, which then begins at `start`, after a snapshot was installed. Blocks.
    ///
    /// After a crash it is either the old log or the new one.
    pub fn reset(&self, start: StartPoint) -> Result<(), Error> {
        let _ = start;
        todo!()
    }

    /// What the whole log determines, unflushed entries included.
    #[must_use]
    pub fn frontier(&self) -> Frontier {
        todo!()
    }

    /// The index of the first entry that is retained, or that the empty log will hold.
    #[must_use]
    pub fn first_index(&self) -> LogIndex {
        todo!()
    }

    /// The last entry, or the one before the empty log.
    #[must_use]
    pub fn last(&self) -> Option<LogPosition> {
        self.frontier().last
    }

    /// The entry right before the first one that is retained; `None` at index 0.
    #[must_use]
    pub fn purged(&self) -> Option<LogPosition> {
        todo!()
    }

    /// The first offset that is retained.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        todo!()
    }

    /// The first offset that is not on stable storage.
    #[must_use]
    pub fn written_end(&self) -> Offset {
        todo!()
    }

    /// The first index that is not on stable storage.
    #[must_use]
    pub fn synced_end(&self) -> LogIndex {
        todo!()
    }

    /// Has `listener` called after each flush.
    pub fn on_written(&self, listener: Listener) {
        let _ = listener;
        todo!()
    }

    /// The term and index of an entry, or of the one before the first; `None` when the log does
    /// not hold it. May block.
    pub fn position_of(&self, index: LogIndex) -> Result<Option<LogPosition>, Error> {
        let _ = index;
        todo!()
    }

    /// Entries from memory; never blocks. At least one, then up to `bytes_max` bytes of bodies.
    /// `None` when the first is not in memory.
    #[must_use]
    pub fn in_memory(&self, range: Range<LogIndex>, bytes_max: usize) -> Option<Vec<Entry>> {
        let _ = (range, bytes_max);
        todo!()
    }

    /// Entries from memory, or from disk, checked, with their bodies left there. May block.
    ///
    /// At least one if the range holds any, then up to `bytes_max` bytes of bodies.
    pub fn entries(&self, range: Range<LogIndex>, bytes_max: usize) -> Result<Vec<Entry>, Error> {
        let _ = (range, bytes_max);
        todo!()
    }

    /// [`Log::entries`] with all bodies in memory, in one pass over the disk. May block.
    pub fn load(&self, range: Range<LogIndex>, bytes_max: usize) -> Result<Vec<Entry>, Error> {
        let _ = (range, bytes_max);
        todo!()
    }

    /// Whole batches from `from`, below `until` and [`Log::written_end`]. May block.
    ///
    /// At least one if there is any, then up to `bytes_max` bytes. The first may begin below `from`.
    pub fn read(&self, from: Offset, until: Offset, bytes_max: usize) -> Result<Read, Error> {
        let _ = (from, until, bytes_max);
        todo!()
    }

    /// The first batch below `until` with a timestamp at or after `timestamp`: its offset and
    /// newest timestamp. Blocks.
    pub fn offset_at(
        &self,
        timestamp: Timestamp,
        until: Offset,
    ) -> Result<Option<(Offset, Timestamp)>, Error> {
        let _ = (timestamp, until);
        todo!()
    }

    /// Whether `index` begins a segment that needs a start point and has none: apply hands one
    /// over with [`Log::put_start`] *before* it applies this entry.
    #[must_use]
    pub fn starts_at(&self, index: LogIndex) -> bool {
        let _ = index;
        todo!()
    }

    /// Takes the start point of a segment. A flush job writes it, once the segment is on disk.
    pub fn put_start(&self, start: StartPoint) {
        let _ = start;
        todo!()
    }

    /// The newest start point on disk. Blocks.
    pub fn newest_start(&self) -> Result<Option<StartPoint>, Error> {
        todo!()
    }

    /// The start point of the first segment that is retained; `None` at index 0. Blocks.
    pub fn oldest_start(&self) -> Result<Option<StartPoint>, Error> {
        todo!()
    }

    /// The entry before the newest start point on disk: everything up to it was applied, so was
    /// committed. Memory only.
    #[must_use]
    pub fn newest_start_position(&self) -> Option<LogPosition> {
        todo!()
    }

    /// The offset up to which whole closed segments may be trimmed at `now`: those whose newest
    /// append time is older than `retention`, and the oldest ones while all together hold more
    /// than `bytes`.
    #[must_use]
    pub fn retention(
        &self,
        now: Timestamp,
        retention: Option<Duration>,
        bytes: Option<u64>,
    ) -> Option<Offset> {
        let _ = (now, retention, bytes);
        todo!()
    }

    /// The segments, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        todo!()
    }

    /// The bytes of all segment files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        todo!()
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> GroupId {
        todo!()
    }

    /// The failure that poisoned the log, if one did.
    #[must_use]
    pub fn poisoned(&self) -> Option<Arc<io::Error>> {
        todo!()
    }

    pub(crate) fn evict(&self, _end: LogIndex) {
        todo!()
    }
}
