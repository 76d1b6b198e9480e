//! What a recovered disk must and may hold, and whether it does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use tidelog_log::flusher::InlineFlusher;
use tidelog_log::sim::{CrashPlan, SimDisk, Timeline};
use tidelog_log::{Kind, Log, OpenError, StartPoint, Vote};
use tidelog_types::batch;
use tidelog_types::{LogIndex, LogPosition, Offset};

use crate::support::*;

/// An entry as a reader sees it: place, chain value, body without the stamps.
pub(super) type Seen = (LogPosition, u32, Vec<Bytes>);

/// What happened above the disk, in the order of the operations.
#[derive(Clone, Debug)]
pub(super) enum Event {
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
    /// Records below this offset may be superseded.
    Compacting(u64),
    Voting(Vote),
    Voted(Vote),
}

/// What a recovered disk must and may hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    created: bool,
    /// The log as it stands, unflushed entries included.
    log: BTreeMap<u64, Seen>,
    acked_end: u64,
    cutting: Option<u64>,
    firsts: BTreeSet<u64>,
    resetting: Option<StartPoint>,
    /// Entries may lack records that they were appended with.
    compacted: bool,
    /// Of the records below this offset the newest is there.
    newest_below: Option<u64>,
    voted: Option<Vote>,
    voting: Vec<Vote>,
}

impl Expected {
    pub(super) fn step(&mut self, event: &Event) {
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
                // A group never cuts what was committed, and compaction sees nothing else; here it
                // may, and the newest record be gone.
                self.newest_below = None;
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
                self.newest_below = None;
            }
            Event::Compacting(to) => {
                self.compacted = true;
                self.newest_below = Some(*to);
            }
            Event::Voting(vote) => self.voting.push(*vote),
            Event::Voted(vote) => {
                self.voted = Some(*vote);
                self.voting.clear();
            }
        }
    }
}

/// Recovers from a disk and checks it; why it is wrong.
pub(super) fn check(disk: &SimDisk, expected: &Expected) -> Result<(), String> {
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

pub(super) fn check_entries(log: &Log, seen: &[Seen], expected: &Expected) -> Result<(), String> {
    let first = log.first_index().0;
    if !expected.firsts.contains(&first) {
        return Err(format!("begins at {first}, not one of {:?}", expected.firsts));
    }
    let end = first + seen.len() as u64;
    if end < expected.acked_end {
        return Err(format!("ends at {end}, {} were completed", expected.acked_end));
    }
    for entry in seen {
        let appended = expected.log.get(&entry.0.index.0);
        let is_left_of = |appended| expected.compacted && is_left_of(entry, appended);
        if appended != Some(entry) && !appended.is_some_and(is_left_of) {
            return Err(format!("entry {} was never appended so", entry.0));
        }
    }
    check_newest(log, expected)?;
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

/// Whether an entry is what compaction may leave of one: its place, its chain value, and batches
/// with the same offsets.
fn is_left_of(entry: &Seen, appended: &Seen) -> bool {
    // Behind the stamp: magic, checksum, attributes, last offset delta.
    let delta = |part: &Bytes| part.get(7..11).map(Bytes::copy_from_slice);
    let same_offsets =
        entry.2.iter().zip(&appended.2).all(|(left, whole)| delta(left) == delta(whole));
    (entry.0, entry.1) == (appended.0, appended.1)
        && entry.2.len() == appended.2.len()
        && same_offsets
}

/// All records of the script have one key: the newest that a compaction has seen must be there.
fn check_newest(log: &Log, expected: &Expected) -> Result<(), String> {
    let Some(end) = expected.newest_below.filter(|end| *end > log.log_start().0) else {
        return Ok(());
    };
    let read = log.read(Offset(end - 1), Offset(end), 1).map_err(|err| err.to_string())?;
    let batch = read.batches.first().ok_or("the newest record is not to be read")?;
    let records = batch::records(batch, 0).map_err(|err| err.to_string())?;
    let is_there = records.filter_map(Result::ok).any(|record| record.offset.0 == end - 1);
    if is_there { Ok(()) } else { Err(format!("record {} is gone", end - 1)) }
}

pub(super) fn try_contents(log: &Log) -> Result<Vec<Seen>, String> {
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

/// The process is killed, another opens the log, and then the power goes: what the second one saw
/// is not lost.
pub(super) fn check_kill(timeline: &Timeline, expected: &Expected) -> Result<(), String> {
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
