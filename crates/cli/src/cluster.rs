//! `tidelog cluster`: looks at the cluster and its brokers.

mod brokers;
mod can_stop;
mod health;
mod info;
mod log_level;

use std::process::ExitCode;

use clap::Subcommand;

use crate::Failure;
use crate::args::Globals;
use crate::runtime::block_on;

/// Look at the cluster and its brokers.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show the cluster's id, controller and size
    Info,
    /// Tell whether anything is wrong; exit with 10 if so
    Health(health::HealthArgs),
    /// Tell whether a broker may be stopped without harm; exit with 10 if it is needed
    CanStop(can_stop::CanStopArgs),
    /// List the brokers
    Brokers,
    /// Change what brokers log while they run
    LogLevel(log_level::LogLevelArgs),
}

/// Runs one of the commands.
pub(crate) fn run(globals: &Globals, command: ClusterCommand) -> Result<ExitCode, Failure> {
    block_on(async {
        match command {
            ClusterCommand::Info => info::run(globals).await,
            ClusterCommand::Health(args) => health::run(globals, &args).await,
            ClusterCommand::CanStop(args) => can_stop::run(globals, &args).await,
            ClusterCommand::Brokers => brokers::run(globals).await,
            ClusterCommand::LogLevel(args) => log_level::run(globals, &args).await,
        }
    })
}
