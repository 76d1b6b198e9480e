//! `tidelog debug`: what somebody needs who looks for a fault.

mod archive;
mod bundle;
mod cluster;
mod data;

use std::process::ExitCode;

use clap::Subcommand;

use crate::Failure;
use crate::args::Globals;
use crate::runtime::block_on;

/// Gather what somebody needs who looks for a fault.
#[derive(Debug, Subcommand)]
pub(crate) enum DebugCommand {
    /// Write everything about the cluster but its records into one .tar.gz, to send to who helps
    Bundle(bundle::BundleArgs),
}

/// Runs one of the commands.
pub(crate) fn run(globals: &Globals, command: DebugCommand) -> Result<ExitCode, Failure> {
    match command {
        DebugCommand::Bundle(args) => block_on(bundle::run(globals, &args)),
    }
}
