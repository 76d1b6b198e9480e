//! `tidelog group`: looks at consumer groups, moves and deletes them.

mod args;
mod delete;
mod delete_offsets;
mod describe;
mod lag;
mod list;
mod name;
mod seek;
mod view;

use std::process::ExitCode;

pub(crate) use args::GroupCommand;
pub(crate) use lag::PartitionLag;
pub(crate) use name::{group_name, instance_id};
pub(crate) use view::GroupView;

use lag::Lag;
use tidelog_client::admin::GroupFacts;

use crate::Failure;
use crate::args::Globals;
use crate::runtime::block_on;

/// A group as it is, how far it is in its partitions, and what leaders did not tell of that.
pub(crate) fn views(facts: GroupFacts) -> (GroupView, Vec<PartitionLag>, Vec<Failure>) {
    let group = GroupView::from(&facts);
    let Lag { partitions, untold, .. } = Lag::from(facts);
    (group, partitions, untold)
}

/// Runs one of the commands.
pub(crate) fn run(globals: &Globals, command: GroupCommand) -> Result<ExitCode, Failure> {
    block_on(async {
        match command {
            GroupCommand::List => list::run(globals).await,
            GroupCommand::Describe(args) => describe::run(globals, &args).await,
            GroupCommand::Seek(args) => seek::run(globals, &args).await,
            GroupCommand::Delete(args) => delete::run(globals, &args).await,
            GroupCommand::DeleteOffsets(args) => delete_offsets::run(globals, &args).await,
        }
    })
}
