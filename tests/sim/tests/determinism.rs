//! The same seed twice gives the same bytes of trace; another seed gives others.

use std::path::Path;
use std::process::Command;

/// Lines that a trace has at least: fewer, and it does not show what happened.
const LINES_MIN: usize = 10_000;

/// Seeds that are run twice; with the last two brokers join, are drained and removed.
const SEEDS: [u64; 5] = [1, 2, 3, 8, 45];

/// The exit code of a seed that held, but proves too little.
const VOID: i32 = 3;

fn trace(seed: u64, name: &Path) -> Vec<u8> {
    let mut run = Command::new(env!("CARGO_BIN_EXE_tidelog-sim"));
    run.args(["--seed", &seed.to_string(), "--seconds", "20", "--trace"]).arg(name);
    let ended = run.output().unwrap();
    // So short a run may prove nothing; it must not break anything either.
    let held = matches!(ended.status.code(), Some(0 | VOID));
    assert!(held, "seed {seed}: {}", String::from_utf8_lossy(&ended.stderr));
    std::fs::read(name).unwrap()
}

#[test]
fn same_seed_gives_the_same_trace() {
    let dir = tempfile::tempdir().unwrap();
    for seed in SEEDS {
        let (one, two) =
            (trace(seed, &dir.path().join("one")), trace(seed, &dir.path().join("two")));
        let (one, two) = (String::from_utf8(one).unwrap(), String::from_utf8(two).unwrap());
        let differs = one.lines().zip(two.lines()).position(|(one, two)| one != two);
        let shown = differs.map(|at| (at, one.lines().nth(at), two.lines().nth(at)));
        assert!(one == two, "seed {seed} did not repeat itself, first at line {shown:?}");
        assert!(one.lines().count() >= LINES_MIN, "{} lines", one.lines().count());
    }
}

#[test]
fn another_seed_gives_another_trace() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (trace(1, &dir.path().join("one")), trace(2, &dir.path().join("two")));
    assert!(one != two, "the seed changes nothing");
}
