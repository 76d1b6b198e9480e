//! The crash-state enumerator (ALICE, OSDI'14): every disk operation of a script is recorded, and for
//! every prefix of them every kind of power cut is rebuilt and recovered from.
//!
//! After each: nothing completed is lost, nothing is invented, votes never go back, no clean power
//! cut looks like corruption, and the log goes on. That the checker can fail is shown by disks that
//! leave out one kind of fsync: each makes it fail.

mod check;
mod liar;
mod script;

use std::collections::HashSet;
use std::sync::Arc;

use check::{Event, Expected, check, check_kill};
use liar::{Liar, Skipped};
use script::{run, run_random};
use tidelog_log::sim::{CrashPlan, Image, Op, SimDisk, Timeline};

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
    println!("figure crash states: {}", found.states);
    assert_eq!(found.violation, None);
    assert!(found.states >= 10_000, "only {} distinct states", found.states);
}

fn count(ops: &[Op], of: impl Fn(&Op) -> bool) -> usize {
    ops.iter().filter(|op| of(op)).count()
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

/// How many random lives a test run tries; `TIDELOG_SEEDS` says otherwise, `TIDELOG_SEED` replays one.
const SEEDS: u64 = 4;

#[test]
fn random_lives_recover_from_every_crash() {
    let number = |name| std::env::var(name).ok().map(|n: String| n.parse::<u64>().unwrap());
    let seeds = match number("TIDELOG_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TIDELOG_SEEDS").unwrap_or(SEEDS),
    };
    let (mut states, count) = (0, seeds.end - seeds.start);
    for seed in seeds {
        let (ops, events) = run_random(seed);
        let found = enumerate(&ops, &events);
        states += found.states;
        assert_eq!(found.violation, None, "replay with TIDELOG_SEED={seed}");
    }
    println!("{count} random lives\nfigure crash states: {states}");
}
