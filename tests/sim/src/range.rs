//! Many seeds: a process each, because what dependencies draw from the system is seeded once.

use std::collections::BTreeMap;
use std::num::ParseIntError;
use std::process::{Command, ExitCode, Output};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::{env, io};

use crate::run::VOID;

/// Seeds from `first` up to, but not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seeds {
    first: u64,
    end: u64,
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, end) = text.split_once("..").ok_or("expected a range as 1..101")?;
        let number = |text: &str| text.parse().map_err(|err: ParseIntError| err.to_string());
        let (first, end) = (number(first)?, number(end)?);
        if first < end { Ok(Self { first, end }) } else { Err("the range is empty".to_owned()) }
    }
}

/// How a seed ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Held,
    Void,
    Violated,
}

/// Void seeds that a range may have, in percent: beyond, it proves less than it says.
const VOID_PERCENT_MAX: usize = 1;

/// Runs every seed and tells which failed; the last line sums up.
pub(crate) fn run(seeds: Seeds, seconds: u64, jobs: usize) -> ExitCode {
    let next = AtomicU64::new(seeds.first);
    let ends = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let end = run_one(seed, seconds);
                    ends.lock().expect("nothing panics under it").insert(seed, end);
                }
            });
        }
    });
    let ends = ends.into_inner().expect("the threads have ended");
    let of = |wanted| ends.iter().filter(move |(_, end)| **end == wanted).map(|(seed, _)| *seed);
    let violated: Vec<u64> = of(End::Violated).collect();
    let void: Vec<u64> = of(End::Void).collect();
    let (all, held) = (ends.len(), of(End::Held).count());
    eprintln!(
        "{all} seeds of {seconds} simulated seconds: {held} held, {} void {void:?}, {} violated \
         {violated:?}",
        void.len(),
        violated.len()
    );
    let proves = void.len() * 100 <= all * VOID_PERCENT_MAX;
    if violated.is_empty() && proves { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one seed in its own process and repeats what it said, in one piece.
fn run_one(seed: u64, seconds: u64) -> End {
    match process(seed, seconds) {
        Ok(ended) => {
            eprint!("{}", String::from_utf8_lossy(&ended.stderr));
            match ended.status.code() {
                Some(0) => End::Held,
                Some(code) if code == i32::from(VOID) => End::Void,
                _ => End::Violated,
            }
        }
        Err(err) => {
            eprintln!("seed {seed} could not be started: {err}");
            End::Violated
        }
    }
}

fn process(seed: u64, seconds: u64) -> io::Result<Output> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--seed", &seed.to_string(), "--seconds", &seconds.to_string()]).output()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_of_seeds_is_read_and_nonsense_is_refused() {
        assert_eq!("3..10".parse(), Ok(Seeds { first: 3, end: 10 }));
        for text in ["", "3", "3..", "..3", "a..b", "5..5", "6..5"] {
            assert!(text.parse::<Seeds>().is_err(), "{text}");
        }
    }
}
