//! `tidelog topic`: creates, lists, describes, configures and deletes topics; backups are in their own
//! room.

mod add_partitions;
mod args;
mod config;
mod create;
mod delete;
mod describe;
mod load;
mod trim;
mod view;

use std::process::ExitCode;

pub(crate) use args::TopicCommand;
pub(crate) use load::{describe, describe_with_offsets, partition_count, unknown_partition};
pub(crate) use view::{PartitionView, TopicView, ids, or_dash};

use crate::args::Globals;
use crate::runtime::block_on;
use crate::{Failure, backup};

/// Runs one of the commands.
pub(crate) fn run(globals: &Globals, command: TopicCommand) -> Result<ExitCode, Failure> {
    block_on(async {
        match command {
            TopicCommand::Create(args) => create::run(globals, &args).await,
            TopicCommand::List => describe::list(globals).await,
            TopicCommand::Describe(args) => describe::run(globals, &args).await,
            TopicCommand::Delete(args) => delete::run(globals, &args).await,
            TopicCommand::AddPartitions(args) => add_partitions::run(globals, &args).await,
            TopicCommand::Trim(args) => trim::run(globals, &args).await,
            TopicCommand::Config(args) => config::run(globals, &args).await,
            TopicCommand::Export(args) => backup::export(globals, &args).await,
            TopicCommand::Import(args) => backup::import(globals, &args).await,
        }
    })
}
