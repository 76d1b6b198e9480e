//! The command line: one seed and its trace, or a range of seeds, one process each.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use rand_seed::SeedableRng;
use rand_seed::rngs::StdRng;

use crate::cluster;
use crate::range::{self, Seeds};
use crate::trace::Trace;

/// Run a simulated cluster, everything of which follows from a seed
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    what: What,
    /// Simulated seconds of load
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,
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
}

/// Runs what the arguments say.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match (arguments.what.seed, arguments.what.seeds) {
        (Some(seed), _) => run_seed(seed, &arguments),
        (None, Some(seeds)) => range::run(seeds, arguments.seconds),
        (None, None) => unreachable!("the parser asks for one of them"),
    }
}

fn run_seed(seed: u64, arguments: &Arguments) -> ExitCode {
    // Hashers, generators of dependencies and the engine's election timeouts: all of them draw their
    // seeds from the system, which from here on answers from this seed.
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
    let trace = Trace::default();
    trace.take_logs();
    let clocks = mad_turmoil::time::SimClocksGuard::init();
    let outcome = cluster::run(seed, Duration::from_secs(arguments.seconds), &trace);
    drop(clocks);

    let text = trace.take();
    let (lines, crc) = (text.lines().count(), crc32c::crc32c(text.as_bytes()));
    if let Some(path) = &arguments.trace
        && let Err(err) = std::fs::write(path, &text)
    {
        eprintln!("trace {} cannot be written: {err}", path.display());
        return ExitCode::FAILURE;
    }
    match outcome {
        Ok(report) => {
            eprintln!(
                "seed {seed} held: acked and read {}, trace of {lines} lines, crc32c {crc:08x}",
                report.acked
            );
            ExitCode::SUCCESS
        }
        Err(err) => {
            eprintln!("seed {seed} failed: {err} (trace of {lines} lines, crc32c {crc:08x})");
            ExitCode::FAILURE
        }
    }
}
