//! Many seeds: a process each, because what dependencies draw from the system is seeded once.

use std::num::ParseIntError;
use std::process::{Command, ExitCode, Output};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::{env, io};

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

/// Runs every seed and tells which failed; the last line sums up.
pub(crate) fn run(seeds: Seeds, seconds: u64) -> ExitCode {
    let next = AtomicU64::new(seeds.first);
    let failed = Mutex::new(Vec::new());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if !held(seed, seconds) {
                        failed.lock().expect("nothing panics under it").push(seed);
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().expect("the threads have ended");
    failed.sort_unstable();
    let all = seeds.end - seeds.first;
    let held = all - failed.len() as u64;
    eprintln!("{all} seeds of {seconds} simulated seconds: {held} held, failed {failed:?}");
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one seed in its own process and repeats what it said, in one piece.
fn held(seed: u64, seconds: u64) -> bool {
    match process(seed, seconds) {
        Ok(ended) => {
            eprint!("{}", String::from_utf8_lossy(&ended.stderr));
            ended.status.success()
        }
        Err(err) => {
            eprintln!("seed {seed} could not be started: {err}");
            false
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
