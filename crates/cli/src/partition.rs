//! `tidelog partition`: looks at partitions, moves their leaders and replicas, and mends them.

mod args;
mod list;
mod moves;
mod raft;
mod recover;
mod scrub;
mod transfer;

use std::process::ExitCode;

pub(crate) use args::{PartitionCommand, topic_partition};
pub(crate) use raft::look_at_all as rafts;

use crate::Failure;
use crate::args::Globals;
use crate::runtime::block_on;

/// Runs one of the commands.
pub(crate) fn run(globals: &Globals, command: PartitionCommand) -> Result<ExitCode, Failure> {
    block_on(async {
        match command {
            PartitionCommand::List(args) => list::run(globals, &args).await,
            PartitionCommand::TransferLeader(args) => transfer::run(globals, &args).await,
            PartitionCommand::Move(args) => moves::run(globals, &args).await,
            PartitionCommand::Raft(args) => raft::run(globals, &args).await,
            PartitionCommand::Scrub(args) => scrub::run(globals, &args).await,
            PartitionCommand::UnsafeRecover(args) => recover::run(globals, &args).await,
        }
    })
}
