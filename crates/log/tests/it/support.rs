//! A node with one group on a simulated disk, and entries to put into its log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};
use tidelog_log::disk::Disk;
use tidelog_log::flusher::{Flusher, InlineFlusher, StepFlusher};
use tidelog_log::sim::SimDisk;
use tidelog_log::{
    CacheBudget, CompactLimits, CompactReport, CompactStep, Compacted, Compaction, Config, Done,
    Entry, Env, Frontier, Kind, Log, NewEntry, OpenError, Opened, StartPoint, VotesLog,
};
use tidelog_types::batch::{Builder, Codec, NewRecord};
use tidelog_types::{
    GroupId, LogIndex, LogPosition, NodeId, Offset, PartitionId, Term, Timestamp, TopicId,
};

pub(crate) const NODE: NodeId = NodeId::new(1, 1);

pub(crate) fn group() -> GroupId {
    GroupId::new(TopicId(0xabcd_0000_0000_4000_8000_0000_0000_0001), PartitionId(3))
}

pub(crate) fn data() -> PathBuf {
    PathBuf::from("/data")
}

pub(crate) fn dir() -> PathBuf {
    data().join(group().to_string())
}

/// The path of a file of the group's log.
pub(crate) fn path(first_index: u64, extension: &str) -> PathBuf {
    dir().join(format!("{first_index:020}.{extension}"))
}

/// A node: what a process builds when it starts.
pub(crate) struct Node {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) env: Env,
    pub(crate) config: Config,
    pub(crate) steps: Option<Arc<StepFlusher>>,
}

impl Node {
    /// Starts a node whose flushes run at once.
    pub(crate) fn start(disk: &SimDisk) -> Self {
        Self::with(Arc::new(disk.clone()), data(), Arc::new(InlineFlusher::default()), None)
            .expect("votes open")
    }

    /// Starts a node whose flushes run when told to.
    pub(crate) fn stepped(disk: &SimDisk) -> Self {
        let steps = Arc::new(StepFlusher::default());
        Self::with(Arc::new(disk.clone()), data(), Arc::clone(&steps) as _, Some(steps))
            .expect("votes open")
    }

    pub(crate) fn with(
        disk: Arc<dyn Disk>,
        data: PathBuf,
        flusher: Arc<dyn Flusher>,
        steps: Option<Arc<StepFlusher>>,
    ) -> Result<Self, OpenError> {
        make_dir(&*disk, &data);
        let votes =
            VotesLog::open(Arc::clone(&disk), data.join("votes.log"), Arc::clone(&flusher), NODE)?;
        let next = AtomicU64::new(1);
        let generations = Arc::new(move || 0x5eed_0000 + next.fetch_add(1, Ordering::Relaxed));
        let env = Env { disk: Arc::clone(&disk), data, votes, flusher, generations };
        let config = Config {
            segment_bytes: 2048,
            index_every_bytes: 256,
            ..Config::new(Arc::new(CacheBudget::new(1 << 20)))
        };
        Ok(Self { disk, env, config, steps })
    }

    pub(crate) fn segment_bytes(mut self, bytes: u64) -> Self {
        self.config.segment_bytes = bytes;
        self
    }

    pub(crate) fn cache_bytes(mut self, bytes: u64) -> Self {
        self.config.cache = Arc::new(CacheBudget::new(bytes));
        self
    }

    pub(crate) fn create(&self) -> Arc<Log> {
        Log::create(self.env.clone(), group(), self.config.clone(), None).expect("log is created")
    }

    pub(crate) fn open(&self) -> Opened {
        self.try_open().expect("log opens")
    }

    pub(crate) fn try_open(&self) -> Result<Opened, OpenError> {
        Log::open(self.env.clone(), group(), self.config.clone())
    }

    pub(crate) fn step(&self) {
        self.steps.as_ref().expect("a stepped node").run();
    }
}

fn make_dir(disk: &dyn Disk, data: &Path) {
    match disk.create_dir(data) {
        Ok(()) => disk.sync_dir(data.parent().expect("data has a parent")).expect("sync"),
        Err(err) => assert_eq!(err.kind(), io::ErrorKind::AlreadyExists),
    }
}

/// A completion that remembers what it was told.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Vec<Result<(), String>>>>);

impl Told {
    pub(crate) fn done(&self) -> Done {
        let told = Arc::clone(&self.0);
        Box::new(move |result| {
            told.lock().unwrap().push(result.map_err(|err| err.to_string()));
        })
    }

    pub(crate) fn all(&self) -> Vec<Result<(), String>> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn ok(&self) -> usize {
        self.all().iter().filter(|result| result.is_ok()).count()
    }

    pub(crate) fn failed(&self) -> usize {
        self.all().iter().filter(|result| result.is_err()).count()
    }
}

/// A completion that must succeed.
pub(crate) fn sure() -> Done {
    Box::new(|result| result.expect("flush succeeds"))
}

/// A completion that nobody waits for.
pub(crate) fn any() -> Done {
    Box::new(|_| {})
}

/// A batch of `count` records with values of `bytes` bytes, from `timestamp` on.
pub(crate) fn batch(count: u32, bytes: usize, timestamp: i64) -> Bytes {
    let mut builder = Builder::new();
    for n in 0..count {
        let value: Vec<u8> = (0..bytes).map(|b| (b as u32 ^ n ^ timestamp as u32) as u8).collect();
        let record = NewRecord {
            key: Some(b"key"),
            value: Some(&value),
            headers: &[],
            timestamp: Timestamp(timestamp + i64::from(n)),
        };
        builder.push(&record).expect("record fits");
    }
    builder.finish(Codec::None, None).expect("batch is built")
}

pub(crate) fn at(term: u64, index: u64) -> LogPosition {
    LogPosition { term: Term(term), index: LogIndex(index) }
}

pub(crate) fn blank(term: u64, index: u64) -> NewEntry {
    entry(term, index, Kind::Blank, 0, smallvec![])
}

pub(crate) fn command(term: u64, index: u64, body: &'static [u8]) -> NewEntry {
    entry(term, index, Kind::Command, 0, smallvec![Bytes::from_static(body)])
}

pub(crate) fn records(term: u64, index: u64, ordinal: u64, batches: &[Bytes]) -> NewEntry {
    entry(term, index, Kind::Records, ordinal, batches.iter().cloned().collect())
}

fn entry(term: u64, index: u64, kind: Kind, ordinal: u64, body: SmallVec<[Bytes; 1]>) -> NewEntry {
    NewEntry {
        position: at(term, index),
        kind,
        append_time: Timestamp(1_000_000 + index as i64),
        ordinal,
        body,
        expect_chain: None,
        original: None,
    }
}

/// The next entry of a log with one batch of `count` records.
pub(crate) fn next_records(frontier: &Frontier, term: u64, count: u32, bytes: usize) -> NewEntry {
    let index = frontier.next_index().0;
    let ordinal = if frontier.ordinal_term == Term(term) { frontier.ordinal_next } else { 0 };
    records(term, index, ordinal, &[batch(count, bytes, 1_000_000 + index as i64 * 10)])
}

/// Appends `count` entries of records, each on its own.
pub(crate) fn fill(log: &Log, term: u64, count: usize) {
    for _ in 0..count {
        let entry = next_records(&log.frontier(), term, 2, 100);
        log.append(vec![entry], sure()).expect("append");
    }
}

/// All that a log holds, every body loaded and checked.
pub(crate) fn contents(log: &Log) -> Vec<(LogPosition, u32, Vec<Bytes>)> {
    all(log)
        .into_iter()
        .map(|entry| {
            let body = entry.body.load().expect("body loads");
            let unstamped = body.iter().map(|part| match entry.header.kind {
                Kind::Records => part.slice(16..),
                _ => part.clone(),
            });
            (entry.header.position, entry.header.chain, unstamped.collect())
        })
        .collect()
}

pub(crate) fn all(log: &Log) -> Vec<Entry> {
    let mut out: Vec<Entry> = Vec::new();
    let end = log.frontier().next_index();
    let mut from = log.first_index();
    while from < end {
        let entries = log.entries(from..end, 1000).expect("entries");
        assert!(!entries.is_empty(), "entries from {from} to {end}");
        out.extend(entries);
        from = out[out.len() - 1].header.position.index.next();
    }
    out
}

/// Reads all records by offset; checks that the batches follow one another.
pub(crate) fn read_all(log: &Log) -> Vec<Bytes> {
    let mut out = Vec::new();
    let mut from = log.log_start();
    let end = log.written_end();
    while from < end {
        let read = log.read(from, end, 500).expect("read");
        assert!(!read.batches.is_empty(), "read from {from} to {end}");
        for bytes in read.batches {
            let info = tidelog_types::batch::Info::read(&bytes).expect("batch");
            tidelog_types::batch::verify_crc(&bytes).expect("batch CRC");
            assert_eq!(info.base_offset, from, "no hole");
            from = info.next_offset();
            out.push(bytes);
        }
        assert_eq!(read.next, from);
    }
    out
}

/// What a compaction may use where nothing is to be short.
pub(crate) const LIMITS: CompactLimits =
    CompactLimits { keys_bytes_max: 1 << 20, inflate_bytes_max: 1 << 20 };

/// Compacts a log to `goal`, in small steps.
pub(crate) fn compact(log: &Arc<Log>, goal: Compacted) -> CompactReport {
    let mut pass = Compaction::new(Arc::clone(log), goal, LIMITS);
    loop {
        if let CompactStep::Over(report) = pass.step(700).expect("compaction goes on") {
            return report;
        }
    }
}

pub(crate) fn start_at(log: &Log, index: LogIndex) -> StartPoint {
    let frontier = match index.previous() {
        None => Frontier::default(),
        Some(last) => log.entries(last..index, 0).expect("entry before")[0].header.frontier(),
    };
    StartPoint { index, frontier, machine: Bytes::from(format!("state before {index}")) }
}

/// Hands over the start points of all segments that want one, as apply does.
pub(crate) fn put_starts(log: &Log) {
    let end = log.frontier().next_index();
    let mut index = log.first_index();
    while index < end {
        if log.starts_at(index) {
            log.put_start(start_at(log, index)).expect("start point fits");
        }
        index = index.next();
    }
}

pub(crate) fn offset(n: u64) -> Offset {
    Offset(n)
}

/// Dice that fall the same way for the same seed (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}
