//! Planted bugs, each of which something must catch: a checker that cannot fail is worth nothing.

use std::process::{Command, ExitCode, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, io, thread};

use tidelog_types::canary::{Canary, VARIABLE};

use crate::figures::Figures;

/// Seeds that a bug may take to be caught.
const SEEDS_MAX: u64 = 500;

/// What says that something is wrong, and not what: a bug that is seen by it alone is given more seeds.
const WEAK: [&str; 2] = ["nothing_panics", "clients_come_to_an_end"];

/// Seeds that such a bug is given, after the first that fails.
const MORE_SEEDS: u64 = 20;

/// A test that catches a bug that the simulation does not see.
#[derive(Clone, Copy, Debug)]
struct Test {
    package: &'static str,
    name: &'static str,
}

/// Who catches a bug that the simulation does not: its window is too narrow for whole clusters, or
/// clients that keep to the rules never get there.
fn elsewhere(canary: Canary) -> Option<Test> {
    let test = |package, name| Some(Test { package, name });
    match canary {
        // The engine must refuse one write and take the next before anybody hears of the refusal.
        Canary::OrdinalNotChecked => {
            test("tidelog-log", "records_out_of_turn_are_void_and_take_no_offset")
        }
        // A node that counts for its leader by what it has not synced must stand against that leader,
        // the third replica must lack the entry, and of two messages the right one must be the first.
        Canary::VoteOvertakesAppend => {
            test("tidelog-raft", "vote_is_not_even_begun_before_all_that_was_appended_is_on_disk")
        }
        // A member that keeps to the rules stops committing once it has lost its partitions.
        Canary::MemberEpochIgnored => test("tidelog-state", "groups_keep_their_promises"),
        _ => None,
    }
}

/// The bug of this name.
pub(crate) fn parse(name: &str) -> Result<Canary, String> {
    Canary::named(name).ok_or_else(|| format!("no bug is called {name:?}"))
}

/// How many of all bugs were caught.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    caught: usize,
}

impl Outcome {
    /// Whether each was.
    pub(crate) const fn holds(self) -> bool {
        self.caught == Canary::ALL.len()
    }

    /// Prints the sum in one line.
    pub(crate) fn tell(self) -> ExitCode {
        eprintln!("{} of {} bugs caught", self.caught, Canary::ALL.len());
        if self.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// The same for the report.
    pub(crate) fn figures(self) -> Figures {
        let mut figures = Figures::default();
        figures.count("bugs planted", Canary::ALL.len() as u64);
        figures.count("bugs caught", self.caught as u64);
        figures
    }
}

/// Runs every bug until something catches it, and that again without the bug. Prints a table.
pub(crate) fn run(seconds: u64, jobs: usize) -> Outcome {
    eprintln!("{:<22} {:<48} {:>5}", "bug", "caught by", "seeds");
    let (next, caught) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // Cargo takes turns with itself anyway, and its output belongs together.
    let cargo = Mutex::new(());
    // The tests last: while cargo builds for one, the others would wait for it.
    let mut canaries = Canary::ALL;
    canaries.sort_by_key(|canary| elsewhere(*canary).is_some());
    let work = || {
        while let Some(canary) = canaries.get(next.fetch_add(1, Ordering::Relaxed)) {
            let was_caught = match elsewhere(*canary) {
                Some(test) => {
                    let _turn = cargo.lock().expect("nothing panics under it");
                    caught_by_test(*canary, test)
                }
                None => caught_by_seed(*canary, seconds),
            };
            caught.fetch_add(usize::from(was_caught), Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    Outcome { caught: caught.into_inner() }
}

fn caught_by_seed(canary: Canary, seconds: u64) -> bool {
    let name = format!("{canary:?}");
    match first_caught(&name, seconds) {
        Ok(Some((seed, by))) => {
            let without = process(seed, seconds, None);
            let passes = without.is_ok_and(|ended| violated(&ended).is_none());
            let but = if passes { "" } else { ", but the seed fails without it, too" };
            eprintln!("{name:<22} {by:<48} {seed:>5}{but}");
            passes
        }
        Ok(None) => {
            eprintln!("{name:<22} not caught in {SEEDS_MAX} seeds");
            false
        }
        Err(err) => {
            eprintln!("{name:<22} could not be started: {err}");
            false
        }
    }
}

/// The first seed that something is violated with, and what; rather one that says what is wrong.
fn first_caught(canary: &str, seconds: u64) -> io::Result<Option<(u64, String)>> {
    let mut weakly: Option<(u64, String)> = None;
    for seed in 1..=SEEDS_MAX {
        if weakly.as_ref().is_some_and(|(first, _)| seed > first + MORE_SEEDS) {
            break;
        }
        let by = violated(&process(seed, seconds, Some(canary))?);
        match by {
            Some(by) if WEAK.contains(&by.as_str()) => weakly = weakly.or(Some((seed, by))),
            Some(by) => return Ok(Some((seed, by))),
            None => {}
        }
    }
    Ok(weakly)
}

/// The first invariant that a run says was violated.
fn violated(ended: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&ended.stderr);
    let named = text.lines().filter_map(|line| line.split_once(" violated "));
    named.map(|(_, rest)| rest.split(':').next().unwrap_or_default().to_owned()).next()
}

fn process(seed: u64, seconds: u64, canary: Option<&str>) -> io::Result<Output> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--seed", &seed.to_string(), "--seconds", &seconds.to_string()]);
    command.args(canary.map(|canary| format!("--canary={canary}"))).output()
}

/// Whether `test` fails with the bug and passes without it.
fn caught_by_test(canary: Canary, test: Test) -> bool {
    let (name, Test { package, name: by }) = (format!("{canary:?}"), test);
    match (outcome(test, Some(&name)), outcome(test, None)) {
        (Ok(false), Ok(true)) => {
            eprintln!("{name:<22} {by:<48}  test of {package}");
            true
        }
        (Ok(true), Ok(true)) => {
            eprintln!("{name:<22} {by} of {package} passes with the bug");
            false
        }
        (with, without) => {
            eprintln!(
                "{name:<22} {by} of {package}: {with:?} with the bug, {without:?} without it"
            );
            false
        }
    }
}

/// Whether `test` passes; an error when it did not even run.
fn outcome(test: Test, canary: Option<&str>) -> Result<bool, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // In this folder cargo finds the flags that faults are compiled by.
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["test", "-p", test.package, test.name]);
    command.env_remove(VARIABLE).envs(canary.map(|canary| (VARIABLE, canary)));
    let ended = command.output().map_err(|err| err.to_string())?;
    let text = String::from_utf8_lossy(&ended.stdout);
    let mut lines = text.lines().filter(|line| line.contains(test.name));
    match lines.next() {
        Some(line) if line.ends_with("ok") && ended.status.success() => Ok(true),
        Some(line) if line.ends_with("FAILED") => Ok(false),
        _ => Err(format!("it did not run: {}", String::from_utf8_lossy(&ended.stderr))),
    }
}
