//! The node's votes, commits and durable marks, in one file with group commit.

mod file;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use tidelog_types::{GroupId, LogIndex, LogPosition, NodeId};

use crate::disk::Disk;
use crate::error::OpenError;
use crate::flusher::{FlushJob, Flusher};
use crate::log::Done;
use crate::room::{Failure, Room};
use crate::stats::Stats;
use file::VotesFile;
pub(crate) use file::{FORMAT, read};
pub use record::{GroupRecord, Vote};

/// The votes of a node: what Raft must never forget, of all its groups.
///
/// Invariants:
/// - A vote never goes back, in memory or over a restart.
/// - A mark on disk is never above what is on stable storage in its group's log.
/// - A completion is called after the fsync that covers its record.
pub struct VotesLog {
    me: Weak<Self>,
    flusher: Arc<dyn Flusher>,
    stats: Arc<Stats>,
    room: Room,
    state: Mutex<State>,
    /// The flush lock.
    file: Mutex<VotesFile>,
    queued: AtomicBool,
}

#[derive(Default)]
struct State {
    groups: BTreeMap<GroupId, GroupRecord>,
    /// Groups whose record on disk is not the newest.
    dirty: BTreeSet<GroupId>,
    done: Vec<Done>,
    /// A change that must not be forgotten is among the dirty ones.
    urgent: bool,
    /// Something to vouch for the last flush is wanted.
    seal: bool,
    /// What is dirty found no room on the disk.
    waits: bool,
    poison: Option<Arc<io::Error>>,
}

impl fmt::Debug for VotesLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VotesLog").field("groups", &self.state().groups.len()).finish()
    }
}

impl VotesLog {
    /// Opens the votes at `path`, or creates them when the file is not there. Blocks.
    ///
    /// Errors: [`OpenError::Corrupt`] when a record is damaged that was on stable storage, which is
    /// a forgotten vote: the node must come back as another incarnation. [`OpenError::Foreign`] when
    /// the file is another node's.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        flusher: Arc<dyn Flusher>,
        node: NodeId,
    ) -> Result<Arc<Self>, OpenError> {
        let (file, groups) = VotesFile::open(disk, path, node)?;
        Ok(Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            flusher,
            stats: Arc::default(),
            room: Room::default(),
            state: Mutex::new(State { groups, ..State::default() }),
            file: Mutex::new(file),
            queued: AtomicBool::new(false),
        }))
    }

    /// What is remembered of a group; also what is not on disk yet.
    #[must_use]
    pub fn get(&self, group: GroupId) -> Option<GroupRecord> {
        self.state().groups.get(&group).copied()
    }

    /// All groups, deleted ones included, in their order.
    #[must_use]
    pub fn groups(&self) -> Vec<(GroupId, GroupRecord)> {
        self.state().groups.iter().map(|(group, record)| (*group, *record)).collect()
    }

    /// Begins to remember a group; one that was deleted keeps its vote. [`Log::create`](crate::Log::create)
    /// does this itself.
    pub fn create(&self, group: GroupId, done: Done) {
        self.change(done, |state| {
            state.create(group, LogIndex::ZERO);
            Ok(())
        });
    }

    /// Marks a group as deleted. [`Log::delete`](crate::Log::delete) does this itself.
    pub fn delete(&self, group: GroupId, done: Done) {
        self.change(done, |state| state.update(group, |record| record.deleted = true));
    }

    /// Marks a group as deleted whose other members go on without this node: a log made anew must have
    /// all entries up to `owed` before this node takes part in an election.
    pub fn give_up(&self, group: GroupId, owed: LogIndex, done: Done) {
        self.change(done, |state| {
            state.update(group, |record| {
                (record.deleted, record.owed) = (true, record.owed.max(owed));
            })
        });
    }

    /// Saves a vote. `done` is called after the fsync, or with an error: unknown group, a vote that
    /// goes back (`InvalidInput`), or a poisoned file.
    pub fn save_vote(&self, group: GroupId, vote: Vote, done: Done) {
        self.change(done, |state| {
            let record = state.groups.get(&group).copied().unwrap_or_default();
            if record.vote.is_some_and(|old| !vote.may_replace(&old)) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("vote {vote:?} of group {group} would take back {:?}", record.vote),
                ));
            }
            state.update(group, |record| record.vote = Some(vote))
        });
    }

    /// Notes a commit, in memory; written with the next flush or [`VotesLog::tick`]. Losing it only
    /// delays a recovery.
    pub fn note_commit(&self, group: GroupId, commit: LogPosition) {
        self.state().note(group, |record| {
            let newer = record.commit.is_none_or(|old| old < commit);
            if newer {
                record.commit = Some(commit);
            }
            newer
        });
    }

    /// Raises a durable mark, in memory; written with the next flush or [`VotesLog::tick`].
    ///
    /// Everything of the group's log below `mark` must be on stable storage.
    pub fn raise_mark(&self, group: GroupId, mark: LogIndex) {
        self.state().note(group, |record| {
            let higher = record.mark < mark;
            record.mark = record.mark.max(mark);
            higher
        });
    }

    /// Lowers a durable mark, durably. Blocks; flushes on the caller's thread.
    pub fn lower_mark(&self, group: GroupId, mark: LogIndex) -> io::Result<()> {
        Ok(self.try_lower_mark(group, mark)?)
    }

    /// The same, telling a full disk from other failures.
    pub(crate) fn try_lower_mark(&self, group: GroupId, mark: LogIndex) -> Result<(), Failure> {
        let lowered = {
            let mut state = self.state();
            let lowered = state.note(group, |record| {
                let lower = record.mark > mark;
                record.mark = record.mark.min(mark);
                lower
            });
            state.urgent |= lowered;
            lowered
        };
        // The mark on disk is never above the one in memory, but where an earlier change found no room:
        // so without a change there is nothing to write.
        if lowered { self.settle(group) } else { self.settle_pending(group) }
    }

    /// Writes what was only noted, and vouches for the last votes: from then on damage to them is
    /// told from a torn write. Call it about once a second, and before a planned stop.
    pub fn tick(&self) {
        self.state().seal = true;
        self.submit();
    }

    /// Whether the votes wait for room.
    #[must_use]
    pub fn waits_for_room(&self) -> bool {
        self.state().waits
    }

    /// Who waits for room on the node's disk.
    #[must_use]
    pub const fn room(&self) -> &Room {
        &self.room
    }

    /// The node's counters.
    #[must_use]
    pub const fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// The failure that poisoned the votes, if one did.
    #[must_use]
    pub fn poisoned(&self) -> Option<Arc<io::Error>> {
        self.state().poison.clone()
    }

    /// [`VotesLog::create`] at once, on the caller's thread.
    pub(crate) fn create_now(&self, group: GroupId, mark: LogIndex) -> Result<(), Failure> {
        self.state().create(group, mark);
        self.settle(group)
    }

    /// [`VotesLog::delete`] at once, on the caller's thread.
    pub(crate) fn delete_now(&self, group: GroupId) -> Result<(), Failure> {
        self.state().update(group, |record| record.deleted = true)?;
        self.settle(group)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under the lock of the votes")
    }

    fn change(&self, done: Done, change: impl FnOnce(&mut State) -> io::Result<()>) {
        let refused = {
            let mut state = self.state();
            let changed = match &state.poison {
                Some(poison) => Err(Arc::clone(poison)),
                None => change(&mut state).map_err(Arc::new),
            };
            match changed {
                Ok(()) => {
                    state.done.push(done);
                    None
                }
                Err(err) => Some((done, err)),
            }
        };
        match refused {
            Some((done, err)) => done(Err(err)),
            None => self.submit(),
        }
    }

    fn submit(&self) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        // Without an owner left there is nobody to flush for.
        if let Some(me) = self.me.upgrade() {
            self.flusher.submit(me);
        }
    }

    /// Writes what found no room before, if there is something of this group.
    pub(crate) fn settle_pending(&self, group: GroupId) -> Result<(), Failure> {
        match self.settled(group) {
            Err(Failure::Full(_)) => self.settle(group),
            settled => settled,
        }
    }

    /// Flushes on this thread: never waits for the pool, which may wait for us.
    fn settle(&self, group: GroupId) -> Result<(), Failure> {
        self.flush();
        self.settled(group)
    }

    fn settled(&self, group: GroupId) -> Result<(), Failure> {
        let state = self.state();
        match &state.poison {
            Some(poison) => Err(Failure::Final(as_io(poison))),
            None if state.waits && state.dirty.contains(&group) => {
                Err(Failure::Full(io::ErrorKind::StorageFull.into()))
            }
            None => Ok(()),
        }
    }

    /// Keeps what found no room for another try.
    fn put_back(&self, batch: Batch) {
        let mut state = self.state();
        state.waits = true;
        state.dirty.extend(batch.dirty.into_iter().map(|(group, _)| group));
        state.urgent |= batch.urgent;
        state.seal |= batch.seal;
        let newer = std::mem::replace(&mut state.done, batch.done);
        state.done.extend(newer);
        drop(state);
        self.room.await_by(self.me.clone());
    }

    fn poison(&self, done: Vec<Done>, err: io::Error) {
        let poison = Arc::new(err);
        let more = {
            let mut state = self.state();
            state.poison = Some(Arc::clone(&poison));
            std::mem::take(&mut state.done)
        };
        done.into_iter().chain(more).for_each(|done| done(Err(Arc::clone(&poison))));
    }
}

impl FlushJob for VotesLog {
    fn flush(&self) {
        self.queued.store(false, Ordering::Release);
        let mut file = self.file.lock().expect("nothing panics while the votes are written");
        let batch = {
            let mut state = self.state();
            match state.poison.clone() {
                Some(poison) => Err((poison, std::mem::take(&mut state.done))),
                None => Ok(state.take(&file)),
            }
        };
        let batch = match batch {
            Ok(batch) => batch,
            Err((poison, done)) => {
                done.into_iter().for_each(|done| done(Err(Arc::clone(&poison))));
                return;
            }
        };
        match batch.write(&mut file) {
            Ok(bytes) => {
                if bytes > 0 {
                    self.stats.count(bytes);
                }
                if std::mem::take(&mut self.state().waits) {
                    let me: Weak<dyn FlushJob> = self.me.clone();
                    self.room.leave(&me);
                }
                batch.done.into_iter().for_each(|done| done(Ok(())));
            }
            Err(Failure::Full(_)) => self.put_back(batch),
            Err(Failure::Final(err)) => self.poison(batch.done, err),
        }
    }
}

/// What one flush writes.
struct Batch {
    dirty: Vec<(GroupId, GroupRecord)>,
    /// All records, when they are to be written anew.
    all: Option<Vec<(GroupId, GroupRecord)>>,
    done: Vec<Done>,
    urgent: bool,
    seal: bool,
}

impl Batch {
    fn write(&self, file: &mut VotesFile) -> Result<u64, Failure> {
        if let Some(all) = &self.all {
            match file.compact(all) {
                // There may be room for what is new.
                Err(Failure::Full(_)) => {}
                compacted => return compacted,
            }
        }
        file.append(&self.dirty, self.urgent, self.seal)
    }
}

impl State {
    fn take(&mut self, file: &VotesFile) -> Batch {
        let dirty = std::mem::take(&mut self.dirty);
        let dirty: Vec<_> =
            dirty.into_iter().filter_map(|g| Some((g, *self.groups.get(&g)?))).collect();
        let all = file
            .wants_compaction(dirty.len(), self.groups.len())
            .then(|| self.groups.iter().map(|(g, r)| (*g, *r)).collect::<Vec<_>>());
        Batch {
            dirty,
            all,
            done: std::mem::take(&mut self.done),
            urgent: std::mem::take(&mut self.urgent),
            seal: std::mem::take(&mut self.seal),
        }
    }

    fn create(&mut self, group: GroupId, mark: LogIndex) {
        let record = self.groups.entry(group).or_default();
        let GroupRecord { vote, owed, .. } = *record;
        *record = GroupRecord { vote, owed, mark, ..GroupRecord::default() };
        self.dirty.insert(group);
        self.urgent = true;
    }

    fn update(&mut self, group: GroupId, change: impl FnOnce(&mut GroupRecord)) -> io::Result<()> {
        let record = self.groups.get_mut(&group).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("no vote record of group {group}"))
        })?;
        change(record);
        self.dirty.insert(group);
        self.urgent = true;
        Ok(())
    }

    /// Changes a record that exists; returns whether `change` says that it did.
    fn note(&mut self, group: GroupId, change: impl FnOnce(&mut GroupRecord) -> bool) -> bool {
        // A group that was never created, or whose log is being deleted: nothing to remember.
        let changed = self.groups.get_mut(&group).is_some_and(change);
        if changed {
            self.dirty.insert(group);
        }
        changed
    }
}

fn as_io(err: &Arc<io::Error>) -> io::Error {
    io::Error::new(err.kind(), Arc::clone(err))
}
