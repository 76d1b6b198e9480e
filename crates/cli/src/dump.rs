//! `tidelog dump`: reads files of a data directory, without a broker.
use crate::{Failure, args::Globals};
use std::process::ExitCode;
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DumpCommand {
    /// Print the entries of a segment file
    Segment,
}
pub(crate) fn run(_: &Globals, _: DumpCommand) -> Result<ExitCode, Failure> {
    todo!()
}
