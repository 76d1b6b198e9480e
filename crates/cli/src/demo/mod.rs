//! `tidelog demo`: three brokers, 200,000 orders, a leader killed under load, everything killed at
//! the end, and an audit of what is left.
//!
//! The brokers are real processes, killed with SIGKILL. The producers write every ack into a file;
//! a process that has seen nothing of the run reads the topic and compares.

mod error;
mod load;
pub mod order;
mod read_back;
mod report;
mod story;
mod syncs;
mod tide;

use std::path::PathBuf;
use std::process::ExitCode;

pub use error::Error;
pub use load::{Load, LoadSetup, connect};
pub use read_back::{ledger_of, read_all, reduce};
pub use report::{BrokerReport, Report, Shape};
pub use story::leader_now;
pub use tide::Tide;

use crate::args::Globals;
use crate::interrupt::Interrupt;
use crate::local::Place;
use crate::target::Target;
use crate::{Exit, Failure, runtime};

/// The topic of the orders.
pub const TOPIC: &str = "orders";
const PARTITIONS: u32 = 3;
const BROKERS: u32 = 3;

/// Arguments of `tidelog demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Order events to produce
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(100..))]
    pub records: u64,
    /// Producers to share them
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub producers: u32,
    /// Directory for data, logs and acks, kept at the end; without it a temporary one, which is
    /// kept only when something fails
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Seed of the orders; random by default
    #[arg(long)]
    pub seed: Option<u64>,
    /// Compare the topic with the acks in this directory, for a run that is going on
    #[arg(long, hide = true, value_name = "DIR")]
    pub read_back: Option<PathBuf>,
}

/// Runs the demo, or the part of it that a process of its own does.
///
/// # Errors
/// The demo could not be finished, or its audit fails.
pub fn run(globals: &Globals, args: Args) -> Result<ExitCode, Failure> {
    let runtime = runtime::server(None)?;
    match &args.read_back {
        Some(dir) => runtime.block_on(second_process(globals, &args, dir)),
        None => runtime.block_on(first_process(globals, &args)),
    }
}

#[expect(clippy::print_stdout, reason = "the report is the result of the command")]
async fn first_process(globals: &Globals, args: &Args) -> Result<ExitCode, Failure> {
    let place = Place::new(args.dir.as_deref(), "tidelog-demo-");
    let place = place.map_err(|err| failed(err.into()))?;
    let mut interrupt = Interrupt::listen()?;
    let told = tokio::select! {
        biased;
        // Brokers and data go with what is dropped here.
        () = interrupt.asked() => return Err(Failure::new("interrupted before the audit")),
        told = story::tell(args, place.path()) => told,
    };
    let report = match told {
        Ok(report) => report,
        Err(err) => return Err(failed(err).next_step(kept(place))),
    };
    if globals.output().is_json() {
        println!("{}", report.to_json());
    } else {
        println!("{report}");
    }
    if report.holds {
        return Ok(ExitCode::SUCCESS);
    }
    let sentence = "the audit fails: the cluster broke a promise";
    Err(Failure::new(sentence).exit(Exit::Failed).next_step(kept(place)))
}

#[expect(clippy::print_stdout, reason = "the verdict is the result of the command")]
async fn second_process(
    globals: &Globals,
    args: &Args,
    dir: &std::path::Path,
) -> Result<ExitCode, Failure> {
    let verdict =
        story::read_back(&Target::find(globals)?.bootstrap, args, dir).await.map_err(failed)?;
    println!("{}", serde_json::to_string(&verdict).expect("counts have a form in JSON"));
    Ok(ExitCode::SUCCESS)
}

/// Keeps what is there, and says where.
fn kept(place: Place) -> String {
    format!("data, logs and acks are kept in {}", place.keep().display())
}

fn failed(err: Error) -> Failure {
    Failure::because("the demo did not finish", &err)
}
