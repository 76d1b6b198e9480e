//! `tidelog dump`: reads files of a data directory, without a broker.

mod segment;
mod votes;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use tidelog_log::OpenError;

pub(crate) use votes::views as votes;

use crate::args::Globals;
use crate::{Exit, Failure};

/// Read files of a data directory, without a broker.
#[derive(Debug, Subcommand)]
pub(crate) enum DumpCommand {
    /// Print the entries of a segment file (….log) and check every byte
    Segment(SegmentArgs),
    /// Print the votes and marks of a node (votes.log)
    Votes {
        /// The file
        file: PathBuf,
    },
}

/// Arguments of `dump segment`.
#[derive(Args, Debug)]
pub(crate) struct SegmentArgs {
    /// The file
    file: PathBuf,
    /// Print only whether the file is whole
    #[arg(long)]
    verify: bool,
}

/// Runs one of the commands.
pub(crate) fn run(globals: &Globals, command: DumpCommand) -> Result<ExitCode, Failure> {
    match command {
        DumpCommand::Segment(args) => segment::run(globals, &args.file, args.verify),
        DumpCommand::Votes { file } => votes::run(globals, &file),
    }
}

fn not_opened(error: &OpenError) -> Failure {
    let failure = Failure::because("the file cannot be dumped", error);
    match error {
        OpenError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            failure.exit(Exit::Usage)
        }
        _ => failure,
    }
}
