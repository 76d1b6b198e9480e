//! What is left of a log that recovery refuses, so that the rest can be fetched from its leader.
//!
//! Damage in a segment that is closed while the group goes on is mended in place ([`Log::mend`]).
//! Here the replica is out of its group. What lies before the damage is kept, the rest goes aside, and
//! the entries from there on are taken from the leader, just as if it had appended them. Until all
//! that the leader holds is here, the replica must not vote: it may have acked what it has lost. A
//! file in the log's directory says so, and [`Log::open`] refuses as long as it is there.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tidelog_types::{GroupId, LogIndex};

use super::compacted::Compacted;
use super::env::{Config, Env};
use super::mend::{ROTTEN, keep_aside};
use super::state::State;
use super::{Log, directory, file_name, lock};
use crate::disk::{self, Open};
use crate::error::{Error, OpenError};
use crate::frontier::Frontier;
use crate::room::Failure;
use crate::segment::{Head, Segment};
use crate::start::StartPoint;

/// The file that says that a log lacks what it once held.
pub(super) const UNFINISHED: &str = "unfinished";

/// What whole segments behind the damage are kept under until the log is whole again.
const ASIDE: &str = "aside";

/// What was left of a log.
#[derive(Debug)]
pub enum Salvaged {
    /// The log up to the damage.
    Prefix(Arc<Log>),
    /// Nothing: see [`Log::begin_again`].
    Nothing,
}

impl Log {
    /// From now on the log does not open before it was salvaged and filled up again. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn mark_damaged(env: &Env, group: GroupId) -> Result<(), OpenError> {
        let dir = directory(&env.data, group);
        mark_unfinished(env, &dir).map_err(OpenError::io("mark as damaged", dir))
    }

    /// Keeps what is whole of a damaged log, up to the first damage. Blocks.
    ///
    /// What it gives must not take part in its group before [`Log::finish_salvage`]. Calling it again
    /// after a crash goes on where it was.
    ///
    /// # Errors
    /// What [`Log::open`] answers, but for damage.
    pub fn salvage(env: &Env, group: GroupId, config: &Config) -> Result<Salvaged, OpenError> {
        let dir = directory(&env.data, group);
        mark_unfinished(env, &dir).map_err(OpenError::io("mark as unfinished", dir.clone()))?;
        let mut mark = env.votes.get(group).map_or(LogIndex::ZERO, |record| record.mark);
        loop {
            let opened = Self::recover(env.clone(), group, config.clone(), mark);
            let (path, position) = match opened {
                Ok(opened) => return Ok(Salvaged::Prefix(opened.log)),
                Err(OpenError::Corrupt { path, position, .. }) => (path, position),
                Err(err @ OpenError::Missing { .. }) => {
                    let emptied = is_emptied(env, &dir).map_err(OpenError::io("list", &dir))?;
                    return if emptied { Ok(Salvaged::Nothing) } else { Err(err) };
                }
                Err(err) => return Err(err),
            };
            let cut = cut_at(env, &dir, &path, position);
            if !cut.map_err(OpenError::io("set aside", path))? {
                // All that is left is whole; that it once went on is what the leader is for.
                mark = LogIndex::ZERO;
            }
        }
    }

    /// Sets all of a log aside that was salvaged: nothing is left of it then. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn set_aside(env: &Env, group: GroupId) -> Result<(), OpenError> {
        let dir = directory(&env.data, group);
        let io = |err| OpenError::io("set aside", dir.clone())(err);
        mark_unfinished(env, &dir).map_err(io)?;
        move_aside(env, &dir, LogIndex::ZERO, None).map(drop).map_err(io)
    }

    /// Begins a salvaged log again, with nothing of what was left; with `start`, there. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn begin_again(
        env: &Env,
        group: GroupId,
        config: &Config,
        start: Option<&StartPoint>,
    ) -> Result<Arc<Self>, OpenError> {
        let dir = directory(&env.data, group);
        let frontier = start.map_or_else(Frontier::default, |start| start.frontier);
        let first = frontier.next_index();
        Self::set_aside(env, group)?;
        let begin = || -> Result<Segment, Failure> {
            if let Some(start) = start {
                disk::try_replace(
                    &*env.disk,
                    &dir.join(file_name(first, "start")),
                    &start.encode(),
                )?;
            }
            let head = Head { group, generation: (env.generations)(), frontier };
            Segment::create(&env.disk, dir.join(file_name(first, "log")), head)
        };
        let segment = begin().map_err(OpenError::failed("begin", dir.clone()))?;
        segment.set_started();
        let state = State::new([Arc::new(segment)].into(), frontier);
        Ok(Self::new(env.clone(), group, config.clone(), state))
    }

    /// The salvaged log holds everything again that its leader holds: from now on it opens. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn finish_salvage(&self) -> Result<(), Error> {
        let _upkeep = lock(&self.upkeep);
        let _turn = lock(&self.turn);
        self.settle()?;
        let end = self.synced_end();
        let finish = || {
            // A leader that holds less than was here holds all that was ever committed.
            self.env.votes.lower_mark(self.group, end)?;
            self.env.votes.raise_mark(self.group, end);
            let disk = &*self.env.disk;
            for name in disk.list(&self.dir)? {
                if name.ends_with(ASIDE) {
                    disk.remove_file(&self.dir.join(name))?;
                }
            }
            disk.remove_file(&self.dir.join(UNFINISHED))?;
            disk.sync_dir(&self.dir)
        };
        finish().map_err(Error::io("finish", &self.dir))
    }
}

fn mark_unfinished(env: &Env, dir: &Path) -> io::Result<()> {
    let path = dir.join(UNFINISHED);
    // What comes from the leader may be compacted less.
    Compacted::forget(&*env.disk, dir)?;
    if !env.disk.exists(&path)? {
        env.disk.open(&path, Open::Create)?.sync_all()?;
    }
    env.disk.sync_dir(dir)
}

/// Whether a log has no segment left, for its segments were set aside.
fn is_emptied(env: &Env, dir: &Path) -> io::Result<bool> {
    let names = env.disk.list(dir)?;
    let set_aside = |name: &String| name.ends_with(ROTTEN) || name.ends_with(ASIDE);
    Ok(!names.iter().any(|name| name.ends_with(".log")) && names.iter().any(set_aside))
}

/// Ends the log before the damage at `position` of the file at `path`, which is kept. `false` when it
/// ended there anyway.
fn cut_at(env: &Env, dir: &Path, path: &Path, position: u64) -> io::Result<bool> {
    let disk = &*env.disk;
    let damaged = index_of(path).ok_or_else(|| io::Error::other("a file of no segment"))?;
    let whole_entries = position > 0;
    let mut cut = if whole_entries {
        move_aside(env, dir, damaged.next(), None)?
    } else {
        move_aside(env, dir, damaged, Some(damaged))?
    };
    if whole_entries {
        let file = disk.open(path, Open::Write)?;
        if file.len()? > position {
            keep_aside(disk, path, &path.with_extension(ROTTEN))?;
            file.set_len(position)?;
            file.sync_all()?;
            disk.sync_dir(dir)?;
            cut = true;
        }
    }
    Ok(cut)
}

/// Takes the segments away that begin at `from` or later; of the one at `rotten` the bytes are kept for
/// good, of the others until the log is whole. Whether there were any.
fn move_aside(env: &Env, dir: &Path, from: LogIndex, rotten: Option<LogIndex>) -> io::Result<bool> {
    let disk = &*env.disk;
    let names = disk.list(dir)?;
    let of_segments =
        names.iter().filter(|name| name.ends_with(".log") || name.ends_with(".start"));
    let indexes = of_segments.filter_map(|name| index_of(Path::new(name)));
    let indexes: BTreeSet<LogIndex> = indexes.filter(|index| *index >= from).collect();
    // Newest first, so that no crash leaves a hole.
    for index in indexes.iter().rev() {
        for extension in ["start", "idx"] {
            disk::remove_if_there(disk, &dir.join(file_name(*index, extension)))?;
        }
        let log = dir.join(file_name(*index, "log"));
        if disk.exists(&log)? {
            let kept = if Some(*index) == rotten { ROTTEN } else { ASIDE };
            disk.rename(&log, &log.with_extension(kept))?;
        }
        disk.sync_dir(dir)?;
    }
    Ok(!indexes.is_empty())
}

fn index_of(path: &Path) -> Option<LogIndex> {
    path.file_stem()?.to_str()?.parse().ok().map(LogIndex)
}
