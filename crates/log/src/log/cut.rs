//! Taking entries away: truncate at the end, purge at the beginning, reset altogether.

use std::io;
use std::sync::Arc;

use tidelog_types::LogIndex;

use super::compacted::Compacted;
use super::create::{build, switch};
use super::flush::NoRoom;
use super::{Log, lock};
use crate::disk;
use crate::error::Error;
use crate::frontier::Frontier;
use crate::room::Failure;
use crate::segment::{Head, Index, Segment};
use crate::start::StartPoint;

/// Where a log is cut: what stays of the segment that becomes the last.
struct Cut {
    end: LogIndex,
    segment: Arc<Segment>,
    position: u64,
    frontier: Frontier,
    index: Index,
}

impl Log {
    /// Removes all entries behind `last`, or all with `None`, durably. Blocks.
    ///
    /// Flushes what is pending first, so that every completion is called. The durable mark is
    /// lowered before anything is cut: a crash in between leaves a shorter log, never one that looks
    /// damaged.
    ///
    /// # Errors
    /// [`Error::Full`] when something is pending for which there is no room; [`Error::Refused`]; damage;
    /// the disk.
    pub fn truncate_after(&self, last: Option<LogIndex>) -> Result<(), Error> {
        let _upkeep = lock(&self.upkeep);
        let _turn = lock(&self.turn);
        let (cut, dropped) = loop {
            self.settle()?;
            let first = self.first_index();
            let end = last.map_or(first, LogIndex::next);
            if end < first {
                return Err(Error::Refused {
                    reason: format!("cannot truncate to {end}, the log begins at {first}"),
                });
            }
            if end >= self.frontier().next_index() {
                return Ok(());
            }
            let cut = self.plan_cut(end)?;
            let lowered = self.env.votes.try_lower_mark(self.group, cut.end);
            lowered.map_err(|err| self.failed(err))?;
            // Something may have been appended while the disk was asked; then again.
            if let Some(dropped) = self.cut_memory(&cut) {
                break (cut, dropped);
            }
        };
        self.cut_disk(&cut, &dropped).map_err(|err| self.poisoned_by(err))
    }

    /// Flushes until nothing is pending.
    pub(super) fn settle(&self) -> Result<(), Error> {
        while self.state().has_pending() {
            self.alive()?;
            if let Err(NoRoom) = self.flush_pending() {
                self.await_room();
                return Err(Error::Full);
            }
        }
        self.alive()
    }

    fn plan_cut(&self, end: LogIndex) -> Result<Cut, Error> {
        let first = Arc::clone(self.state().first());
        let (segment, position, frontier) = if end == first.first_index() {
            let frontier = first.head.frontier;
            (first, Head::BYTES as u64, frontier)
        } else {
            let last = LogIndex(end.0 - 1);
            let (segment, entry) = self.find(last)?;
            (segment, entry.end, entry.envelope.header.frontier())
        };
        let mut index = segment.with_index(Clone::clone)?;
        index.cut(end);
        Ok(Cut { end, segment, position, frontier, index })
    }

    /// Cuts the log in memory; the segments that go. `None` when something is pending again.
    fn cut_memory(&self, cut: &Cut) -> Option<Vec<Arc<Segment>>> {
        let (freed, dropped) = {
            let mut state = self.state();
            if state.has_pending() {
                return None;
            }
            let keep = state.segment_of(LogIndex(cut.end.0.saturating_sub(1))).unwrap_or(0) + 1;
            let dropped: Vec<_> = state.segments.drain(keep..).collect();
            dropped.iter().for_each(|segment| segment.kill());
            cut.segment.cut(cut.position);
            cut.segment.set_index(cut.index.clone());
            state.starts.retain(|index, _| *index < cut.end);
            state.frontier = cut.frontier;
            state.synced = cut.frontier;
            state.fill = cut.position;
            (state.cut_tail(cut.end), dropped)
        };
        self.config.cache.give_back(freed);
        lock(&self.hot).retain(|hot| !dropped.iter().any(|gone| Arc::ptr_eq(gone, hot)));
        Some(dropped)
    }

    fn cut_disk(&self, cut: &Cut, dropped: &[Arc<Segment>]) -> io::Result<()> {
        let disk = &*self.env.disk;
        // Newest first and one by one, so that no crash leaves a hole between segments; the start
        // point goes before its segment, so that one without the other is never a crash's doing.
        for segment in dropped.iter().rev() {
            if disk::remove_if_there(disk, &segment.beside("start"))? {
                disk.sync_dir(&self.dir)?;
            }
            disk::remove_if_there(disk, &segment.beside("idx"))?;
            disk.remove_file(&segment.path)?;
            disk.sync_dir(&self.dir)?;
        }
        if disk::remove_if_there(disk, &cut.segment.beside("idx"))? {
            disk.sync_dir(&self.dir)?;
        }
        let file = cut.segment.writer()?;
        file.set_len(cut.position)?;
        file.sync_all()
    }

    /// Deletes the segments whose entries are all at or below `upto` and whose successor has its
    /// start point on disk. Keeps the last segment. Blocks.
    pub fn purge(&self, upto: LogIndex) -> Result<(), Error> {
        let _upkeep = lock(&self.upkeep);
        self.alive()?;
        let (freed, purged) = {
            let mut state = self.state();
            let may_be_first = |s: &Arc<Segment>| s.started() && s.first_index() <= upto.next();
            let Some(first) = state.segments.iter().rposition(may_be_first) else { return Ok(()) };
            let purged: Vec<_> = state.segments.drain(..first).collect();
            // Under the lock: who misses them in the log must see them dead.
            purged.iter().for_each(|segment| segment.kill());
            let end = state.first_index();
            (state.evict(end), purged)
        };
        self.config.cache.give_back(freed);
        lock(&self.hot).retain(|hot| !purged.iter().any(|gone| Arc::ptr_eq(gone, hot)));
        self.remove_oldest(&purged).map_err(|err| self.poisoned_by(err))
    }

    /// Oldest first and one by one: what a crash leaves has no hole. The segment goes before its
    /// start point, so a first segment without one is never a crash's doing.
    fn remove_oldest(&self, purged: &[Arc<Segment>]) -> io::Result<()> {
        let disk = &*self.env.disk;
        for segment in purged {
            disk.remove_file(&segment.path)?;
            disk.sync_dir(&self.dir)?;
            disk::remove_if_there(disk, &segment.beside("idx"))?;
            disk::remove_if_there(disk, &segment.beside("start"))?;
        }
        Ok(())
    }

    /// Empties the log, which then begins at `start`, after a snapshot was installed. Blocks.
    ///
    /// The new log is built beside the old one and takes its place by renaming: after a crash it is
    /// either the old log or the new one.
    ///
    /// # Errors
    /// [`Error::Full`] when there is no room for it, or for what is pending; [`Error::Refused`]; the disk.
    pub fn reset(&self, start: StartPoint) -> Result<(), Error> {
        if start.frontier.next_index() != start.index || start.index == LogIndex::ZERO {
            return Err(Error::Refused { reason: format!("no log begins at {}", start.index) });
        }
        let _upkeep = lock(&self.upkeep);
        let _turn = lock(&self.turn);
        self.settle()?;
        let segment = self.reset_disk(&start).map_err(|err| self.failed(err))?;
        let freed = {
            let mut state = self.state();
            let freed = state.drop_tail();
            state.segments.drain(..).for_each(|segment| segment.kill());
            state.segments.push_back(Arc::new(segment));
            state.planned.clear();
            state.unindexed.clear();
            state.starts.clear();
            state.frontier = start.frontier;
            state.synced = start.frontier;
            state.fill = Head::BYTES as u64;
            state.compacted = Compacted::default();
            state.rolls = false;
            state.uncompactions += 1;
            freed
        };
        self.config.cache.give_back(freed);
        lock(&self.hot).clear();
        self.env.votes.raise_mark(self.group, start.index);
        Ok(())
    }

    fn reset_disk(&self, start: &StartPoint) -> Result<Segment, Failure> {
        // The new log ends at its beginning: a mark above it would make it look damaged.
        self.env.votes.try_lower_mark(self.group, start.index)?;
        let generation = (self.env.generations)();
        let head = Head { group: self.group, generation, frontier: start.frontier };
        let segment = build(&self.env, self.group, head, Some(start))?;
        // From here on a path of the old log may name a file of the new one.
        self.state().segments.iter().for_each(|segment| segment.kill());
        switch(&self.env, self.group)?;
        Ok(segment)
    }
}
