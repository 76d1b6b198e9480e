//! `tidelog dump votes`.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use tidelog_log::disk::OsDisk;
use tidelog_log::{GroupRecord, dump};
use tidelog_types::GroupId;

use crate::args::Globals;
use crate::topic::or_dash;
use crate::{Column, Failure, Page};

/// What a node remembers of one Raft group.
#[derive(Debug, Serialize)]
pub(crate) struct VoteView {
    group: String,
    term: Option<u64>,
    voted_for: Option<String>,
    committed_vote: Option<bool>,
    commit_index: Option<u64>,
    mark: u64,
    deleted: bool,
}

const COLUMNS: &[Column] = &[
    Column::text("GROUP"),
    Column::number("TERM"),
    Column::text("VOTED-FOR"),
    Column::number("COMMIT"),
    Column::number("MARK"),
    Column::text("STATUS"),
];

pub(super) fn run(globals: &Globals, file: &Path) -> Result<ExitCode, Failure> {
    let groups = dump::votes(&OsDisk, file).map_err(|error| super::not_opened(&error))?;
    let votes = views(&groups);
    globals.output().items("dump.votes", &votes, |_| {
        Page::new().table(COLUMNS, votes.iter().map(VoteView::cells))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What a node remembers, group by group.
pub(crate) fn views(groups: &[(GroupId, GroupRecord)]) -> Vec<VoteView> {
    groups.iter().map(VoteView::new).collect()
}

impl VoteView {
    fn new((group, record): &(GroupId, GroupRecord)) -> Self {
        Self {
            group: group.to_string(),
            term: record.vote.map(|vote| vote.term.0),
            voted_for: record.vote.and_then(|vote| vote.node).map(|node| node.to_string()),
            committed_vote: record.vote.map(|vote| vote.committed),
            commit_index: record.commit.map(|commit| commit.index.0),
            mark: record.mark.0,
            deleted: record.deleted,
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.group.clone(),
            or_dash(self.term),
            or_dash(self.voted_for.as_ref()),
            or_dash(self.commit_index),
            self.mark.to_string(),
            if self.deleted { "deleted" } else { "open" }.to_owned(),
        ]
    }
}
