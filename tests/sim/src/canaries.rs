//! Planted bugs, each of which some seed must catch: a checker that cannot fail is worth nothing.

use std::process::{Command, ExitCode, Output};
use std::{env, io};

use tidelog_types::canary::Canary;

/// Seeds that a bug may take to be caught.
const SEEDS_MAX: u64 = 500;

/// The bug of this name.
pub(crate) fn parse(name: &str) -> Result<Canary, String> {
    let named = |canary: &Canary| format!("{canary:?}").eq_ignore_ascii_case(name);
    Canary::ALL.into_iter().find(named).ok_or_else(|| format!("no bug is called {name:?}"))
}

/// Runs every bug until a seed catches it, and that seed again without the bug. Prints a table.
pub(crate) fn run(seconds: u64) -> ExitCode {
    eprintln!("{:<22} {:<34} {:>5}", "bug", "caught by", "seeds");
    let caught = Canary::ALL.into_iter().filter(|canary| caught(*canary, seconds)).count();
    let all = Canary::ALL.len();
    eprintln!("{caught} of {all} bugs caught");
    if caught == all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn caught(canary: Canary, seconds: u64) -> bool {
    let name = format!("{canary:?}");
    for seed in 1..=SEEDS_MAX {
        let by = match process(seed, seconds, Some(&name)) {
            Ok(ended) => invariant(&ended),
            Err(err) => {
                eprintln!("{name:<22} could not be started: {err}");
                return false;
            }
        };
        if let Some(by) = by {
            let without =
                process(seed, seconds, None).is_ok_and(|ended| invariant(&ended).is_none());
            let passes = if without { "" } else { ", but the seed fails without it, too" };
            eprintln!("{name:<22} {by:<34} {seed:>5}{passes}");
            return without;
        }
    }
    eprintln!("{name:<22} not caught in {SEEDS_MAX} seeds");
    false
}

/// The first invariant that a run says was violated.
fn invariant(ended: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&ended.stderr);
    let named = text.lines().filter_map(|line| line.split_once(" violated "));
    named.map(|(_, rest)| rest.split(':').next().unwrap_or_default().to_owned()).next()
}

fn process(seed: u64, seconds: u64, canary: Option<&str>) -> io::Result<Output> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--seed", &seed.to_string(), "--seconds", &seconds.to_string()]);
    command.args(canary.map(|canary| format!("--canary={canary}"))).output()
}
