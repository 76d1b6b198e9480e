//! What is done to a log while its disk is recorded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tidelog_log::disk::Disk;
use tidelog_log::flusher::StepFlusher;
use tidelog_log::sim::{Op, SimDisk};
use tidelog_log::{Compacted, Frontier, Kind, Log, NewEntry, StartPoint, Vote};
use tidelog_types::{LogIndex, NodeId, Offset, Term, Timestamp};

use super::check::Event;
use crate::support::*;

/// A run of the script: operations of the disk and events of the log, woven together.
pub(super) struct Script {
    disk: SimDisk,
    /// Set once the log is created: from then on a lying disk lies.
    armed: Arc<AtomicBool>,
    node: Node,
    log: Option<Arc<Log>>,
    events: Arc<Mutex<Vec<Event>>>,
    term: u64,
}

impl Script {
    pub(super) fn new(wrap: impl FnOnce(SimDisk, Arc<AtomicBool>) -> Arc<dyn Disk>) -> Self {
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

    pub(super) fn event(&self, event: Event) {
        note(&self.disk, &self.events, event);
    }

    pub(super) fn log(&self) -> &Log {
        self.log.as_ref().expect("the log was created")
    }

    pub(super) fn create(&mut self) {
        self.log = Some(self.node.create());
        self.event(Event::Created);
        self.armed.store(true, Ordering::Relaxed);
    }

    /// Appends entries with bodies of these sizes, each on its own; then one flush for all.
    pub(super) fn append(&self, sizes: &[usize]) {
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

    pub(super) fn next_entry(&self, size: usize) -> NewEntry {
        let frontier = self.log().frontier();
        let index = frontier.next_index().0;
        match size {
            0 => blank(self.term, index),
            1 => command(self.term, index, b"a command"),
            size => next_records(&frontier, self.term, 3, size / 3),
        }
    }

    pub(super) fn vote(&mut self, term: u64) {
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

    pub(super) fn tick(&self) {
        self.node.env.votes.tick();
        self.node.step();
    }

    pub(super) fn truncate(&self, end: u64) {
        self.event(Event::Cutting(end));
        self.log().truncate_after(end.checked_sub(1).map(LogIndex)).expect("truncate");
        self.event(Event::Cut);
    }

    pub(super) fn starts(&self) {
        put_starts(self.log());
        self.node.step();
    }

    pub(super) fn purge(&self, upto: u64) {
        let firsts = self.log().segments().iter().map(|s| s.first_index.0).collect();
        self.event(Event::Purging(firsts));
        self.log().purge(LogIndex(upto)).expect("purge");
        self.event(Event::Purged(self.log().first_index().0));
    }

    /// Compacts all closed segments.
    pub(super) fn compact(&self) {
        let log = self.log.as_ref().expect("the log was created");
        let to = log.segments().last().expect("a log has a segment").base_offset;
        self.event(Event::Compacting(to.0));
        compact(log, Compacted { to, tombstones_to: Offset(0) });
    }

    pub(super) fn reset(&self, index: u64) {
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

pub(super) fn note(disk: &SimDisk, events: &Mutex<Vec<Event>>, event: Event) {
    let mut events = events.lock().expect("events");
    disk.note(events.len() as u64);
    events.push(event);
}

/// More than 3 rolls, 2 truncates, 2 votes, purges, resets and start points, in one life.
pub(super) fn run(
    wrap: impl FnOnce(SimDisk, Arc<AtomicBool>) -> Arc<dyn Disk>,
) -> (Vec<Op>, Vec<Event>) {
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
    script.compact();
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
    script.compact();
    script.starts();
    script.purge(1000);
    script.append(&[100]);
    script.truncate(202);
    script.append(&[100]);

    let events = script.events.lock().expect("events").clone();
    (script.disk.recorded(), events)
}

/// What a seed's dice make of a log's life.
pub(super) fn run_random(seed: u64) -> (Vec<Op>, Vec<Event>) {
    let mut dice = Dice(seed);
    let mut script = Script::new(|disk, _| Arc::new(disk));
    script.create();
    script.vote(1);
    let mut next_term = 2;
    for _ in 0..16 {
        let (first, end) = (script.log().first_index().0, script.log().frontier().next_index().0);
        match dice.roll(13) {
            0 => {
                script.vote(next_term);
                next_term += 1;
            }
            1 => script.tick(),
            2 if end > first => script.truncate(first + dice.roll(end - first + 1)),
            3 => script.starts(),
            4 => {
                script.starts();
                script.purge(first + dice.roll(end - first + 2));
            }
            5 if dice.roll(2) == 0 => script.reset(1 + dice.roll(end + 20)),
            6 => script.compact(),
            _ => {
                let sizes = [0, 1, 60, 300, 1200, 4200, 9500];
                let sizes: Vec<_> =
                    (0..1 + dice.roll(4)).map(|_| sizes[dice.roll(7) as usize]).collect();
                script.append(&sizes);
            }
        }
    }
    let events = script.events.lock().expect("events").clone();
    (script.disk.recorded(), events)
}
