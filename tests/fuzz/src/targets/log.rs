//! What a log reads from a disk: segments, indexes, start points, votes.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};
use tidelog_log::disk::{Disk, Open};
use tidelog_log::flusher::InlineFlusher;
use tidelog_log::sim::{Image, SimDisk};
use tidelog_log::{
    CacheBudget, CompactLimits, CompactStep, Compacted, Compaction, Config, Env, Frontier, Kind,
    Log, NewEntry, OpenError, StartPoint, VotesLog, dump,
};
use tidelog_types::batch::{CRC_FROM, Codec};
use tidelog_types::{
    GroupId, LogIndex, LogPosition, NodeId, Offset, PartitionId, Term, Timestamp, TopicId,
};

use super::{batch, verdict};
use crate::engine::Target;

const NODE: NodeId = NodeId::new(1, 1);
const GROUP: GroupId =
    GroupId::new(TopicId(0xabcd_0000_0000_4000_8000_0000_0000_0001), PartitionId(3));

/// Entries of the log that is damaged: some segments of them.
const ENTRIES: u64 = 24;
const SEGMENT_BYTES: u64 = 2048;

/// What is open is written again with a buffer of a megabyte, as nobody knows what is on the device.
const RECOVERY_ALLOCATES: (usize, usize) = (4 * 1024 * 1024, 256);

pub(super) const START_POINT: Target = Target {
    name: "start-point",
    samples: || vec![bytes_of(&written().start)],
    run: |input| {
        let start = StartPoint::decode(&Bytes::copy_from_slice(input));
        verdict(start, |start| {
            assert_eq!(StartPoint::decode(&start.encode()).as_ref(), Ok(&start));
            "ok".into()
        })
    },
    mend: Some(mend_start),
    allocates: (4096, 8),
};

pub(super) const SEGMENT: Target = Target {
    name: "segment",
    samples: || vec![bytes_of(&written().first), bytes_of(&written().last)],
    run: |input| {
        let disk = SimDisk::new();
        let path = Path::new("/00000000000000000000.log");
        put(&disk, path, input);
        verdict(dump::segment(&disk, path), |entries| {
            let mut told = String::from("entries");
            for entry in entries {
                match entry {
                    Ok(Ok(_)) => {}
                    Ok(Err(damage)) => {
                        told = format!("{}, {}", damage.reason, damage.resumes_at.is_some())
                    }
                    Err(err) => told = err.to_string(),
                }
            }
            told
        })
    },
    mend: Some(mend_segment),
    allocates: (64 * 1024, 64),
};

pub(super) const VOTES: Target = Target {
    name: "votes",
    samples: || vec![bytes_of(&written().votes)],
    run: |input| {
        let disk = SimDisk::new();
        let path = PathBuf::from("/votes.log");
        put(&disk, &path, input);
        let dumped = dump::votes(&disk, &path);
        let opened = open_votes(&disk, path.clone());
        assert!(dumped.is_ok() || opened.is_err(), "what cannot be read is not opened");
        let again = opened.as_ref().map(|_| open_votes(&disk, path));
        assert!(again.is_err() || again.is_ok_and(|it| it.is_ok()), "what was opened opens again");
        verdict(opened, |_| "ok".into())
    },
    mend: Some(mend_votes),
    allocates: RECOVERY_ALLOCATES,
};

pub(super) const RECOVERY_OF_SEGMENT: Target = Target {
    name: "recovery-segment",
    samples: || vec![bytes_of(&written().last)],
    run: |input| recover(&written().last, input),
    mend: Some(mend_segment),
    allocates: RECOVERY_ALLOCATES,
};

pub(super) const RECOVERY_OF_INDEX: Target = Target {
    name: "recovery-index",
    samples: || vec![bytes_of(&written().index)],
    run: |input| {
        let (told, disk) = recovered(&written().index, input);
        assert_eq!(told, "read, read", "an index is a short cut and never the truth");
        let is_kept = disk.image().bytes(&written().index) == Some(input);
        if is_kept { "kept" } else { "made anew" }.into()
    },
    mend: Some(mend_index),
    allocates: RECOVERY_ALLOCATES,
};

pub(super) const RECOVERY_OF_START: Target = Target {
    name: "recovery-start",
    samples: || vec![bytes_of(&written().start)],
    run: |input| recover(&written().start, input),
    mend: Some(mend_start),
    allocates: RECOVERY_ALLOCATES,
};

pub(super) const RECOVERY_OF_COMPACTED: Target = Target {
    name: "recovery-compacted",
    samples: || vec![bytes_of(&written().compacted)],
    run: |input| {
        let (told, disk) = recovered(&written().compacted, input);
        assert_eq!(told, "read, read", "how far a log is compacted is no part of what it holds");
        let env = env(&disk).expect("the votes are whole");
        let log = Log::open(env, GROUP, config()).expect("it was open").log;
        if log.compacted() == Compacted::default() { "forgotten" } else { "believed" }.into()
    },
    mend: Some(mend_compacted),
    // The log is opened twice.
    allocates: (2 * RECOVERY_ALLOCATES.0, RECOVERY_ALLOCATES.1),
};

/// A log as the product leaves it, and the paths of what is damaged.
struct Written {
    image: Image,
    first: PathBuf,
    last: PathBuf,
    index: PathBuf,
    start: PathBuf,
    compacted: PathBuf,
    votes: PathBuf,
}

fn written() -> &'static Written {
    static WRITTEN: OnceLock<Written> = OnceLock::new();
    WRITTEN.get_or_init(write)
}

fn write() -> Written {
    let disk = SimDisk::new();
    let env = env(&disk).expect("an empty disk");
    let log = Log::create(env, GROUP, config(), None).expect("an empty disk");
    for index in 0..ENTRIES {
        let body: SmallVec<[Bytes; 1]> = match index {
            0 => smallvec![Bytes::from_static(b"members")],
            _ => smallvec![batch::sample(Codec::None, None).into()],
        };
        let entry = NewEntry {
            original: None,
            position: LogPosition { term: Term(1), index: LogIndex(index) },
            kind: if index == 0 { Kind::Membership } else { Kind::Records },
            append_time: Timestamp(1_700_000_000_000),
            ordinal: index.saturating_sub(1),
            body,
            expect_chain: None,
        };
        log.append(vec![entry], Box::new(|flushed| flushed.expect("the disk is well")))
            .expect("in order");
    }
    for segment in &log.segments()[1..] {
        let index = segment.first_index;
        let last = index.previous().expect("not the first");
        let frontier: Frontier =
            log.entries(last..index, 0).expect("it is there")[0].header.frontier();
        let machine = Bytes::from_static(b"what the machine holds");
        log.put_start(StartPoint { index, frontier, machine }).expect("it fits");
    }
    compact(&log);
    let segments = log.segments();
    let path = |n: usize, kind| dir().join(format!("{:020}.{kind}", segments[n].first_index.0));
    Written {
        first: path(0, "log"),
        last: path(segments.len() - 1, "log"),
        index: path(1, "idx"),
        start: path(segments.len() - 1, "start"),
        compacted: dir().join("compacted"),
        votes: PathBuf::from("/data/votes.log"),
        image: disk.image(),
    }
}

/// Compacts the first half.
fn compact(log: &Arc<Log>) {
    let segments = log.segments();
    let to = segments[segments.len() / 2].base_offset;
    let goal = Compacted { to, tombstones_to: Offset::ZERO };
    let limits = CompactLimits { keys_bytes_max: 1 << 20, inflate_bytes_max: 1 << 20 };
    let mut pass = Compaction::new(Arc::clone(log), goal, limits);
    while !matches!(pass.step(4096).expect("the log is whole"), CompactStep::Over(_)) {}
}

fn dir() -> PathBuf {
    Path::new("/data").join(GROUP.to_string())
}

fn bytes_of(path: &Path) -> Vec<u8> {
    written().image.bytes(path).expect("it was written").to_vec()
}

fn env(disk: &SimDisk) -> Result<Env, OpenError> {
    // It is there when the disk was used before.
    let _ = disk.create_dir(Path::new("/data"));
    let votes = open_votes(disk, PathBuf::from("/data/votes.log"))?;
    let next = AtomicU64::new(1);
    Ok(Env {
        disk: Arc::new(disk.clone()),
        data: PathBuf::from("/data"),
        votes,
        flusher: Arc::new(InlineFlusher::default()),
        generations: Arc::new(move || 0x5eed_0000 + next.fetch_add(1, Ordering::Relaxed)),
    })
}

fn open_votes(disk: &SimDisk, path: PathBuf) -> Result<Arc<VotesLog>, OpenError> {
    VotesLog::open(Arc::new(disk.clone()), path, Arc::new(InlineFlusher::default()), NODE)
}

fn config() -> Config {
    Config {
        segment_bytes: SEGMENT_BYTES,
        index_every_bytes: 256,
        ..Config::new(Arc::new(CacheBudget::new(1 << 20)))
    }
}

/// Makes `bytes` the whole of a file.
fn put(disk: &SimDisk, path: &Path, bytes: &[u8]) {
    let open = |how| disk.open(path, how);
    let file = open(Open::Write).or_else(|_| open(Open::Create)).expect("the disk is well");
    file.set_len(0).expect("the disk is well");
    file.write_at(&[IoSlice::new(bytes)], 0).expect("the disk is well");
}

/// Opens the log with one of its files replaced, and reads all of it by index and by offset.
fn recover(path: &Path, bytes: &[u8]) -> String {
    recovered(path, bytes).0
}

/// The same, with the disk after it.
fn recovered(path: &Path, bytes: &[u8]) -> (String, SimDisk) {
    let disk = SimDisk::of(written().image.clone());
    put(&disk, path, bytes);
    let env = env(&disk).expect("the votes are whole");
    let log = match Log::open(env, GROUP, config()) {
        Ok(opened) => opened.log,
        Err(err) => return (err.to_string(), disk),
    };
    let by_index = read_entries(&log);
    let by_offset = read_offsets(&log);
    let by_both = [by_index, by_offset].map(|read| verdict(read, |()| "read".to_owned()));
    (by_both.join(", "), disk)
}

fn read_entries(log: &Log) -> Result<(), String> {
    let end = log.frontier().next_index();
    let mut from = log.first_index();
    while from < end {
        let entries = log.entries(from..end, 4096).map_err(|err| err.to_string())?;
        let last = entries.last().ok_or("nothing where something is")?;
        let next = last.header.position.index.next();
        assert!(next > from, "reading goes forward");
        for entry in &entries {
            entry.body.load().map_err(|err| err.to_string())?;
        }
        from = next;
    }
    Ok(())
}

fn read_offsets(log: &Log) -> Result<(), String> {
    let end = log.written_end();
    let mut from = log.log_start();
    while from < end {
        let read = log.read(from, end, 4096).map_err(|err| err.to_string())?;
        for bytes in &read.batches {
            tidelog_types::batch::verify_crc(bytes).expect("nothing is served that is damaged");
        }
        assert!(read.next > from || read.batches.is_empty(), "reading goes forward");
        if read.next <= from {
            return Err("nothing where something is".into());
        }
        from = read.next;
    }
    Ok(())
}

fn seal(bytes: &mut [u8], at: usize, crc: u32) {
    bytes[at..at + 4].copy_from_slice(&crc.to_be_bytes());
}

fn number(bytes: &[u8], at: usize) -> usize {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

fn mend_start(bytes: &mut [u8]) {
    if bytes.len() >= 16 {
        let crc = crc32c::crc32c(&bytes[16..]);
        seal(bytes, 12, crc);
    }
}

fn mend_compacted(bytes: &mut [u8]) {
    mend_start(bytes);
}

fn mend_index(bytes: &mut [u8]) {
    if bytes.len() >= 48 {
        let crc = crc32c::crc32c(&bytes[48..]);
        seal(bytes, 44, crc);
        let crc = crc32c::crc32c(&bytes[16..48]);
        seal(bytes, 12, crc);
    }
}

fn mend_votes(bytes: &mut [u8]) {
    const HEAD: usize = 64;
    const RECORD: usize = 88;
    if bytes.len() < HEAD {
        return;
    }
    let crc = crc32c::crc32c(&bytes[..60]);
    seal(bytes, 60, crc);
    let generation = crc32c::crc32c(&bytes[24..32]);
    for record in bytes[HEAD..].chunks_exact_mut(RECORD) {
        let crc = crc32c::crc32c_append(generation, &record[4..]);
        seal(record, 0, crc);
    }
}

/// Makes a head and as many envelopes as there are hold: parts, chain and checksums.
fn mend_segment(bytes: &mut [u8]) {
    const HEAD: usize = 128;
    const FIXED: usize = 80;
    const COMPACTED: u8 = 4;
    if bytes.len() < HEAD {
        return;
    }
    let crc = crc32c::crc32c(&bytes[..124]);
    seal(bytes, 124, crc);
    let generation: [u8; 8] = bytes[40..48].try_into().expect("eight bytes");
    let tag = crc32c::crc32c_append(crc32c::crc32c(b"envelope"), &generation);
    let mut chain = number(bytes, 52) as u32;
    let mut at = HEAD;
    while at + FIXED <= bytes.len() {
        let parts = usize::from(u16::from_be_bytes([bytes[at + 10], bytes[at + 11]]));
        let is_compacted = bytes[at + 8] == COMPACTED;
        let tables = if is_compacted { 2 } else { 1 };
        let body = at + FIXED + 8 * parts * tables;
        let end = body.saturating_add(number(bytes, at + 76));
        if end > bytes.len() {
            return;
        }
        let is_records = is_compacted || bytes[at + 8] == Kind::Records as u8;
        let (mut from, mut heads) = (body, crc32c::crc32c(&generation));
        let mut covered = Vec::new();
        for part in 0..parts {
            let place = at + FIXED + 8 * part;
            let to = from.saturating_add(number(bytes, place)).min(end);
            if is_records && to - from >= CRC_FROM {
                let crc = crc32c::crc32c(&bytes[from + CRC_FROM..to]);
                seal(bytes, from + 17, crc);
                seal(bytes, place + 4, crc);
                covered.push(from..from + CRC_FROM);
            } else {
                let crc = crc32c::crc32c(&bytes[from..to]);
                seal(bytes, place + 4, crc);
            }
            from = to;
        }
        seal(bytes, at, tag);
        // The chain covers the entry as it was appended: as records, with its second table.
        let mut appended = bytes[at..at + FIXED + 8 * parts].to_vec();
        if is_compacted {
            let original = &bytes[at + FIXED + 8 * parts..body];
            let lengths = original.chunks_exact(8).map(|part| number(part, 0) as u32);
            let sum = lengths.fold(0_u32, u32::saturating_add);
            appended[8] = Kind::Records as u8;
            appended[76..80].copy_from_slice(&sum.to_be_bytes());
            appended[FIXED..].copy_from_slice(original);
        }
        let mut next = crc32c::crc32c(&chain.to_be_bytes());
        for fields in [8..16, 24..72, 76..appended.len()] {
            next = crc32c::crc32c_append(next, &appended[fields]);
        }
        chain = next;
        seal(bytes, at + 72, chain);
        heads = crc32c::crc32c_append(heads, &bytes[at..at + 4]);
        heads = crc32c::crc32c_append(heads, &bytes[at + 8..body]);
        let crc =
            covered.into_iter().fold(heads, |crc, head| crc32c::crc32c_append(crc, &bytes[head]));
        seal(bytes, at + 4, crc);
        at = end.next_multiple_of(8);
    }
}
