//! `tidelog group delete`.

use std::process::ExitCode;

use serde::Serialize;
use tidelog_types::ErrorCode;

use super::args::DeleteArgs;
use super::name::group_name;
use crate::args::Globals;
use crate::confirm::confirm;
use crate::connect::connect;
use crate::output::plural;
use crate::{Failure, Page};

/// A group that is gone.
#[derive(Debug, Serialize)]
struct Deleted {
    group: String,
}

/// Deletes a group after asking.
pub(super) async fn run(globals: &Globals, args: &DeleteArgs) -> Result<ExitCode, Failure> {
    let group = group_name(&args.group)?;
    let admin = connect(globals).await?.admin();
    let facts = admin.describe_group(group.as_str()).await?;
    if !facts.members.is_empty() {
        // Nobody is asked about what will be refused.
        let members = plural(facts.members.len() as u64, "member");
        return Err(Failure::new(format!(
            "group {group} has {members} ({})",
            ErrorCode::NonEmptyGroup
        ))
        .next_step(format!("stop them first; see who they are: tidelog group describe {group}")));
    }
    let committed = facts.partitions.iter().filter(|partition| partition.committed.is_some());
    let offsets = plural(committed.count() as u64, "partition");
    confirm(globals, &format!("this deletes group {group}, and how far it is in {offsets}"))?;
    admin.delete_group(group.as_str()).await?;
    let deleted = Deleted { group: group.to_string() };
    let page = |_| Page::new().sentence(format!("deleted group {group}"));
    globals.output().item("group.delete", &deleted, page)?;
    Ok(ExitCode::SUCCESS)
}
