//! The command line: one seed and its trace, or a range of seeds, one process each.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::panic;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use rand_seed::SeedableRng;
use rand_seed::rngs::StdRng;

use tidelog_types::canary::{Canary, plant};

use crate::canaries;
use crate::history::{Shared, Violation};
use crate::plan::Plan;
use crate::range::{self, Seeds};
use crate::report;
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
    /// How many seeds are run at a time [default: as many as there are cores]
    #[arg(long, value_name = "N", conflicts_with = "seed")]
    jobs: Option<NonZeroUsize>,
}

/// What to run.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Run this seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run the seeds from A up to, but not including, B
    #[arg(long, value_name = "A..B")]
    seeds: Option<Seeds>,
    /// Plant one bug after the other and tell which seed catches it
    #[arg(long)]
    canaries: bool,
    /// Run the seeds from A up to, but not including, B, and every other proof there is, and write what
    /// was seen to docs/reliability.md
    #[arg(long, value_name = "A..B")]
    report: Option<Seeds>,
}

/// The exit code of a seed that proves nothing.
pub(crate) const VOID: u8 = 3;

/// Runs what the arguments say.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let jobs = arguments.jobs.map_or_else(cores, NonZeroUsize::get);
    let What { seed, seeds, report, canaries: _ } = arguments.what;
    match (seed, seeds, report) {
        (Some(seed), _, _) => run_seed(seed, &arguments),
        (None, Some(seeds), _) => range::run(seeds, arguments.seconds, jobs).tell(),
        (None, None, Some(seeds)) => report::run(seeds, arguments.seconds, jobs),
        (None, None, None) => canaries::run(arguments.seconds, jobs).tell(),
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
    let history = Shared::default();
    end_at_a_panic(seed, &plan, &history, &trace, arguments.trace.clone());
    let clocks = mad_turmoil::time::SimClocksGuard::init();
    let verdict = simulation::run(&plan, &trace, &history);
    drop(clocks);

    let text = trace.look(str::to_owned);
    let crc = crc32c::crc32c(text.as_bytes());
    if let Some(path) = &arguments.trace
        && let Err(err) = fs::write(path, &text)
    {
        eprintln!("trace {} cannot be written: {err}", path.display());
        return ExitCode::FAILURE;
    }
    let what = format!("trace of {} lines, crc32c {crc:08x}", text.lines().count());
    let Verdict { violations, report } = verdict;
    // To whoever adds up; what is said to people goes to stderr.
    if let Err(err) = write!(io::stdout(), "{}", report.figures()) {
        eprintln!("the figures cannot be written: {err}");
        return ExitCode::FAILURE;
    }
    if violations.is_empty() {
        let void = report.void();
        let held = void.as_ref().map_or("held".to_owned(), |why| format!("void, {why}"));
        eprintln!("seed {seed} {held}: {report}, {what}");
        if void.is_some() && !arguments.calm { ExitCode::from(VOID) } else { ExitCode::SUCCESS }
    } else {
        eprintln!("seed {seed} violated: {report}, {what}\nplan {plan}");
        tell(seed, &violations);
        ExitCode::FAILURE
    }
}

/// Prints what was violated: the first case of each invariant, and how many more there were.
fn tell(seed: u64, violations: &[Violation]) {
    let mut more: BTreeMap<&str, usize> = BTreeMap::new();
    for Violation { invariant, .. } in violations {
        *more.entry(invariant).or_default() += 1;
    }
    for Violation { invariant, what } in violations {
        match more.remove(invariant) {
            Some(1) => eprintln!("seed {seed} violated {invariant}: {what}"),
            Some(all) => {
                eprintln!("seed {seed} violated {invariant}: {what}, and {} more", all - 1);
            }
            None => {}
        }
    }
}

/// Lets a panic in a host end the process with all that is known: it is a bug like any other, and
/// unwinding through a simulation panics again.
fn end_at_a_panic(
    seed: u64,
    plan: &Plan,
    history: &Shared,
    trace: &Trace,
    trace_to: Option<PathBuf>,
) {
    let (plan, history, trace) = (plan.to_string(), history.clone(), trace.clone());
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        usual(info);
        // Whoever panicked may hold the locks.
        let written = trace_to.as_ref().zip(trace.try_text()).map(|(to, text)| fs::write(to, text));
        if let Some(Err(err)) = written {
            eprintln!("the trace cannot be written: {err}");
        }
        eprintln!("seed {seed} violated: it panicked\nplan {plan}");
        tell(seed, &history.try_violations().unwrap_or_default());
        eprintln!("seed {seed} violated nothing_panics: {info}");
        std::process::exit(1);
    }));
}
