//! Reading records, by offset and by time.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use tidelog_types::batch::{self, Info, STAMP_BYTES};
use tidelog_types::{Offset, Term, Timestamp};

use super::Log;
use super::env::Read;
use super::look::{CHUNK_BYTES_MAX, Room};
use super::state::State;
use crate::error::Error;
use crate::segment::{CHUNK_BYTES, Segment};

/// A batch in memory, as it was appended: not stamped.
struct Unstamped {
    term: Term,
    info: Info,
    bytes: Bytes,
}

impl Log {
    /// Whole batches from `from`, below `until` and [`Log::written_end`]. May block.
    ///
    /// At least one if there is any, then up to `bytes_max` bytes. The first may begin below `from`.
    pub fn read(&self, from: Offset, until: Offset, bytes_max: usize) -> Result<Read, Error> {
        self.retry_gone(|| self.try_read(from, until, bytes_max))
    }

    fn try_read(&self, from: Offset, until: Offset, bytes_max: usize) -> Result<Read, Error> {
        let (end, segment) = {
            let state = self.state();
            let written_end = state.synced.next_offset;
            let log_start = state.first().base_offset();
            if from < log_start || from > written_end {
                return Err(Error::OutOfRange { offset: from, log_start, written_end });
            }
            let end = until.min(written_end);
            if from >= end {
                return Ok(Read { batches: Vec::new(), next: from });
            }
            if let Some(batches) = state.batches_from(from, end, bytes_max) {
                // Stamping copies, so it is done without the lock.
                drop(state);
                return Ok(stamp_all(batches, from));
            }
            (end, state.segment_from(from))
        };
        self.read_cold(segment, from, end, bytes_max)
    }

    fn read_cold(
        &self,
        segment: Arc<Segment>,
        from: Offset,
        end: Offset,
        bytes_max: usize,
    ) -> Result<Read, Error> {
        let chunk = bytes_max.clamp(CHUNK_BYTES, CHUNK_BYTES_MAX);
        let scanner = segment.seek(chunk, |points| points.by_offset(from))?;
        let mut room = Room(bytes_max);
        let mut read = Read { batches: Vec::new(), next: from };
        self.walk(segment, scanner, chunk, |_, entry| {
            if entry.envelope.header.void {
                return true;
            }
            for (info, bytes) in entry.batches.iter().zip(&entry.parts) {
                if info.next_offset() <= from {
                    continue;
                }
                let fits = room.take(bytes.len()) || read.batches.is_empty();
                if info.next_offset() > end || !fits {
                    return false;
                }
                read.batches.push(bytes.clone());
                read.next = info.next_offset();
            }
            read.next < end
        })?;
        Ok(read)
    }

    /// When the leader appended the record at `offset`; `None` when it lies at or above `until` or
    /// [`Log::written_end`]. May block.
    pub fn append_time_at(
        &self,
        offset: Offset,
        until: Offset,
    ) -> Result<Option<Timestamp>, Error> {
        self.retry_gone(|| self.try_append_time_at(offset, until))
    }

    fn try_append_time_at(
        &self,
        offset: Offset,
        until: Offset,
    ) -> Result<Option<Timestamp>, Error> {
        let segment = {
            let state = self.state();
            let written_end = state.synced.next_offset;
            let log_start = state.first().base_offset();
            if offset < log_start {
                return Err(Error::OutOfRange { offset, log_start, written_end });
            }
            if offset >= until.min(written_end) {
                return Ok(None);
            }
            state.segment_from(offset)
        };
        let scanner = segment.seek(CHUNK_BYTES, |points| points.by_offset(offset))?;
        let mut found = None;
        self.walk(segment, scanner, CHUNK_BYTES, |_, entry| {
            let header = &entry.envelope.header;
            let here = header.frontier().next_offset > offset;
            found = here.then_some(header.append_time);
            !here
        })?;
        Ok(found)
    }

    /// The first record below `until` with a timestamp at or after `timestamp`, and its timestamp.
    /// Of a compressed batch it is the first offset and the newest timestamp. Blocks.
    pub fn offset_at(
        &self,
        timestamp: Timestamp,
        until: Offset,
    ) -> Result<Option<(Offset, Timestamp)>, Error> {
        let (segments, end) = {
            let state = self.state();
            (state.segments.clone(), until.min(state.synced.next_offset))
        };
        let mut from = None;
        for segment in segments {
            if segment.newest()?.is_some_and(|newest| newest >= timestamp) {
                from = Some(segment);
                break;
            }
        }
        let Some(segment) = from else { return Ok(None) };
        let scanner = segment.seek(CHUNK_BYTES, |points| points.by_timestamp(timestamp))?;
        let mut found = None;
        self.walk(segment, scanner, CHUNK_BYTES, |_, entry| {
            if entry.envelope.header.void {
                return true;
            }
            for (info, bytes) in entry.batches.iter().zip(&entry.parts) {
                if info.next_offset() > end {
                    return false;
                }
                if info.max_timestamp >= timestamp {
                    found = record_at(info, bytes, timestamp);
                }
                if found.is_some() {
                    return false;
                }
            }
            true
        })?;
        Ok(found)
    }
}

/// The first record of a batch at or after a time; the batch itself where that cannot be told
/// without inflating it. `None` when compaction has taken all of those out.
fn record_at(info: &Info, bytes: &Bytes, timestamp: Timestamp) -> Option<(Offset, Timestamp)> {
    let whole = (info.base_offset, info.max_timestamp);
    if info.codec != batch::Codec::None {
        return Some(whole);
    }
    let Ok(records) = batch::records(bytes, 0) else { return Some(whole) };
    records
        .filter_map(Result::ok)
        .find(|record| record.timestamp >= timestamp)
        .map(|record| (record.offset, record.timestamp))
}

impl State {
    /// Batches in memory from `from`, below `end`; `None` when the first is not there.
    fn batches_from(&self, from: Offset, end: Offset, bytes_max: usize) -> Option<Vec<Unstamped>> {
        let at = self.tail.partition_point(|held| held.header.next_offset() <= from);
        // Entries without offsets in front of it do not make the record a cached one.
        self.tail.get(at).filter(|held| held.header.base_offset <= from)?;
        let mut room = Room(bytes_max);
        let mut batches = Vec::new();
        for held in self.tail.range(at..).filter(|held| !held.header.void) {
            for (info, bytes) in held.batches.iter().zip(&held.body) {
                if info.next_offset() <= from {
                    continue;
                }
                let fits = room.take(bytes.len()) || batches.is_empty();
                if info.next_offset() > end || !fits {
                    return Some(batches);
                }
                let term = held.header.position.term;
                batches.push(Unstamped { term, info: *info, bytes: bytes.clone() });
            }
        }
        Some(batches)
    }

    /// The segment that holds `from`. Of several that begin at one offset it is the last.
    fn segment_from(&self, from: Offset) -> Arc<Segment> {
        let behind = self.segments.partition_point(|s| s.base_offset() <= from);
        Arc::clone(&self.segments[behind.saturating_sub(1)])
    }
}

fn stamp_all(batches: Vec<Unstamped>, from: Offset) -> Read {
    let next = batches.last().map_or(from, |last| last.info.next_offset());
    let batches: SmallVec<[Bytes; 8]> = batches.into_iter().map(Unstamped::stamp).collect();
    Read { batches: batches.into_vec(), next }
}

impl Unstamped {
    fn stamp(self) -> Bytes {
        let head = batch::stamp(&self.bytes, self.info.base_offset, self.term.to_leader_epoch());
        if self.bytes[..STAMP_BYTES] == head {
            return self.bytes; // From a leader that read it from its disk.
        }
        let mut stamped = BytesMut::with_capacity(self.bytes.len());
        stamped.extend_from_slice(&head);
        stamped.extend_from_slice(&self.bytes[STAMP_BYTES..]);
        stamped.freeze()
    }
}
