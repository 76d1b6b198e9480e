//! Making a closed segment whole again whose bytes have rotted.
//!
//! The entries before the damage are kept; those from there on come from another replica. The chain
//! vouches for them: the head of the next segment holds the chain value that they must end with, so
//! whoever sent them, what takes the damaged file's place are the entries that were here. That makes it
//! safe while the group goes on: to Raft nothing has happened.
//!
//! The other replica may have compacted them less, or further. From then on the segment counts as not
//! compacted, so that the next compaction takes out again what was superseded.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidelog_types::{LogIndex, Offset};

use super::rewrite::Rewrite;
use super::{Log, lock};
use crate::disk::{self, Disk, File, Open};
use crate::entry::NewEntry;
use crate::error::Error;
use crate::segment::Scanned;

/// How much is read at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

/// What the bytes of a damaged file are kept under, for people.
pub(super) const ROTTEN: &str = "rotten";

/// A closed segment that is being made whole.
#[derive(Debug)]
pub struct Mending {
    log: Arc<Log>,
    rewrite: Rewrite,
}

impl Log {
    /// Begins to mend the closed segment that begins at `first`: copies what is whole before the
    /// damage. Blocks.
    ///
    /// # Errors
    /// [`Error::Gone`] when the segment was purged or cut meanwhile; [`Error::Refused`] when it still
    /// takes entries; the disk.
    pub fn mend(self: &Arc<Self>, first: LogIndex) -> Result<Mending, Error> {
        let closed = self.closed_segment(first)?;
        // Before anything is fetched: from then on nobody may be told that it is compacted.
        self.uncompact(closed.segment.base_offset())?;
        let mut scanner = closed.segment.scan_apart(CHUNK_BYTES)?;
        let mut rewrite = Rewrite::begin(self, closed)?;
        while let Ok(Some(entry)) = scanner.next() {
            match rewrite.push(vec![as_new(entry)]) {
                Ok(()) => {}
                Err(err @ Error::Io { .. }) => return Err(err),
                // Damage that its CRC does not show, such as an entry of another place.
                Err(_) => break,
            }
        }
        Ok(Mending { log: Arc::clone(self), rewrite })
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
    /// The offset behind the last record of the segment.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.rewrite.end_offset()
    }

    /// Which entries are wanted; empty when there is nothing to fetch any more.
    #[must_use]
    pub fn wanted(&self) -> Range<LogIndex> {
        self.rewrite.missing()
    }

    /// Takes the next of the wanted entries, as another replica has them. Blocks.
    ///
    /// # Errors
    /// [`Error::ChainMismatch`] and the like when they are not what was here; the disk.
    pub fn push(&mut self, entries: &[NewEntry]) -> Result<(), Error> {
        self.rewrite.push(entries.to_vec())
    }

    /// Puts the whole segment in the place of the damaged one, whose bytes are kept aside; says
    /// where. Blocks.
    ///
    /// # Errors
    /// [`Error::Gone`] when the segment was purged or cut meanwhile; [`Error::Refused`] when entries
    /// are missing, or are not those that were here; the disk.
    pub fn finish(self) -> Result<PathBuf, Error> {
        let Self { log, rewrite } = self;
        let segment = Arc::clone(rewrite.segment());
        let aside = segment.beside(ROTTEN);
        rewrite.finish(|| {
            keep_aside(&*log.env.disk, &segment.path, &aside)?;
            // Again: a compaction that began meanwhile has seen the damaged segment.
            log.uncompact_within(segment.base_offset())
        })?;
        Ok(aside)
    }
}

/// A scanned entry, as one to write.
fn as_new(entry: Scanned) -> NewEntry {
    let header = entry.envelope.header;
    NewEntry {
        position: header.position,
        kind: header.kind,
        append_time: header.append_time,
        ordinal: header.ordinal,
        body: entry.parts,
        expect_chain: Some(header.chain),
        original: entry.envelope.table.original,
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
