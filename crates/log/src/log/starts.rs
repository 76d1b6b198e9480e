//! Start points of segments: taken from apply, written by the flush.

use std::io;

use bytes::Bytes;
use tidelog_types::{LogIndex, LogPosition};

use super::flush::NoRoom;
use super::state::State;
use super::{Log, file_name};
use crate::disk;
use crate::error::Error;
use crate::frontier::Frontier;
use crate::room::Failure;
use crate::start::StartPoint;

impl Log {
    /// Whether `index` begins a segment that needs a start point and has none: apply hands one
    /// over with [`Log::put_start`] *before* it applies this entry.
    #[must_use]
    pub fn starts_at(&self, index: LogIndex) -> bool {
        let state = self.state();
        !state.starts.contains_key(&index)
            && state.boundary(index).is_some_and(|boundary| !boundary.started)
    }

    /// Takes the start point of a segment. A flush job writes it, once the segment is on disk and
    /// everything before it is on stable storage.
    ///
    /// Errors: no segment begins there, or the log before it is another one.
    pub fn put_start(&self, start: StartPoint) -> Result<(), Error> {
        let refused = |reason| Err(Error::Refused { reason });
        {
            let mut state = self.state();
            match state.boundary(start.index) {
                Some(boundary) if boundary.started => return Ok(()),
                Some(boundary) if boundary.frontier == start.frontier => {}
                Some(_) => {
                    return refused(format!("start point {} is of another log", start.index));
                }
                None => return refused(format!("no segment begins at {}", start.index)),
            }
            state.starts.insert(start.index, start);
        }
        self.submit();
        Ok(())
    }

    /// Writes the start points whose segments are on stable storage. Under the flush lock.
    pub(super) fn write_starts(&self) -> Result<(), NoRoom> {
        loop {
            // A statement of its own: the lock must not be held while the file is written.
            let next = self.state().next_start();
            let Some(start) = next else { return Ok(()) };
            let path = self.dir.join(file_name(start.index, "start"));
            match disk::try_replace(&*self.env.disk, &path, &start.encode()) {
                Ok(()) => {}
                Err(Failure::Full(_)) => return Err(NoRoom),
                Err(Failure::Final(err)) => {
                    self.poison(err);
                    return Ok(());
                }
            }
            let mut state = self.state();
            state.starts.remove(&start.index);
            // It may have been purged meanwhile; then the file is swept away at the next start.
            if let Some(segment) = state.segments.iter().find(|s| s.first_index() == start.index) {
                segment.set_started();
            }
        }
    }

    /// The newest start point on disk. Blocks.
    pub fn newest_start(&self) -> Result<Option<StartPoint>, Error> {
        let newest = self.newest_start_position().map(|last| last.index.next());
        newest.map(|index| self.start_at(index)).transpose()
    }

    /// The start point of the first segment that is retained; `None` at index 0. Blocks.
    pub fn oldest_start(&self) -> Result<Option<StartPoint>, Error> {
        let oldest = self.purged().map(|last| last.index.next());
        oldest.map(|index| self.start_at(index)).transpose()
    }

    /// The entry before the newest start point on disk: everything up to it was applied, so it was
    /// committed. Memory only.
    #[must_use]
    pub fn newest_start_position(&self) -> Option<LogPosition> {
        let state = self.state();
        let newest = state.segments.iter().rev().find(|segment| segment.started())?;
        newest.head.frontier.last
    }

    /// The start point of the segment that begins at `index`. Blocks.
    ///
    /// Errors: [`Error::Gone`] when the segment was purged, [`Error::Corrupt`], [`Error::Io`].
    pub fn start_at(&self, index: LogIndex) -> Result<StartPoint, Error> {
        let path = self.dir.join(file_name(index, "start"));
        let bytes = match disk::read_all(&*self.env.disk, &path) {
            Ok(bytes) => Bytes::from(bytes),
            Err(err) if err.kind() == io::ErrorKind::NotFound && self.first_index() > index => {
                return Err(Error::Gone { index });
            }
            Err(err) => return Err(Error::io("read start point", path)(err)),
        };
        match StartPoint::decode(&bytes) {
            Ok(start) if start.index == index => Ok(start),
            Ok(_) => Err(Error::Corrupt { path, position: 0, reason: "of another index".into() }),
            Err(err) => Err(Error::Corrupt { path, position: 0, reason: err.to_string() }),
        }
    }
}

/// Where a segment begins, whether its file exists or is only planned.
struct Boundary {
    frontier: Frontier,
    started: bool,
}

impl State {
    fn boundary(&self, index: LogIndex) -> Option<Boundary> {
        let planned = self.planned.iter().find(|frontier| frontier.next_index() == index);
        if let Some(frontier) = planned {
            return Some(Boundary { frontier: *frontier, started: false });
        }
        let segment = &self.segments[self.segment_of(index)?];
        (segment.first_index() == index)
            .then(|| Boundary { frontier: segment.head.frontier, started: segment.started() })
    }

    /// The first start point that may be written: its segment exists and was written to, so all
    /// before it is on stable storage.
    fn next_start(&mut self) -> Option<StartPoint> {
        if self.poison.is_some() {
            return None;
        }
        let (first, synced_end) = (self.first_index(), self.synced.next_index());
        self.starts.retain(|index, _| *index >= first);
        let (index, start) = self.starts.iter().next()?;
        (*index < synced_end).then(|| start.clone())
    }
}
