//! `tidelog bench`: how fast a cluster is, through the client that everybody uses.
//!
//! `produce`, `consume` and `e2e` load the cluster that the command line names; `failover` and
//! `partitions` start one of their own, and `disk` needs none. What they share stands in rooms of its
//! own: `options`, `topic`, `payload`, `source`, `latency`, `measured`, `watched`.
//!
//! Names in JSON mean the same everywhere: `records_per_s`, `mb_per_s` (values alone, 10^6 bytes),
//! `p50_ms`, `p99_ms`, `p999_ms`, `max_ms`.

mod consume;
mod disk;
mod e2e;
mod failover;
mod latency;
mod measured;
mod nodes;
mod options;
mod pace;
mod partitions;
mod payload;
mod process;
mod produce;
mod source;
mod topic;
mod verify;
mod watched;

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
    /// Measure records read per second, and how long each wait for the next batch takes
    Consume(consume::ConsumeArgs),
    /// Measure how long records take from when they are due until a reader has them
    E2e(e2e::EndToEndArgs),
    /// Measure how long a partition pauses when its leader is lost, with a cluster of its own
    Failover(failover::FailoverArgs),
    /// Measure what many idle partitions cost, with a cluster of its own
    Partitions(partitions::PartitionsArgs),
    /// Measure how fast the disk takes bytes that are to be safe, without a broker
    Disk(disk::DiskArgs),
    /// Write for `bench disk`
    #[command(hide = true)]
    DiskWriter(disk::WriterArgs),
}

/// Runs a measurement.
pub(crate) fn run(globals: &Globals, command: BenchCommand) -> Result<ExitCode, Failure> {
    match command {
        BenchCommand::Produce(args) => block_on(produce::run(globals, args)),
        BenchCommand::Consume(args) => block_on(consume::run(globals, args)),
        BenchCommand::E2e(args) => block_on(e2e::run(globals, args)),
        BenchCommand::Failover(args) => block_on(failover::run(globals, args)),
        BenchCommand::Partitions(args) => block_on(partitions::run(globals, args)),
        BenchCommand::Disk(args) => block_on(disk::run(globals, args)),
        BenchCommand::DiskWriter(args) => disk::run_writer(&args),
    }
}
