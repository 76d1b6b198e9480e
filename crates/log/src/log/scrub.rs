//! Reading every byte again, to find what has rotted while nobody looked.

use std::sync::Arc;

use tidelog_types::LogIndex;

use super::Log;
use crate::error::Error;
use crate::frontier::Frontier;
use crate::segment::{Head, Scanner, Segment};

/// Damage that was found in one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The first index of the segment.
    pub segment: LogIndex,
    /// Which of its files.
    pub place: DamagedFile,
    /// Whether the segment still takes entries: then only a restart of the replica can mend it.
    pub is_last: bool,
    /// What is wrong, and where.
    pub reason: String,
}

/// Which file of a segment is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamagedFile {
    /// The entries, or the head of their file: see [`Log::mend`].
    Entries,
    /// The start point of a segment that is not the first: see [`Log::forget_start`].
    Start,
    /// The start point of the first segment: nothing here can replace it.
    FirstStart,
}

/// What one step of a pass did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scrubbed {
    /// So many bytes were read, and hold.
    Clean(u64),
    /// Damage; the pass goes on behind the segment.
    Damaged(Damage),
    /// Everything was read.
    Over,
}

/// One pass over the bytes of a log that are on stable storage.
#[derive(Debug)]
pub struct Scrub {
    log: Arc<Log>,
    /// The next segment begins here or later.
    from: LogIndex,
    scan: Option<Scan>,
}

#[derive(Debug)]
struct Scan {
    segment: Arc<Segment>,
    scanner: Scanner,
    frontier: Frontier,
    /// What the segment must end with, if it is closed.
    end: Option<Frontier>,
}

impl Scrub {
    /// A pass from the first entry on.
    #[must_use]
    pub const fn new(log: Arc<Log>) -> Self {
        Self { log, from: LogIndex::ZERO, scan: None }
    }

    /// A pass from the segment on that holds `index`.
    #[must_use]
    pub fn at(log: Arc<Log>, index: LogIndex) -> Self {
        let from = {
            let state = log.state();
            state.segment_of(index).map(|at| state.segments[at].first_index())
        };
        Self { log, from: from.unwrap_or_default(), scan: None }
    }

    /// Checks about `bytes` more bytes. Blocks.
    ///
    /// # Errors
    /// The disk refuses to read.
    pub fn step(&mut self, bytes: usize) -> Result<Scrubbed, Error> {
        let Some(mut scan) = self.scan.take() else { return self.begin(bytes) };
        let found = scan.read(bytes as u64);
        // What was cut or purged while it was read proves nothing.
        if scan.segment.unmoved(&scan.scanner).is_err() {
            return Ok(Scrubbed::Clean(0));
        }
        match found {
            Ok(Some(read)) => {
                self.scan = Some(scan);
                Ok(Scrubbed::Clean(read))
            }
            Ok(None) => Ok(Scrubbed::Clean(0)),
            Err(err @ Error::Corrupt { .. }) => {
                Ok(self.damaged(&scan.segment, DamagedFile::Entries, err.to_string()))
            }
            Err(err) => Err(err),
        }
    }

    /// Begins with the next segment: its start point, and the head of its entries.
    fn begin(&mut self, chunk: usize) -> Result<Scrubbed, Error> {
        let Some((segment, end)) = self.log.segment_at_or_after(self.from) else {
            return Ok(Scrubbed::Over);
        };
        self.from = segment.first_index().next();
        let scan = match segment.scan_apart(chunk) {
            Err(_) if !self.log.holds(&segment) => return Ok(Scrubbed::Clean(0)),
            scanner => Scan {
                frontier: segment.head.frontier,
                scanner: scanner?,
                segment: Arc::clone(&segment),
                end,
            },
        };
        let head_holds = segment.head_holds()?;
        let start_holds = self.start_holds(&segment)?;
        if !self.log.holds(&segment) {
            return Ok(Scrubbed::Clean(0));
        }
        let path = segment.path.display();
        if !head_holds {
            return Ok(self.damaged(&segment, DamagedFile::Entries, format!("{path}: bad head")));
        }
        // Whatever its start point is like, its entries are still to be looked at.
        self.scan = Some(scan);
        if !start_holds {
            let is_first = self.log.first_index() == segment.first_index();
            let place = if is_first { DamagedFile::FirstStart } else { DamagedFile::Start };
            return Ok(self.damaged(&segment, place, format!("{path}: bad start point")));
        }
        Ok(Scrubbed::Clean(Head::BYTES as u64))
    }

    fn start_holds(&self, segment: &Segment) -> Result<bool, Error> {
        if !segment.started() || segment.first_index() == LogIndex::ZERO {
            return Ok(true);
        }
        match self.log.start_at(segment.first_index()) {
            Ok(start) => Ok(start.frontier == segment.head.frontier),
            Err(Error::Corrupt { .. }) => Ok(false),
            Err(Error::Gone { .. }) => Ok(true),
            Err(err) => Err(err),
        }
    }

    fn damaged(&self, segment: &Arc<Segment>, place: DamagedFile, reason: String) -> Scrubbed {
        let is_last = self.log.state().is_last(segment);
        Scrubbed::Damaged(Damage { segment: segment.first_index(), place, is_last, reason })
    }
}

impl Scan {
    /// Reads about `bytes` bytes; how many, or `None` when the segment is over.
    fn read(&mut self, bytes: u64) -> Result<Option<u64>, Error> {
        let mut read = 0;
        while read < bytes {
            let Some(entry) = self.segment.next(&mut self.scanner)? else {
                if self.end.is_some_and(|end| end != self.frontier) {
                    let reason = "ends before the next segment begins".to_owned();
                    return Err(self.segment.corrupt(self.segment.end(), reason));
                }
                return Ok(None);
            };
            if !entry.follows(&self.frontier) {
                return Err(self.segment.broken(&self.scanner, entry.position));
            }
            self.frontier = entry.envelope.header.frontier();
            read += entry.end - entry.position;
        }
        Ok(Some(read))
    }
}

impl Log {
    /// The first segment that begins at `from` or later, and what it ends with when it is closed.
    fn segment_at_or_after(&self, from: LogIndex) -> Option<(Arc<Segment>, Option<Frontier>)> {
        let state = self.state();
        let at = state.segments.partition_point(|segment| segment.first_index() < from);
        let segment = state.segments.get(at)?;
        let end = state.segments.get(at + 1).map(|next| next.head.frontier);
        Some((Arc::clone(segment), end))
    }

    /// Whether the segment was neither purged nor cut away.
    pub(super) fn holds(&self, segment: &Arc<Segment>) -> bool {
        self.state().segments.iter().any(|held| Arc::ptr_eq(held, segment))
    }
}
