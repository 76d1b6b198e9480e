//! `tidelog group list`.

use std::process::ExitCode;

use serde::Serialize;
use tidelog_client::admin::GroupSummary;

use super::view::state;
use crate::args::Globals;
use crate::connect::connect;
use crate::{Column, Failure, Page};

/// A group and how it is.
#[derive(Debug, Serialize)]
struct Listed {
    group: String,
    state: &'static str,
    members: u32,
}

const COLUMNS: &[Column] =
    &[Column::text("GROUP"), Column::text("STATE"), Column::number("MEMBERS")];

pub(super) async fn run(globals: &Globals) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let groups = client.admin().list_groups().await?;
    let groups: Vec<Listed> = groups.into_iter().map(Listed::from).collect();
    globals.output().items("group.list", &groups, |_| {
        Page::new().table(COLUMNS, groups.iter().map(Listed::cells))
    })?;
    Ok(ExitCode::SUCCESS)
}

impl From<GroupSummary> for Listed {
    fn from(group: GroupSummary) -> Self {
        Self { group: group.group.to_string(), state: state(group.state), members: group.members }
    }
}

impl Listed {
    fn cells(&self) -> Vec<String> {
        vec![self.group.clone(), self.state.to_owned(), self.members.to_string()]
    }
}
