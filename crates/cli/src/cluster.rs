//! `tidelog cluster`: looks at the cluster and its brokers, and has them come and go.

mod brokers;
mod can_stop;
mod drain;
mod finalize_upgrade;
mod health;
mod info;
mod log_level;
mod outage;
mod rebalance;
mod remove;

use std::process::ExitCode;

use clap::Subcommand;

pub(crate) use brokers::look as brokers;
pub(crate) use health::look as health;
pub(crate) use info::look as info;

use crate::Failure;
use crate::args::Globals;
use crate::runtime::block_on;

/// Look at the cluster and its brokers, and empty or remove some.
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
    /// Move all replicas of a broker to others, while they are used
    Drain(drain::DrainArgs),
    /// Take a drained broker out of the cluster, for good
    Remove(remove::RemoveArgs),
    /// Spread replicas and leaders evenly over the brokers
    Rebalance(rebalance::RebalanceArgs),
    /// Raise the feature level once all brokers run a new version, for good
    FinalizeUpgrade(finalize_upgrade::FinalizeUpgradeArgs),
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
            ClusterCommand::Drain(args) => drain::run(globals, &args).await,
            ClusterCommand::Remove(args) => remove::run(globals, &args).await,
            ClusterCommand::Rebalance(args) => rebalance::run(globals, &args).await,
            ClusterCommand::FinalizeUpgrade(args) => finalize_upgrade::run(globals, &args).await,
            ClusterCommand::LogLevel(args) => log_level::run(globals, &args).await,
        }
    })
}
