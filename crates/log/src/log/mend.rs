//! Making a closed segment whole again whose bytes have rotted.
//!
//! The entries before the damage are kept; those from there on come from another replica. The chain
//! vouches for them: the head of the next segment holds the chain value that they must end with, so
//! whoever sent them, what takes the damaged file's place is byte for byte what was written. That
//! makes it safe while the group goes on: to Raft nothing has happened.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidelog_types::LogIndex;

use super::flush::Encoded;
use super::state::Held;
use super::{Log, file_name, lock};
use crate::disk::{self, Disk, File, Open};
use crate::entry::NewEntry;
use crate::error::Error;
use crate::frontier::{Frontier, Inspected};
use crate::segment::{Head, Segment};

/// How much is read at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

/// What the bytes of a damaged file are kept under, for people.
pub(super) const ROTTEN: &str = "rotten";

/// What a segment is called while it is made whole.
pub(super) const MENDED: &str = "mended";

/// A closed segment that is being made whole.
#[derive(Debug)]
pub struct Mending {
    log: Arc<Log>,
    segment: Arc<Segment>,
    /// What it must end with.
    end: Frontier,
    /// What the copy ends with so far.
    frontier: Frontier,
    file: Arc<dyn File>,
    position: u64,
    cuts: usize,
}

impl Log {
    /// Begins to mend the closed segment that begins at `first`: copies what is whole before the
    /// damage. Blocks.
    ///
    /// # Errors
    /// [`Error::Gone`] when the segment was purged or cut meanwhile; [`Error::Refused`] when it still
    /// takes entries; the disk.
    pub fn mend(self: &Arc<Self>, first: LogIndex) -> Result<Mending, Error> {
        let (segment, end) = {
            let state = self.state();
            let at =
                state.segment_of(first).filter(|at| state.segments[*at].first_index() == first);
            let at = at.ok_or(Error::Gone { index: first })?;
            let Some(next) = state.segments.get(at + 1) else {
                return Err(Error::Refused { reason: format!("segment {first} takes entries") });
            };
            (Arc::clone(&state.segments[at]), next.head.frontier)
        };
        let mut scanner = segment.scan_apart(CHUNK_BYTES)?;
        let mut frontier = segment.head.frontier;
        let mut position = Head::BYTES as u64;
        while let Ok(Some(entry)) = scanner.next()
            && entry.follows(&frontier)
        {
            frontier = entry.envelope.header.frontier();
            position = entry.end;
        }
        let path = self.dir.join(file_name(first, MENDED));
        let io = |err| Error::io("copy segment", &path)(err);
        disk::remove_if_there(&*self.env.disk, &path).map_err(io)?;
        let file = self.env.disk.open(&path, Open::Create).map_err(io)?;
        file.write_at(&[IoSlice::new(&segment.head.encode())], 0).map_err(io)?;
        let whole = Head::BYTES as u64..position;
        copy(&*self.env.disk, &segment.path, &*file, whole).map_err(io)?;
        let (log, cuts) = (Arc::clone(self), scanner.cuts());
        Ok(Mending { log, segment, end, frontier, file, position, cuts })
    }

    /// Takes the damaged start point of a segment away that is not the first: the segment then counts
    /// as one without. Blocks.
    ///
    /// # Errors
    /// [`Error::Refused`] for the first segment, which needs its own; the disk.
    pub fn forget_start(&self, first: LogIndex) -> Result<(), Error> {
        let _upkeep = lock(&self.upkeep);
        let segment = {
            let state = self.state();
            if state.first_index() == first {
                return Err(Error::Refused { reason: format!("the log begins at {first}") });
            }
            let at = state.segment_of(first).ok_or(Error::Gone { index: first })?;
            Arc::clone(&state.segments[at])
        };
        let path = segment.beside("start");
        segment.set_unstarted();
        let removed = self.env.disk.remove_file(&path);
        removed
            .and_then(|()| self.env.disk.sync_dir(&self.dir))
            .map_err(Error::io("remove start point", path))
    }
}

impl Mending {
    /// Which entries are wanted; empty when there is nothing to fetch any more.
    #[must_use]
    pub fn wanted(&self) -> Range<LogIndex> {
        self.frontier.next_index()..self.end.next_index()
    }

    /// Takes the next of the wanted entries, as another replica has them. Blocks.
    ///
    /// # Errors
    /// [`Error::ChainMismatch`] and the like when they are not what was here; the disk.
    pub fn push(&mut self, entries: &[NewEntry]) -> Result<(), Error> {
        for entry in entries {
            if !self.wanted().contains(&entry.position.index) {
                let reason = format!("entry {} is not wanted", entry.position.index);
                return Err(Error::Refused { reason });
            }
            let body = Inspected::of(entry)?;
            let placed = self.frontier.place(entry, &body)?;
            self.frontier = placed.header.frontier();
            let held = Held {
                header: placed.header,
                batches: placed.batches,
                parts: body.parts,
                body: entry.body.clone(),
                position: self.position,
                begins: false,
            };
            // All before it is on stable storage, as it was when the entry was first written.
            let synced_end = placed.header.position.index;
            let generation = self.segment.head.generation;
            let encoded = Encoded::of(&[held], self.position, generation, synced_end);
            let written = encoded.write(&*self.file, self.position);
            written.map_err(Error::io("write segment", self.temporary()))?;
            self.position += encoded.bytes();
        }
        Ok(())
    }

    /// Puts the whole segment in the place of the damaged one, whose bytes are kept aside; says
    /// where. Blocks.
    ///
    /// # Errors
    /// [`Error::Gone`] when the segment was purged or cut meanwhile; [`Error::Refused`] when entries
    /// are missing, or are not those that were here; the disk.
    pub fn finish(self) -> Result<PathBuf, Error> {
        let _upkeep = lock(&self.log.upkeep);
        let first = self.segment.first_index();
        if !self.log.holds(&self.segment) || !self.segment.is_uncut_since(self.cuts) {
            return Err(Error::Gone { index: first });
        }
        if self.frontier != self.end || self.position != self.segment.end() {
            let reason = format!("segment {first} is not what it was: another history was fetched");
            return Err(Error::Refused { reason });
        }
        let aside = self.segment.beside(ROTTEN);
        self.replace(&aside).map_err(Error::io("replace segment", &self.segment.path))?;
        self.segment.was_replaced();
        Ok(aside)
    }

    /// At no moment is there no segment: the rename replaces it.
    fn replace(&self, aside: &Path) -> io::Result<()> {
        let disk = &*self.log.env.disk;
        self.file.sync_all()?;
        keep_aside(disk, &self.segment.path, aside)?;
        disk.rename(&self.temporary(), &self.segment.path)?;
        disk.sync_dir(&self.log.dir)
    }

    fn temporary(&self) -> PathBuf {
        self.segment.beside(MENDED)
    }
}

/// Copies the bytes of a damaged file, as far as the disk gives them.
pub(super) fn keep_aside(disk: &dyn Disk, path: &Path, aside: &Path) -> io::Result<()> {
    disk::remove_if_there(disk, aside)?;
    let kept = disk.open(aside, Open::Create)?;
    let bytes = disk.open(path, Open::Read)?.len()?;
    // A sector that cannot be read ends what can be kept, not the repair.
    let _ = copy(disk, path, &*kept, 0..bytes);
    kept.sync_all()
}

fn copy(disk: &dyn Disk, from: &Path, to: &dyn File, range: Range<u64>) -> io::Result<()> {
    let file = disk.open(from, Open::Read)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut position = range.start;
    while position < range.end {
        let wanted = (range.end - position).min(CHUNK_BYTES as u64) as usize;
        let read = file.read_at(&mut chunk[..wanted], position)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_at(&[IoSlice::new(&chunk[..read])], position)?;
        position += read as u64;
    }
    Ok(())
}
