//! Looking entries up, by index.

use std::ops::Range;
use std::sync::Arc;

use tidelog_types::{LogIndex, LogPosition, Offset, canary};

use super::Log;
use super::env::Listener;
use crate::entry::{Body, Entry, Kind};
use crate::error::Error;
use crate::frontier::Frontier;
use crate::segment::{CHUNK_BYTES, Scanned, Scanner, Segment, SegmentSlice};

/// The most that one chunk of a scan takes, however much the caller wants.
pub(super) const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How often a look-up begins again when a segment was purged or cut under it. Those are rare, so a
/// second attempt settles it.
const GONE_ATTEMPTS_MAX: usize = 3;

impl Log {
    /// What the whole log determines, unflushed entries included.
    #[must_use]
    pub fn frontier(&self) -> Frontier {
        self.state().frontier
    }

    /// Whether the log has had every entry up to `index`; index 0 stands for none at all.
    #[must_use]
    pub fn has_reached(&self, index: LogIndex) -> bool {
        index == LogIndex::ZERO || self.frontier().last.is_some_and(|last| last.index >= index)
    }

    /// The index of the first entry that is retained, or that the empty log will hold.
    #[must_use]
    pub fn first_index(&self) -> LogIndex {
        self.state().first_index()
    }

    /// The last entry, or the one before the empty log.
    #[must_use]
    pub fn last(&self) -> Option<LogPosition> {
        self.frontier().last
    }

    /// The entry right before the first one that is retained; `None` at index 0.
    #[must_use]
    pub fn purged(&self) -> Option<LogPosition> {
        self.state().first().head.frontier.last
    }

    /// The first offset that is retained.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.state().first().base_offset()
    }

    /// The first offset that is not on stable storage.
    #[must_use]
    pub fn written_end(&self) -> Offset {
        self.state().synced.next_offset
    }

    /// The first index that is not on stable storage.
    #[must_use]
    pub fn synced_end(&self) -> LogIndex {
        self.state().synced.next_index()
    }

    /// Has `listener` called after each flush that wrote something.
    pub fn on_written(&self, listener: Listener) {
        self.state().listeners.push(listener);
    }

    /// The term and index of an entry, or of the one before the first; `None` when the log does
    /// not hold it. May block.
    pub fn position_of(&self, index: LogIndex) -> Result<Option<LogPosition>, Error> {
        {
            let state = self.state();
            if let Some(at) = state.in_tail(index) {
                return Ok(Some(state.tail[at].header.position));
            }
            // The head of a segment knows the entry before it.
            if let Some(at) = state.segment_of(index.next())
                && let Some(before) = state.segments[at].head.frontier.last
                && before.index == index
            {
                return Ok(Some(before));
            }
            if index < state.first_index() || index >= state.synced.next_index() {
                return Ok(None);
            }
        }
        Ok(Some(self.find(index)?.1.envelope.header.position))
    }

    /// An entry on disk, and its segment. Blocks.
    pub(super) fn find(&self, index: LogIndex) -> Result<(Arc<Segment>, Scanned), Error> {
        let segment = {
            let state = self.state();
            let first = state.first_index();
            let at = state.segment_of(index).ok_or(Error::Purged { index, first })?;
            Arc::clone(&state.segments[at])
        };
        self.touch(&segment);
        let mut scanner = segment.seek(CHUNK_BYTES, |points| points.by_index(index))?;
        while let Some(entry) = segment.next(&mut scanner)? {
            if entry.envelope.header.position.index == index {
                return Ok((segment, entry));
            }
        }
        Err(Error::Gone { index })
    }

    /// Entries from memory; never blocks. At least one, then up to `bytes_max` bytes of bodies.
    /// `None` when the first is not in memory.
    #[must_use]
    pub fn in_memory(&self, range: Range<LogIndex>, bytes_max: usize) -> Option<Vec<Entry>> {
        let state = self.state();
        if range.start >= range.end || range.start < state.first_index() {
            return None;
        }
        let at = state.in_tail(range.start)?;
        let mut room = Room(bytes_max);
        let wanted = state
            .tail
            .range(at..)
            .take_while(|held| held.header.position.index < range.end)
            .enumerate()
            .take_while(|(n, held)| room.take(held.table.body_bytes() as usize) || *n == 0);
        Some(wanted.map(|(_, held)| held.entry()).collect())
    }

    /// Entries from memory, or from disk, checked, with the bodies of records left there. May block.
    ///
    /// At least one if the range holds any, then up to `bytes_max` bytes of bodies.
    pub fn entries(&self, range: Range<LogIndex>, bytes_max: usize) -> Result<Vec<Entry>, Error> {
        self.collect(range, bytes_max, |segment, entry| match entry.envelope.header.kind {
            Kind::Records => Body::Slice(SegmentSlice::new(segment, entry)),
            // Small, wanted at once, and read already.
            _ => Body::Memory(entry.parts.clone()),
        })
    }

    /// [`Log::entries`] with all bodies in memory, in one pass over the disk. May block.
    ///
    /// The bodies of one call share the chunks that were read.
    pub fn load(&self, range: Range<LogIndex>, bytes_max: usize) -> Result<Vec<Entry>, Error> {
        self.collect(range, bytes_max, |_, entry| Body::Memory(entry.parts.clone()))
    }

    fn collect(
        &self,
        range: Range<LogIndex>,
        bytes_max: usize,
        body: impl Fn(&Arc<Segment>, &Scanned) -> Body,
    ) -> Result<Vec<Entry>, Error> {
        self.retry_gone(|| self.try_collect(range.clone(), bytes_max, &body))
    }

    /// Does something again that met a segment which was purged or cut at that moment.
    pub(super) fn retry_gone<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        for _ in 1..GONE_ATTEMPTS_MAX {
            match attempt() {
                Err(Error::Gone { .. }) => {}
                settled => return settled,
            }
        }
        attempt()
    }

    fn try_collect(
        &self,
        range: Range<LogIndex>,
        bytes_max: usize,
        body: &impl Fn(&Arc<Segment>, &Scanned) -> Body,
    ) -> Result<Vec<Entry>, Error> {
        if let Some(entries) = self.in_memory(range.clone(), bytes_max) {
            return Ok(entries);
        }
        let (segment, end) = {
            let state = self.state();
            let (index, first) = (range.start, state.first_index());
            let end = range.end.min(state.synced.next_index());
            if index >= end {
                return Ok(Vec::new());
            }
            let at = state.segment_of(index).ok_or(Error::Purged { index, first })?;
            (Arc::clone(&state.segments[at]), end)
        };
        let chunk = bytes_max.clamp(CHUNK_BYTES, CHUNK_BYTES_MAX);
        let scanner = segment.seek(chunk, |points| points.by_index(range.start))?;
        let mut room = Room(bytes_max);
        let mut entries = Vec::new();
        self.walk(segment, scanner, chunk, |segment, entry| {
            let header = entry.envelope.header;
            if header.position.index >= end {
                return false;
            }
            if header.position.index < range.start {
                return true;
            }
            if !room.take(entry.envelope.table.body_bytes() as usize) && !entries.is_empty() {
                return false;
            }
            // On disk the heads are stamped, and the envelope's CRC covers the stamps.
            let body = body(segment, &entry);
            let original = entry.envelope.table.original;
            entries.push(Entry { header, batches: entry.batches, body, original });
            true
        })?;
        if entries.is_empty() {
            return Err(Error::Gone { index: range.start });
        }
        Ok(entries)
    }

    /// Walks over the entries of a scan of `segment`, and over those of the segments behind it, until
    /// `each` says no. Checks that each follows the one before, across segments too.
    pub(super) fn walk(
        &self,
        mut segment: Arc<Segment>,
        mut scanner: Scanner,
        chunk: usize,
        mut each: impl FnMut(&Arc<Segment>, Scanned) -> bool,
    ) -> Result<(), Error> {
        let mut frontier: Option<Frontier> = None;
        loop {
            self.touch(&segment);
            let mut next = None;
            loop {
                while let Some(entry) = segment.next(&mut scanner)? {
                    if frontier.is_some_and(|frontier| !entry.follows(&frontier)) {
                        return Err(segment.broken(&scanner, entry.position));
                    }
                    frontier = Some(entry.envelope.header.frontier());
                    if !each(&segment, entry) {
                        return Ok(());
                    }
                }
                if next.is_some() {
                    break;
                }
                next = self.segment_after(&segment);
                // With a next one it is closed, but it may have grown since the scan began.
                scanner.extend(segment.end());
                if next.is_none() {
                    return Ok(());
                }
            }
            let Some(next) = next else { return Ok(()) };
            if frontier.is_some_and(|frontier| frontier != next.head.frontier) {
                return Err(segment.broken(&scanner, segment.end()));
            }
            frontier = Some(next.head.frontier);
            scanner = next.scan(chunk)?;
            if canary!(RollSkipsOne)
                && let Some(skipped) = next.next(&mut scanner)?
            {
                frontier = Some(skipped.envelope.header.frontier());
            }
            segment = next;
        }
    }

    fn segment_after(&self, segment: &Segment) -> Option<Arc<Segment>> {
        let state = self.state();
        let behind = state.segments.partition_point(|s| s.first_index() <= segment.first_index());
        state.segments.get(behind).cloned()
    }
}

/// What is left of a limit in bytes.
pub(super) struct Room(pub(super) usize);

impl Room {
    /// Takes `bytes` if they fit.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        match self.0.checked_sub(bytes) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => {
                self.0 = 0;
                false
            }
        }
    }
}
