//! Creating and deleting logs, so that a crash leaves a whole log or none.
//!
//! A new log is built in `<group>.new` and renamed; the one it replaces becomes `<group>.old`.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tidelog_types::{GroupId, LogIndex};

use super::env::{Config, Env};
use super::state::State;
use super::{Log, directory, file_name};
use crate::disk;
use crate::error::OpenError;
use crate::frontier::Frontier;
use crate::room::Failure;
use crate::segment::{Head, Segment};
use crate::start::StartPoint;

impl Log {
    /// Creates the log of a group and its vote record, durably. Blocks.
    ///
    /// With `start`, the log begins there, empty; without, at index 0. After a crash at any point
    /// it is either whole or not there at all. A group that was deleted can be created again.
    pub fn create(
        env: Env,
        group: GroupId,
        config: Config,
        start: Option<StartPoint>,
    ) -> Result<Arc<Self>, OpenError> {
        let dir = directory(&env.data, group);
        let io = |action| OpenError::io(action, dir.clone());
        let record = env.votes.get(group);
        if record.is_some_and(|record| !record.deleted) {
            return Err(OpenError::Exists { group });
        }
        if env.disk.exists(&dir).map_err(io("look for"))? {
            // Without a record it is a lost replica; with one, its deletion was cut short.
            if record.is_none() {
                return Err(OpenError::Exists { group });
            }
            disk::remove_tree(&*env.disk, &dir).map_err(io("remove"))?;
            env.disk.sync_dir(&env.data).map_err(io("remove"))?;
        }

        let frontier = start.as_ref().map_or_else(Frontier::default, |start| start.frontier);
        let head = Head { group, generation: (env.generations)(), frontier };
        let built = build(&env, group, head, start.as_ref());
        let segment = built.map_err(OpenError::failed("create", dir.clone()))?;
        let noted = env.votes.create_now(group, frontier.next_index());
        noted.map_err(OpenError::failed("create vote record of", dir.clone()))?;
        env.disk.rename(&beside(&env, group, "new"), &dir).map_err(io("create"))?;
        env.disk.sync_dir(&env.data).map_err(io("create"))?;
        let state = State::new([Arc::new(segment)].into(), frontier);
        Ok(Self::new(env, group, config, state))
    }

    /// Deletes the log of a group, first from the votes, then from the disk. Blocks.
    ///
    /// The group's vote outlives it, marked as deleted: Raft must not forget one. To finish a
    /// deletion that a crash cut short, call it again.
    pub fn delete(env: &Env, group: GroupId) -> Result<(), OpenError> {
        let dir = directory(&env.data, group);
        let io = |action| OpenError::io(action, dir.clone());
        if env.votes.get(group).is_none() {
            return Err(OpenError::Missing { group, reason: "it has no vote record" });
        }
        let noted = env.votes.delete_now(group);
        noted.map_err(OpenError::failed("delete vote record of", dir.clone()))?;
        for dir in [dir.clone(), beside(env, group, "new"), beside(env, group, "old")] {
            disk::remove_tree(&*env.disk, &dir).map_err(io("remove"))?;
        }
        env.disk.sync_dir(&env.data).map_err(io("remove"))
    }
}

/// `<group>.<extension>` in the data directory.
fn beside(env: &Env, group: GroupId, extension: &str) -> PathBuf {
    env.data.join(format!("{group}.{extension}"))
}

/// Builds an empty log in `<group>.new`, durably. The segment's path is the one it will have. On a full
/// disk nothing of it stays.
pub(super) fn build(
    env: &Env,
    group: GroupId,
    head: Head,
    start: Option<&StartPoint>,
) -> Result<Segment, Failure> {
    let built = try_build(env, group, head, start);
    if let Err(Failure::Full(_)) = built {
        disk::remove_tree(&*env.disk, &beside(env, group, "new"))?;
    }
    built
}

fn try_build(
    env: &Env,
    group: GroupId,
    head: Head,
    start: Option<&StartPoint>,
) -> Result<Segment, Failure> {
    let dir = beside(env, group, "new");
    disk::remove_tree(&*env.disk, &dir)?;
    env.disk.create_dir(&dir).map_err(Failure::of_write)?;
    let first_index = head.frontier.next_index();
    if let Some(start) = start {
        let path = dir.join(file_name(first_index, "start"));
        disk::try_replace(&*env.disk, &path, &start.encode())?;
    }
    let name = file_name(first_index, "log");
    let mut segment = Segment::create(&env.disk, dir.join(&name), head)?;
    segment.path = directory(&env.data, group).join(name);
    if start.is_some() || first_index == LogIndex::ZERO {
        segment.set_started();
    }
    env.disk.sync_dir(&env.data)?;
    Ok(segment)
}

/// Puts `<group>.new` in the place of the log.
///
/// Between the two renames the log is not there; recovery then goes on with the second.
pub(super) fn switch(env: &Env, group: GroupId) -> io::Result<()> {
    let (dir, old) = (directory(&env.data, group), beside(env, group, "old"));
    disk::remove_tree(&*env.disk, &old)?;
    env.disk.rename(&dir, &old)?;
    env.disk.sync_dir(&env.data)?;
    env.disk.rename(&beside(env, group, "new"), &dir)?;
    env.disk.sync_dir(&env.data)?;
    disk::remove_tree(&*env.disk, &old)
}

/// After a crash: finishes or undoes what was being switched. `false` when there is no log.
pub(super) fn finish_switch(env: &Env, group: GroupId) -> io::Result<bool> {
    let dir = directory(&env.data, group);
    let new = beside(env, group, "new");
    if !env.disk.exists(&dir)? {
        if !env.disk.exists(&new)? {
            return Ok(false);
        }
        env.disk.rename(&new, &dir)?;
    }
    // Also when nothing was renamed now: a process that was killed may have renamed without syncing.
    env.disk.sync_dir(&env.data)?;
    disk::remove_tree(&*env.disk, &new)?;
    disk::remove_tree(&*env.disk, &beside(env, group, "old"))?;
    Ok(true)
}
