//! `tidelog bench`: how fast a cluster is, through the client that everybody uses.

mod produce;

use std::process::ExitCode;

use clap::Subcommand;

use crate::Failure;
use crate::args::Globals;
use crate::runtime::block_on;

/// Commands of `tidelog bench`.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Measure acked records per second, and how long acks take
    Produce(produce::ProduceArgs),
}

/// Runs a measurement.
pub(crate) fn run(globals: &Globals, command: BenchCommand) -> Result<ExitCode, Failure> {
    match command {
        BenchCommand::Produce(args) => block_on(produce::run(globals, args)),
    }
}
