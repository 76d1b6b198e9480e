//! Many seeds: a process each, because what dependencies draw from the system is seeded once.

use std::collections::BTreeMap;
use std::num::ParseIntError;
use std::process::{Command, ExitCode, Output};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::{env, fmt, io};

use crate::figures::Figures;
use crate::run::VOID;

/// Seeds from `first` up to, but not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seeds {
    first: u64,
    end: u64,
}

impl fmt::Display for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.first, self.end)
    }
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

/// What a range of seeds showed.
#[derive(Debug)]
pub(crate) struct Outcome {
    seconds: u64,
    ends: BTreeMap<u64, End>,
    /// Of all seeds together.
    figures: Figures,
}

impl Outcome {
    fn of(&self, wanted: End) -> Vec<u64> {
        self.ends.iter().filter(|(_, end)| **end == wanted).map(|(seed, _)| *seed).collect()
    }

    /// Whether nothing was violated, and the range proves as much as it says.
    pub(crate) fn holds(&self) -> bool {
        let void = self.of(End::Void).len();
        let proves = void * 100 <= self.ends.len() * VOID_PERCENT_MAX;
        self.of(End::Violated).is_empty() && proves
    }

    /// Prints the sum in one line.
    pub(crate) fn tell(&self) -> ExitCode {
        let (held, void) = (self.of(End::Held), self.of(End::Void));
        let violated = self.of(End::Violated);
        eprintln!(
            "{} seeds of {} simulated seconds: {} held, {} void {void:?}, {} violated {violated:?}",
            self.ends.len(),
            self.seconds,
            held.len(),
            void.len(),
            violated.len()
        );
        if self.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// What the seeds counted, and how they ended.
    pub(crate) fn figures(&self) -> Figures {
        let mut figures = self.figures.clone();
        figures.count("seeds", self.ends.len() as u64);
        figures.count("seeds held", self.of(End::Held).len() as u64);
        figures.count("seeds void", self.of(End::Void).len() as u64);
        figures
    }
}

/// Runs every seed and tells how each ended.
pub(crate) fn run(seeds: Seeds, seconds: u64, jobs: usize) -> Outcome {
    let next = AtomicU64::new(seeds.first);
    let outcome = Outcome { seconds, ends: BTreeMap::new(), figures: Figures::default() };
    let outcome = Mutex::new(outcome);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let (end, figures) = run_one(seed, seconds);
                    let mut outcome = outcome.lock().expect("nothing panics under it");
                    outcome.ends.insert(seed, end);
                    outcome.figures.add(figures);
                }
            });
        }
    });
    outcome.into_inner().expect("the threads have ended")
}

/// Runs one seed in its own process and repeats what it said, in one piece.
fn run_one(seed: u64, seconds: u64) -> (End, Figures) {
    match process(seed, seconds) {
        Ok(ended) => {
            eprint!("{}", String::from_utf8_lossy(&ended.stderr));
            let end = match ended.status.code() {
                Some(0) => End::Held,
                Some(code) if code == i32::from(VOID) => End::Void,
                _ => End::Violated,
            };
            (end, Figures::read(&String::from_utf8_lossy(&ended.stdout)))
        }
        Err(err) => {
            eprintln!("seed {seed} could not be started: {err}");
            (End::Violated, Figures::default())
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
