//! The command line: one seed and its trace, or a range of seeds, one process each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use rand_seed::SeedableRng;
use rand_seed::rngs::StdRng;

use tidelog_types::canary::{Canary, plant};

use crate::canaries;
use crate::plan::Plan;
use crate::range::{self, Seeds};
use crate::simulation::{self, Verdict};
use crate::trace::Trace;

/// Run a simulated cluster, everything of which follows from a seed
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    what: What,
    /// Simulated seconds of load; the last third of them without faults
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// No faults
    #[arg(long)]
    calm: bool,
    /// Plant this bug
    #[arg(long, value_name = "BUG", value_parser = canaries::parse, conflicts_with = "canaries")]
    canary: Option<Canary>,
    /// Where to write what happened, line by line
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    trace: Option<PathBuf>,
}

/// What to run.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Run this seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run the seeds from A up to, but not including, B, as many at a time as there are cores
    #[arg(long, value_name = "A..B")]
    seeds: Option<Seeds>,
    /// Plant one bug after the other and tell which seed catches it
    #[arg(long)]
    canaries: bool,
}

/// The exit code of a seed that proves nothing.
pub(crate) const VOID: u8 = 3;

/// Runs what the arguments say.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match (arguments.what.seed, arguments.what.seeds) {
        (Some(seed), _) => run_seed(seed, &arguments),
        (None, Some(seeds)) => range::run(seeds, arguments.seconds),
        (None, None) => canaries::run(arguments.seconds),
    }
}

fn run_seed(seed: u64, arguments: &Arguments) -> ExitCode {
    arguments.canary.into_iter().for_each(plant);
    // Hashers, generators of dependencies and the engine's election timeouts: all of them draw their
    // seeds from the system, which from here on answers from this seed.
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
    let trace = Trace::default();
    trace.take_logs();
    let plan = Plan::new(seed, Duration::from_secs(arguments.seconds), arguments.calm);
    let clocks = mad_turmoil::time::SimClocksGuard::init();
    // A panic in a host is a bug like any other; its trace is wanted all the same.
    let verdict = catch_unwind(AssertUnwindSafe(|| simulation::run(&plan, &trace)));
    drop(clocks);

    let text = trace.look(str::to_owned);
    let crc = crc32c::crc32c(text.as_bytes());
    if let Some(path) = &arguments.trace
        && let Err(err) = std::fs::write(path, &text)
    {
        eprintln!("trace {} cannot be written: {err}", path.display());
        return ExitCode::FAILURE;
    }
    let what = format!("trace of {} lines, crc32c {crc:08x}", text.lines().count());
    match verdict {
        Ok(Verdict { violations, report }) if violations.is_empty() => {
            let void = report.void();
            let held = void.as_ref().map_or("held".to_owned(), |why| format!("void, {why}"));
            eprintln!("seed {seed} {held}: {report}, {what}");
            if void.is_some() && !arguments.calm { ExitCode::from(VOID) } else { ExitCode::SUCCESS }
        }
        Ok(Verdict { violations, report }) => {
            eprintln!("seed {seed} violated: {report}, {what}\nplan {plan}");
            for violation in violations {
                eprintln!("seed {seed} violated {}: {}", violation.invariant, violation.what);
            }
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("seed {seed} violated nothing_panics: {what}\nplan {plan}");
            ExitCode::FAILURE
        }
    }
}
