//! The crash-state enumerator (ALICE, OSDI'14): every disk operation of a script is recorded, and for
//! every prefix of them every kind of power cut is rebuilt and recovered from.
//!
//! After each: nothing completed is lost, nothing is invented, votes never go back, no clean power
//! cut looks like corruption, and the log goes on. That the checker can fail is shown by disks that
//! leave out one kind of fsync: each makes it fail.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tidelog_log::disk::{Disk, File, Open};
use tidelog_log::flusher::{InlineFlusher, StepFlusher};
use tidelog_log::sim::{CrashPlan, Image, Op, SimDisk, Timeline};
use tidelog_log::{Frontier, Kind, Log, NewEntry, OpenError, StartPoint, Vote};
use tidelog_types::{LogIndex, LogPosition, NodeId, Offset, Term, Timestamp};

use crate::support::*;

/// An entry as a reader sees it: place, chain value, body without the stamps.
type Seen = (LogPosition, u32, Vec<Bytes>);

/// What happened above the disk, in the order of the operations.
#[derive(Clone, Debug)]
enum Event {
    Created,
    Appended(Vec<Seen>),
    /// Completed: everything below this index is safe.
    Acked(u64),
    Cutting(u64),
    Cut,
    /// The log may begin at any of these.
    Purging(Vec<u64>),
    Purged(u64),
    Resetting(StartPoint),
    Reset,
    Voting(Vote),
    Voted(Vote),
}

/// What a recovered disk must and may hold.
#[derive(Clone, Debug, Default)]
struct Expected {
    created: bool,
    /// The log as it stands, unflushed entries included.
    log: BTreeMap<u64, Seen>,
    acked_end: u64,
    cutting: Option<u64>,
    firsts: BTreeSet<u64>,
    resetting: Option<StartPoint>,
    voted: Option<Vote>,
    voting: Vec<Vote>,
}

impl Expected {
    fn step(&mut self, event: &Event) {
        match event {
            Event::Created => {
                self.created = true;
                self.firsts = [0].into();
            }
            Event::Appended(entries) => {
                self.log.extend(entries.iter().map(|entry| (entry.0.index.0, entry.clone())));
            }
            Event::Acked(end) => self.acked_end = *end,
            Event::Cutting(end) => {
                self.cutting = Some(*end);
                self.acked_end = self.acked_end.min(*end);
            }
            Event::Cut => {
                let end = self.cutting.take().expect("a cut began");
                self.log.split_off(&end);
            }
            Event::Purging(firsts) => self.firsts.extend(firsts),
            Event::Purged(first) => self.firsts = [*first].into(),
            Event::Resetting(start) => self.resetting = Some(start.clone()),
            Event::Reset => {
                let start = self.resetting.take().expect("a reset began");
                self.firsts = [start.index.0].into();
                self.acked_end = start.index.0;
                self.log.clear();
            }
            Event::Voting(vote) => self.voting.push(*vote),
            Event::Voted(vote) => {
                self.voted = Some(*vote);
                self.voting.clear();
            }
        }
    }
}

/// A run of the script: operations of the disk and events of the log, woven together.
struct Script {
    disk: SimDisk,
    /// Set once the log is created: from then on a lying disk lies.
    armed: Arc<AtomicBool>,
    node: Node,
    log: Option<Arc<Log>>,
    events: Arc<Mutex<Vec<Event>>>,
    term: u64,
}

impl Script {
    fn new(wrap: impl FnOnce(SimDisk, Arc<AtomicBool>) -> Arc<dyn Disk>) -> Self {
        let disk = SimDisk::new();
        let armed = Arc::new(AtomicBool::new(false));
        disk.record();
        let steps = Arc::new(StepFlusher::default());
        let node = Node::with(
            wrap(disk.clone(), Arc::clone(&armed)),
            data(),
            Arc::clone(&steps) as _,
            Some(steps),
        )
        .expect("votes open")
        .segment_bytes(9000);
        Self { disk, armed, node, log: None, events: Arc::default(), term: 1 }
    }

    fn event(&self, event: Event) {
        note(&self.disk, &self.events, event);
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("the log was created")
    }

    fn create(&mut self) {
        self.log = Some(self.node.create());
        self.event(Event::Created);
        self.armed.store(true, Ordering::Relaxed);
    }

    /// Appends entries with bodies of these sizes, each on its own; then one flush for all.
    fn append(&self, sizes: &[usize]) {
        for size in sizes {
            let entry = self.next_entry(*size);
            let body = entry.body.iter().map(|part| match entry.kind {
                Kind::Records => part.slice(16..),
                _ => part.clone(),
            });
            let header = self.log().frontier().step(&entry).expect("entry fits");
            let seen = (entry.position, header.chain, body.collect());
            self.event(Event::Appended(vec![seen]));
            let (disk, events) = (self.disk.clone(), Arc::clone(&self.events));
            let end = entry.position.index.0 + 1;
            let done = Box::new(move |result: Result<(), _>| {
                result.expect("flush succeeds");
                note(&disk, &events, Event::Acked(end));
            });
            self.log().append(vec![entry], done).expect("append");
        }
        self.node.step();
    }

    fn next_entry(&self, size: usize) -> NewEntry {
        let frontier = self.log().frontier();
        let index = frontier.next_index().0;
        match size {
            0 => blank(self.term, index),
            1 => command(self.term, index, b"a command"),
            size => next_records(&frontier, self.term, 3, size / 3),
        }
    }

    fn vote(&mut self, term: u64) {
        self.term = term;
        let vote =
            Vote { term: Term(term), node: Some(NodeId::new(term as u32 % 3, 1)), committed: true };
        self.event(Event::Voting(vote));
        let (disk, events) = (self.disk.clone(), Arc::clone(&self.events));
        self.node.env.votes.save_vote(
            group(),
            vote,
            Box::new(move |result| {
                result.expect("vote is saved");
                note(&disk, &events, Event::Voted(vote));
            }),
        );
        self.node.step();
    }

    fn tick(&self) {
        self.node.env.votes.tick();
        self.node.step();
    }

    fn truncate(&self, end: u64) {
        self.event(Event::Cutting(end));
        self.log().truncate_after(end.checked_sub(1).map(LogIndex)).expect("truncate");
        self.event(Event::Cut);
    }

    fn starts(&self) {
        put_starts(self.log());
        self.node.step();
    }

    fn purge(&self, upto: u64) {
        let firsts = self.log().segments().iter().map(|s| s.first_index.0).collect();
        self.event(Event::Purging(firsts));
        self.log().purge(LogIndex(upto)).expect("purge");
        self.event(Event::Purged(self.log().first_index().0));
    }

    fn reset(&self, index: u64) {
        let frontier = Frontier {
            last: Some(at(self.term, index - 1)),
            next_offset: Offset(900),
            ordinal_term: Term(self.term),
            ordinal_next: 4,
            append_time: Timestamp(3_000_000),
            chain: 0xfeed,
        };
        let machine = Bytes::from(vec![0x5a; 700]);
        let start = StartPoint { index: LogIndex(index), frontier, machine };
        self.event(Event::Resetting(start.clone()));
        self.log().reset(start).expect("reset");
        self.event(Event::Reset);
    }
}

fn note(disk: &SimDisk, events: &Mutex<Vec<Event>>, event: Event) {
    let mut events = events.lock().expect("events");
    disk.note(events.len() as u64);
    events.push(event);
}

/// More than 3 rolls, 2 truncates, 2 votes, purges, resets and start points, in one life.
fn run(wrap: impl FnOnce(SimDisk, Arc<AtomicBool>) -> Arc<dyn Disk>) -> (Vec<Op>, Vec<Event>) {
    let mut script = Script::new(wrap);
    script.create();
    script.vote(1);
    script.append(&[0]);
    script.append(&[300, 1, 700]);
    script.append(&[5000]);
    script.append(&[2500, 100, 100]); // rolls
    script.starts();
    script.append(&[6000, 2000, 6000]); // rolls twice in one flush
    script.tick();
    script.starts();
    script.vote(2);
    script.append(&[0, 1200]);
    script.truncate(9); // whole segments and into one
    script.append(&[600, 1]);
    script.append(&[4000, 4500]); // rolls
    script.vote(3);
    script.truncate(12); // into the last one
    script.append(&[0, 900]);
    script.tick();
    script.append(&[7000, 800]); // rolls
    script.starts();
    script.append(&[300]);
    script.purge(10);
    script.append(&[8000, 400]); // rolls
    script.starts();
    script.purge(1000);
    script.tick();
    script.append(&[200, 1000]);
    script.reset(200); // far ahead
    script.append(&[0, 1500]);
    script.vote(4);
    script.append(&[8000, 100]); // rolls
    script.starts();
    script.tick();
    script.reset(201); // behind the end
    script.append(&[2000, 7500, 1]); // rolls
    script.starts();
    script.purge(1000);
    script.append(&[100]);
    script.truncate(202);
    script.append(&[100]);

    let events = script.events.lock().expect("events").clone();
    (script.disk.recorded(), events)
}

/// Recovers from a disk and checks it; why it is wrong.
fn check(disk: &SimDisk, expected: &Expected) -> Result<(), String> {
    let node = Node::with(Arc::new(disk.clone()), data(), Arc::new(InlineFlusher::default()), None)
        .map_err(|err| format!("votes: {err}"))?
        .segment_bytes(9000)
        .cache_bytes(0);

    let vote = node.env.votes.get(group()).and_then(|record| record.vote);
    let vote_fits =
        vote == expected.voted || vote.is_some_and(|vote| expected.voting.contains(&vote));
    if !vote_fits {
        return Err(format!("vote {vote:?}, voted {:?}", expected.voted));
    }

    let opened = match node.try_open() {
        Ok(opened) => opened,
        // Not created: then it can be, and is empty.
        Err(OpenError::Missing { .. }) if !expected.created => {
            let created = Log::create(node.env.clone(), group(), node.config.clone(), None);
            created.map_err(|err| format!("create: {err}"))?;
            return Ok(());
        }
        Err(err) => return Err(format!("open: {err}")),
    };
    let log = opened.log;
    let seen = try_contents(&log)?;
    if !expected.created {
        return if seen.is_empty() { Ok(()) } else { Err("entries before create".into()) };
    }
    let reset_done = expected
        .resetting
        .as_ref()
        .is_some_and(|start| seen.is_empty() && log.frontier() == start.frontier);
    if !reset_done {
        check_entries(&log, &seen, expected)?;
    }
    let start = log.oldest_start().map_err(|err| err.to_string())?;
    if start.is_none() != (log.first_index() == LogIndex::ZERO) {
        return Err("a log that does not begin at 0 has no start point".into());
    }
    log.newest_start().map_err(|err| err.to_string())?;

    // The log goes on, and what it takes on survives another power cut.
    let entry = next_records(&log.frontier(), 9, 1, 50);
    log.append(vec![entry], Box::new(|_| {})).map_err(|err| err.to_string())?;
    if log.synced_end() != log.frontier().next_index() {
        return Err("the log does not go on".into());
    }
    let seen = try_contents(&log)?;
    disk.crash(CrashPlan::LoseAll);
    let log = Node::start(disk).try_open().map_err(|err| format!("open again: {err}"))?.log;
    if try_contents(&log)? != seen {
        return Err("what was recovered is lost in the next power cut".into());
    }
    Ok(())
}

fn check_entries(log: &Log, seen: &[Seen], expected: &Expected) -> Result<(), String> {
    let first = log.first_index().0;
    if !expected.firsts.contains(&first) {
        return Err(format!("begins at {first}, not one of {:?}", expected.firsts));
    }
    let end = first + seen.len() as u64;
    if end < expected.acked_end {
        return Err(format!("ends at {end}, {} were completed", expected.acked_end));
    }
    for entry in seen {
        if expected.log.get(&entry.0.index.0) != Some(entry) {
            return Err(format!("entry {} was never appended so", entry.0));
        }
    }
    let mut offset = log.log_start();
    while offset < log.written_end() {
        let read = log.read(offset, log.written_end(), 4000).map_err(|err| err.to_string())?;
        if read.next <= offset {
            return Err(format!("reading stands still at {offset}"));
        }
        offset = read.next;
    }
    Ok(())
}

fn try_contents(log: &Log) -> Result<Vec<Seen>, String> {
    let mut seen = Vec::new();
    let (mut from, end) = (log.first_index(), log.frontier().next_index());
    while from < end {
        for entry in log.load(from..end, 1 << 20).map_err(|err| err.to_string())? {
            let body = entry.body.load().map_err(|err| err.to_string())?;
            let unstamped = body.iter().map(|part| match entry.header.kind {
                Kind::Records => part.slice(16..),
                _ => part.clone(),
            });
            from = entry.header.position.index.next();
            seen.push((entry.header.position, entry.header.chain, unstamped.collect()));
        }
    }
    Ok(seen)
}

/// The power cuts that can follow after these unsynced operations.
fn plans(unsynced: &[Op], seed: u64) -> Vec<CrashPlan> {
    let mut plans = vec![CrashPlan::LoseAll, CrashPlan::KeepAll];
    plans.extend((0..unsynced.len()).flat_map(|n| [CrashPlan::LoseOne(n), CrashPlan::KeepOne(n)]));
    if let Some((nth, Op::Write { bytes, .. })) = unsynced.iter().enumerate().next_back() {
        let len = bytes.len();
        let cuts = (1..len).step_by(if len < 300 { 1 } else { 23 });
        let sectors = (512..len).step_by(512);
        plans.extend(
            cuts.chain(sectors.clone()).chain([len - 1]).map(|keep| CrashPlan::Tear { nth, keep }),
        );
        plans.extend(sectors.chain([0]).map(|at| CrashPlan::Hole { nth, at }));
    }
    if unsynced.len() > 1 {
        plans.extend((0..8).map(|n| CrashPlan::Random(seed * 8 + n)));
    }
    plans
}

/// What enumerating found.
#[derive(Debug, Default)]
struct Found {
    operations: usize,
    states: usize,
    checks: usize,
    kills: usize,
    violation: Option<String>,
}

/// Rebuilds and checks every state that a power cut can leave; stops at the first wrong one.
fn enumerate(ops: &[Op], events: &[Event]) -> Found {
    let mut found = Found { operations: ops.len(), ..Found::default() };
    let mut timeline = Timeline::default();
    let mut expected = Expected::default();
    let mut states: HashSet<u64> = HashSet::new();
    let mut checked: HashSet<(u64, u64)> = HashSet::new();
    let mut era = 0;
    for (n, op) in ops.iter().enumerate() {
        timeline.step(op);
        if let Op::Note(event) = op {
            era = event + 1;
            expected.step(&events[*event as usize]);
        }
        for plan in plans(timeline.unsynced(), n as u64) {
            let image = timeline.crash(plan);
            let fingerprint = image.fingerprint();
            if !checked.insert((fingerprint, era)) {
                continue;
            }
            states.insert(fingerprint);
            found.checks += 1;
            if let Err(reason) = check(&SimDisk::of(image.clone()), &expected) {
                found.violation = Some(explain(n, op, plan, &reason, &image));
                return found;
            }
        }
        found.kills += 1;
        if let Err(reason) = check_kill(&timeline, &expected) {
            found.violation = Some(format!("killed after operation {n} {}: {reason}", brief(op)));
            return found;
        }
        found.states = states.len();
    }
    found
}

/// The process is killed, another opens the log, and then the power goes: what the second one saw
/// is not lost.
fn check_kill(timeline: &Timeline, expected: &Expected) -> Result<(), String> {
    let disk = SimDisk::resume(timeline.clone());
    if !expected.created {
        return check(&disk, expected);
    }
    let node = Node::start(&disk);
    let log = node.try_open().map_err(|err| format!("open: {err}"))?.log;
    let (seen, votes) = (try_contents(&log)?, node.env.votes.groups());
    disk.crash(CrashPlan::LoseAll);
    let node = Node::start(&disk);
    let log = node.try_open().map_err(|err| format!("open after the power cut: {err}"))?.log;
    if try_contents(&log)? != seen {
        return Err("what the second process saw is lost".into());
    }
    let kept: Vec<_> = node.env.votes.groups().iter().map(|(_, record)| record.vote).collect();
    if kept != votes.iter().map(|(_, record)| record.vote).collect::<Vec<_>>() {
        return Err("the vote that the second process saw is lost".into());
    }
    check(&disk, expected)
}

fn explain(n: usize, op: &Op, plan: CrashPlan, reason: &str, image: &Image) -> String {
    format!("after operation {n} {}, {plan:?}: {reason}\n{:?}", brief(op), image.listing())
}

fn brief(op: &Op) -> String {
    match op {
        Op::Write { file, position, bytes } => {
            format!("write {} bytes to {file:?} at {position}", bytes.len())
        }
        op => format!("{op:?}"),
    }
}

#[test]
fn every_crash_state_recovers() {
    let (ops, events) = run(|disk, _| Arc::new(disk));
    let rolls =
        count(&ops, |op| matches!(op, Op::CreateFile { name, .. } if name.ends_with(".log")));
    assert!(rolls > 6, "{rolls} segments were made");
    let found = enumerate(&ops, &events);
    println!(
        "crash states: {} distinct, {} checks, {} kills, over {} operations",
        found.states, found.checks, found.kills, found.operations
    );
    assert_eq!(found.violation, None);
    assert!(found.states >= 10_000, "only {} distinct states", found.states);
}

fn count(ops: &[Op], of: impl Fn(&Op) -> bool) -> usize {
    ops.iter().filter(|op| of(op)).count()
}

/// Which fsync a disk leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skipped {
    /// fdatasync after entries.
    Entries,
    /// fsync of the head of a new segment.
    NewSegment,
    /// fsync of a segment that was cut.
    Truncation,
    /// fsync of the group's directory.
    Directory,
    /// fsync of the data directory.
    DataDirectory,
    /// fdatasync of the votes.
    Votes,
    /// fsync of a start point before it gets its name.
    StartPoint,
}

/// A disk that says that it synced, and did not, once it is armed.
#[derive(Debug)]
struct Liar {
    disk: SimDisk,
    armed: Arc<AtomicBool>,
    skipped: Skipped,
}

impl Liar {
    fn skips(&self, skipped: Skipped) -> bool {
        self.skipped == skipped && self.armed.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct LyingFile {
    file: Arc<dyn File>,
    armed: Arc<AtomicBool>,
    skips_data: bool,
    /// The next fsync is left out.
    skips_all: AtomicBool,
    skips_cut: bool,
}

impl Disk for Liar {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, open)?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_log = name.ends_with(".log") && name != "votes.log";
        let made = open == Open::Create;
        let new_segment = made && is_log && self.skips(Skipped::NewSegment);
        let start = made && name.ends_with(".tmp") && self.skips(Skipped::StartPoint);
        Ok(Arc::new(LyingFile {
            file,
            armed: Arc::clone(&self.armed),
            skips_data: is_log && self.skipped == Skipped::Entries
                || name == "votes.log" && self.skipped == Skipped::Votes,
            skips_all: AtomicBool::new(new_segment || start),
            skips_cut: is_log && self.skipped == Skipped::Truncation,
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let skipped = if dir == data() { Skipped::DataDirectory } else { Skipped::Directory };
        let skipped = self.skips(skipped);
        if skipped { Ok(()) } else { self.disk.sync_dir(dir) }
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free_bytes(dir)
    }
}

impl File for LyingFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.file.write_at(slices, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        let skips = self.skips_data && self.armed.load(Ordering::Relaxed);
        if skips { Ok(()) } else { self.file.sync_data() }
    }

    fn sync_all(&self) -> io::Result<()> {
        let skips = self.skips_all.swap(false, Ordering::Relaxed);
        if skips { Ok(()) } else { self.file.sync_all() }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.skips_all.fetch_or(self.skips_cut, Ordering::Relaxed);
        self.file.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

#[test]
fn leaving_out_any_one_fsync_is_caught() {
    let kinds = [
        Skipped::Entries,
        Skipped::NewSegment,
        Skipped::Truncation,
        Skipped::Directory,
        Skipped::DataDirectory,
        Skipped::Votes,
        Skipped::StartPoint,
    ];
    for skipped in kinds {
        let (ops, events) = run(|disk, armed| Arc::new(Liar { disk, armed, skipped }));
        let found = enumerate(&ops, &events);
        let violation = found.violation.unwrap_or_else(|| panic!("{skipped:?} was not missed"));
        println!("without {skipped:?}: {}", violation.lines().next().unwrap_or_default());
    }
}
