//! The node's votes, commits and durable marks, in one file with group commit.

use std::path::PathBuf;
use std::sync::Arc;

use tidelog_types::{GroupId, LogIndex, LogPosition, NodeId, Term};

use crate::disk::Disk;
use crate::error::OpenError;
use crate::flusher::Flusher;
use crate::log::Done;
use crate::stats::Stats;

/// A Raft vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The term.
    pub term: Term,
    /// For whom.
    pub node: Option<NodeId>,
    /// Whether a quorum granted it.
    pub committed: bool,
}

/// What the node remembers of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupRecord {
    /// The last vote.
    pub vote: Option<Vote>,
    /// A position that is known to be committed: a hint, it may be above the log after a crash.
    pub commit: Option<LogPosition>,
    /// The durable mark: every entry *below* this index is on stable storage. It lags behind.
    pub mark: LogIndex,
    /// Whether the group was deleted here. Its vote is kept.
    pub deleted: bool,
}

/// The votes of a node.
#[derive(Debug)]
pub struct VotesLog {}

impl VotesLog {
    /// Opens the votes at `path`, or creates them when the file is not there. Blocks.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        flusher: Arc<dyn Flusher>,
        node: NodeId,
    ) -> Result<Arc<Self>, OpenError> {
        let _ = (disk, path, flusher, node);
        todo!()
    }

    /// What is remembered of a group; also what is not on disk yet.
    #[must_use]
    pub fn get(&self, group: GroupId) -> Option<GroupRecord> {
        let _ = group;
        todo!()
    }

    /// All groups, deleted ones included.
    #[must_use]
    pub fn groups(&self) -> Vec<(GroupId, GroupRecord)> {
        todo!()
    }

    /// Begins to remember a group; one that was deleted keeps its vote. [`Log::create`](crate::Log::create)
    /// does this itself.
    pub fn create(&self, group: GroupId, done: Done) {
        let _ = (group, done);
        todo!()
    }

    /// Marks a group as deleted. [`Log::delete`](crate::Log::delete) does this itself.
    pub fn delete(&self, group: GroupId, done: Done) {
        let _ = (group, done);
        todo!()
    }

    /// Saves a vote. `done` is called after the fsync, or with an error: unknown group, a vote that
    /// goes back, or a poisoned file.
    pub fn save_vote(&self, group: GroupId, vote: Vote, done: Done) {
        let _ = (group, vote, done);
        todo!()
    }

    /// Notes a commit, in memory; written with the next flush or [`VotesLog::tick`].
    pub fn note_commit(&self, group: GroupId, commit: LogPosition) {
        let _ = (group, commit);
        todo!()
    }

    /// Raises a durable mark, in memory; written with the next flush or [`VotesLog::tick`].
    pub fn raise_mark(&self, group: GroupId, mark: LogIndex) {
        let _ = (group, mark);
        todo!()
    }

    /// Writes what was only noted. Call it about once a second, and before a planned stop.
    pub fn tick(&self) {
        todo!()
    }

    /// The node's counters.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        todo!()
    }
}
