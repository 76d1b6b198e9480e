//! Writing a closed segment anew, beside the one that it will replace.
//!
//! The new file has a generation of its own, so that nothing that was derived from the old one, such
//! as its index, can pass for the new one's. It holds the same entries: the chain, from the frontier
//! before the segment to the one that the next segment begins with, proves it.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use tidelog_types::{LogIndex, Offset};

use super::flush::Encoded;
use super::state::Held;
use super::{Log, lock};
use crate::disk::{File, Open};
use crate::entry::NewEntry;
use crate::error::Error;
use crate::frontier::{Frontier, Inspected, Placed};
use crate::segment::{Head, Index, Segment};

/// What a segment is called while it is written anew, behind its first index and the generation of the
/// new file: two may be at work on one segment, and only one of them takes its place.
pub(super) const REWRITTEN: &str = "rewritten";

/// A closed segment that is written anew.
#[derive(Debug)]
pub(super) struct Rewrite {
    log: Arc<Log>,
    /// The one that is to be replaced.
    old: Closed,
    head: Head,
    /// What the new one ends with so far.
    frontier: Frontier,
    file: Arc<dyn File>,
    position: u64,
    index: Index,
    /// The file has another name, and is not to be removed.
    is_in_place: bool,
}

impl Log {
    /// The closed segment that begins at `first`.
    ///
    /// # Errors
    /// [`Error::Gone`] when none begins there; [`Error::Refused`] when it still takes entries.
    pub(super) fn closed_segment(&self, first: LogIndex) -> Result<Closed, Error> {
        let state = self.state();
        let at = state.segment_of(first).filter(|at| state.segments[*at].first_index() == first);
        let at = at.ok_or(Error::Gone { index: first })?;
        let Some(next) = state.segments.get(at + 1) else {
            return Err(Error::Refused { reason: format!("segment {first} takes entries") });
        };
        let segment = &state.segments[at];
        let (segment, cuts) = (Arc::clone(segment), segment.cuts());
        Ok(Closed { segment, end: next.head.frontier, cuts })
    }
}

/// A segment as it was when another followed it. It may have been cut since, and take entries again.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    pub(super) segment: Arc<Segment>,
    /// What it ends with.
    pub(super) end: Frontier,
    /// How often it had been cut.
    cuts: usize,
}

impl Rewrite {
    /// Begins to write a segment anew. Blocks.
    pub(super) fn begin(log: &Arc<Log>, old: Closed) -> Result<Self, Error> {
        // A log that was retired meanwhile has no business in the directory.
        let _upkeep = lock(&log.upkeep);
        log.alive()?;
        let head = Head { generation: (log.env.generations)(), ..old.segment.head };
        let path = path(&old.segment, head.generation);
        let begin = || {
            let file = log.env.disk.open(&path, Open::Create)?;
            file.write_at(&[IoSlice::new(&head.encode())], 0)?;
            Ok(file)
        };
        let file = begin().map_err(Error::io("create segment", &path))?;
        Ok(Self {
            log: Arc::clone(log),
            frontier: head.frontier,
            head,
            old,
            file,
            position: Head::BYTES as u64,
            index: Index::default(),
            is_in_place: false,
        })
    }

    /// Which entries are missing; empty when there is nothing to push any more.
    pub(super) fn missing(&self) -> Range<LogIndex> {
        self.frontier.next_index()..self.old.end.next_index()
    }

    /// Takes the next of the missing entries. Blocks.
    ///
    /// # Errors
    /// [`Error::ChainMismatch`] and the like when they are not those of the segment; the disk.
    pub(super) fn push(&mut self, entries: Vec<NewEntry>) -> Result<(), Error> {
        let (start, mut position) = (self.position, self.position);
        let mut run = Vec::with_capacity(entries.len());
        for entry in entries {
            if !self.missing().contains(&entry.position.index) {
                let reason = format!("entry {} is not wanted", entry.position.index);
                return Err(Error::Refused { reason });
            }
            let body = Inspected::of(&entry)?;
            let Placed { header, batches } = self.frontier.place(&entry, &body)?;
            self.frontier = header.frontier();
            let bytes = body.table.entry_bytes();
            let (table, body) = (body.table, entry.body);
            let held = Held { header, batches, table, body, position, begins: false };
            let every = self.log.config.index_every_bytes;
            self.index.note(&held.header, held.max_timestamp(), position, every);
            position += bytes;
            run.push(held);
        }
        // All before it is on stable storage, as it was when the entries were first written.
        let Some(first) = run.first() else { return Ok(()) };
        let synced_end = first.header.position.index;
        let encoded = Encoded::of(&run, start, self.head.generation, synced_end);
        let written = encoded.write(&*self.file, start);
        let path = path(&self.old.segment, self.head.generation);
        written.map_err(Error::io("write segment", path))?;
        self.position = position;
        Ok(())
    }

    /// The offset that the segment ends with.
    pub(super) const fn end_offset(&self) -> Offset {
        self.old.end.next_offset
    }

    /// The bytes of the file so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.position
    }

    /// The segment that it replaces.
    pub(super) const fn segment(&self) -> &Arc<Segment> {
        &self.old.segment
    }

    /// Puts the new segment in the place of the old one, once `prepare` has done what it must before.
    /// Blocks.
    ///
    /// # Errors
    /// [`Error::Gone`] when the segment was purged or cut meanwhile; [`Error::Refused`] when entries
    /// are missing, or are not those that were here; the disk.
    pub(super) fn finish(mut self, prepare: impl FnOnce() -> io::Result<()>) -> Result<(), Error> {
        let (log, Closed { segment, end, cuts }) = (Arc::clone(&self.log), self.old.clone());
        let failed = Error::io("replace segment", &segment.path);
        // Not under the lock: it takes long, and nobody but us knows the file.
        self.file.sync_all().map_err(failed)?;
        let _upkeep = lock(&log.upkeep);
        log.alive()?;
        let first = segment.first_index();
        let is_closed = !log.state().is_last(&segment);
        if !log.holds(&segment) || !segment.is_uncut_since(cuts) || !is_closed {
            return Err(Error::Gone { index: first });
        }
        if self.frontier != end {
            let reason = format!("segment {first} is not what it was: another history was fetched");
            return Err(Error::Refused { reason });
        }
        prepare().map_err(Error::io("replace segment", &segment.path))?;
        self.switch().map_err(|err| log.poisoned_by(err))
    }

    /// Readers are given the new segment first, through the file that is open: the path names the old
    /// file until the rename, and at no moment names none. A crash in between leaves the old one.
    fn switch(&mut self) -> io::Result<()> {
        let (log, old) = (&self.log, &self.old.segment);
        let disk = &log.env.disk;
        let file = Some(Arc::clone(&self.file));
        let new = Segment::new(Arc::clone(disk), old.path.clone(), self.head, file, self.position);
        new.set_index(self.index.clone());
        let new = Arc::new(new);
        let freed = {
            let mut state = log.state();
            if old.started() {
                new.set_started();
            }
            let at = state.segment_of(old.first_index()).expect("the log holds the segment");
            state.segments[at] = Arc::clone(&new);
            // Under the lock: who misses it in the log must see it dead.
            old.kill();
            // What is in memory is as it was appended.
            state.evict(self.old.end.next_index())
        };
        log.config.cache.give_back(freed);
        lock(&log.hot).retain(|hot| !Arc::ptr_eq(hot, old));
        disk.rename(&path(old, self.head.generation), &old.path)?;
        self.is_in_place = true;
        disk.sync_dir(&log.dir)?;
        new.close();
        // A flush job writes its index points, when there is room.
        log.state().unindexed.push_back(new);
        log.submit();
        Ok(())
    }
}

impl Drop for Rewrite {
    fn drop(&mut self) {
        if !self.is_in_place {
            let path = path(&self.old.segment, self.head.generation);
            // What stays is removed when the log is opened again.
            let _ = self.log.env.disk.remove_file(&path);
        }
    }
}

fn path(segment: &Segment, generation: u64) -> PathBuf {
    segment.beside(&format!("{generation:016x}.{REWRITTEN}"))
}
