//! Crash states of the votes alone: many groups, group commit, compaction.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use tidelog_log::flusher::{InlineFlusher, StepFlusher};
use tidelog_log::sim::{CrashPlan, Op, SimDisk, Timeline};
use tidelog_log::{Vote, VotesLog};
use tidelog_types::{GroupId, LogIndex, PartitionId, Term};

use crate::support::*;

const GROUPS: u32 = 6;

/// A vote of a group in a term; before its fsync and after.
#[derive(Clone, Copy)]
enum Event {
    Trying(GroupId, u64),
    Safe(GroupId, u64),
}

fn nth(n: u32) -> GroupId {
    GroupId::new(group().topic, PartitionId(n))
}

fn file() -> std::path::PathBuf {
    std::path::PathBuf::from("/votes.log")
}

/// Votes in rounds, several groups to a flush, over more than one compaction.
fn run() -> (Vec<Op>, Vec<Event>) {
    let disk = SimDisk::new();
    disk.record();
    let steps = Arc::new(StepFlusher::default());
    let votes = VotesLog::open(Arc::new(disk.clone()), file(), steps.clone(), NODE).unwrap();
    let events = Arc::new(Mutex::new(Vec::new()));
    let note = |disk: &SimDisk, events: &Mutex<Vec<Event>>, event| {
        let mut events = events.lock().unwrap();
        disk.note(events.len() as u64);
        events.push(event);
    };
    (0..GROUPS).for_each(|n| votes.create(nth(n), sure()));
    for term in 1..330 {
        for n in (0..GROUPS).filter(|n| !(term + u64::from(*n)).is_multiple_of(3)) {
            let group = nth(n);
            note(&disk, &events, Event::Trying(group, term));
            let (disk, events) = (disk.clone(), Arc::clone(&events));
            let vote = Vote { term: Term(term), node: Some(NODE), committed: false };
            let done = Box::new(move |result: Result<(), _>| {
                result.unwrap();
                note(&disk, &events, Event::Safe(group, term));
            });
            votes.save_vote(group, vote, done);
        }
        steps.run();
        votes.raise_mark(nth(term as u32 % GROUPS), LogIndex(term));
        if term % 5 == 0 {
            votes.tick();
            steps.run();
        }
    }
    let events = events.lock().unwrap().clone();
    (disk.recorded(), events)
}

#[test]
fn no_vote_is_forgotten_or_invented_at_any_crash() {
    let (ops, events) = run();
    let compactions: Vec<_> = ops
        .iter()
        .enumerate()
        .filter(|(_, op)| matches!(op, Op::Rename { .. }))
        .map(|(n, _)| n)
        .collect();
    assert!(compactions.len() >= 2, "made once, compacted at least once");

    let mut timeline = Timeline::default();
    let mut safe: BTreeMap<GroupId, u64> = BTreeMap::new();
    let mut tried: BTreeMap<GroupId, u64> = BTreeMap::new();
    let mut states = HashSet::new();
    for (n, op) in ops.iter().enumerate() {
        timeline.step(op);
        if let Op::Note(event) = op {
            match events[*event as usize] {
                Event::Trying(group, term) => tried.insert(group, term),
                Event::Safe(group, term) => safe.insert(group, term),
            };
        }
        // Files grow to 64 KiB: near a compaction every state is tried, elsewhere some are.
        let near = compactions.iter().any(|c| n.abs_diff(*c) < 12);
        if !near && n % 37 != 0 {
            continue;
        }
        let unsynced = timeline.unsynced();
        let mut plans = vec![CrashPlan::LoseAll, CrashPlan::KeepAll];
        for (nth, op) in unsynced.iter().enumerate() {
            plans.extend([CrashPlan::LoseOne(nth), CrashPlan::KeepOne(nth)]);
            if let Op::Write { bytes, .. } = op {
                let step = (bytes.len() / 60).max(1);
                plans.extend(
                    (0..bytes.len()).step_by(step).map(|keep| CrashPlan::Tear { nth, keep }),
                );
                plans.extend((0..bytes.len()).step_by(512).map(|at| CrashPlan::Hole { nth, at }));
            }
        }
        for plan in plans {
            let image = timeline.crash(plan);
            states.insert(image.fingerprint());
            let disk = SimDisk::of(image);
            let flusher = Arc::new(InlineFlusher::default());
            let votes = VotesLog::open(Arc::new(disk), file(), flusher, NODE)
                .unwrap_or_else(|err| panic!("after operation {n}, {plan:?}: {err}"));
            for (group, safe) in &safe {
                let term = votes.get(*group).and_then(|record| record.vote).map(|vote| vote.term.0);
                assert!(
                    term >= Some(*safe) && term <= tried.get(group).copied(),
                    "after operation {n}, {plan:?}: {group} voted in {safe}, has {term:?}",
                );
            }
        }
    }
    println!("figure crash states: {}", states.len());
}
