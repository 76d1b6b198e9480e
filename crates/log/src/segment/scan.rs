//! Reading a segment's entries one after the other, in big chunks.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use tidelog_types::batch::Info;
use tidelog_types::{LogIndex, Timestamp};

use crate::disk::File;
use crate::entry::Kind;
use crate::envelope::{self, ALIGN, ENVELOPE_BYTES_MIN, Envelope, Extent, Flaw};
use crate::frontier::Frontier;

/// An entry as it lies in a segment, every CRC checked.
#[derive(Clone, Debug)]
pub(crate) struct Scanned {
    /// Where its envelope begins.
    pub(crate) position: u64,
    /// Where the next one begins.
    pub(crate) end: u64,
    pub(crate) envelope: Envelope,
    /// Its body, sliced out of the chunk that was read.
    pub(crate) parts: SmallVec<[Bytes; 1]>,
    /// How often its segment had been cut before it was read.
    pub(crate) cuts: usize,
    /// The heads of its batches.
    pub(crate) batches: SmallVec<[Info; 1]>,
}

impl Scanned {
    /// Whether this is the entry that comes next: its place, and its chain over the one before.
    pub(crate) fn follows(&self, frontier: &Frontier) -> bool {
        let header = &self.envelope.header;
        header.position.index == frontier.next_index()
            && header.base_offset == frontier.next_offset
            && header.chain == envelope::chain(frontier.chain, header, &self.envelope.table)
    }

    /// The newest record timestamp in it.
    pub(crate) fn max_timestamp(&self) -> Option<Timestamp> {
        if self.envelope.header.void {
            return None;
        }
        self.batches.iter().map(|info| info.max_timestamp).max()
    }
}

/// Why a scan stopped.
#[derive(Debug)]
pub(crate) enum ScanError {
    /// What begins at this position is not an entry.
    Flaw(u64, Flaw),
    /// The disk refused.
    Io(io::Error),
}

/// Walks over the entries of a segment file.
#[derive(Debug)]
pub(crate) struct Scanner {
    file: Arc<dyn File>,
    generation: u64,
    position: u64,
    end: u64,
    chunk_bytes: usize,
    chunk: Bytes,
    chunk_position: u64,
    cuts: usize,
}

impl Scanner {
    pub(crate) fn new(
        file: Arc<dyn File>,
        generation: u64,
        position: u64,
        end: u64,
        chunk_bytes: usize,
    ) -> Self {
        let chunk = Bytes::new();
        let chunk_position = position;
        Self { file, generation, position, end, chunk_bytes, chunk, chunk_position, cuts: 0 }
    }

    /// Notes how often the segment was cut before this scan.
    pub(crate) const fn since(mut self, cuts: usize) -> Self {
        self.cuts = cuts;
        self
    }

    /// Goes on to here: the file grew.
    pub(crate) const fn extend(&mut self, end: u64) {
        self.end = end;
    }

    pub(crate) const fn cuts(&self) -> usize {
        self.cuts
    }

    /// The next entry; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Scanned>, ScanError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let flaw = |flaw| ScanError::Flaw(position, flaw);
        let fixed = self.window(ENVELOPE_BYTES_MIN)?;
        let extent = Extent::peek(&fixed, self.generation).ok_or(flaw(Flaw::Bad("no envelope")))?;
        // Checked before it is read: a damaged length must not make us allocate.
        if extent.padded() > self.end - position {
            return Err(flaw(Flaw::Bad("entry cut short")));
        }
        let bytes = self.window(extent.bytes())?;
        let envelope = Envelope::decode(&bytes, self.generation).map_err(flaw)?;
        let parts = envelope.check_body(&bytes.slice(extent.envelope_bytes..)).map_err(flaw)?;
        let batches = match envelope.header.kind {
            Kind::Records => parts
                .iter()
                .map(envelope::inspect_batch)
                .collect::<Result<_, _>>()
                .map_err(|_| flaw(Flaw::Bad("malformed batch")))?,
            _ => SmallVec::new(),
        };
        self.position += extent.padded();
        let (end, cuts) = (self.position, self.cuts);
        Ok(Some(Scanned { position, end, envelope, parts, cuts, batches }))
    }

    /// The next `bytes` bytes at the position, fewer at the end of the file.
    fn window(&mut self, bytes: usize) -> Result<Bytes, ScanError> {
        let skip = usize::try_from(self.position - self.chunk_position).unwrap_or(usize::MAX);
        if self.chunk.len().saturating_sub(skip) >= bytes {
            return Ok(self.chunk.slice(skip..skip + bytes));
        }
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        self.chunk = read(&*self.file, self.position, self.chunk_bytes.max(bytes).min(left))
            .map_err(ScanError::Io)?;
        self.chunk_position = self.position;
        Ok(self.chunk.slice(..bytes.min(self.chunk.len())))
    }
}

fn read(file: &dyn File, position: u64, bytes: usize) -> io::Result<Bytes> {
    let mut chunk = BytesMut::zeroed(bytes);
    let read = file.read_at(&mut chunk, position)?;
    chunk.truncate(read);
    Ok(chunk.freeze())
}

/// How much is searched at a time for an entry behind damage.
const SEARCH_BYTES: usize = 1024 * 1024;

/// Looks behind damage for an entry that shows that `index` was on stable storage: one of this file
/// (its CRC is seeded with the generation) with a higher index that says so. Answers with its index.
pub(crate) fn find_behind(
    file: &dyn File,
    generation: u64,
    from: u64,
    end: u64,
    index: LogIndex,
) -> io::Result<Option<LogIndex>> {
    let witnesses =
        |envelope: &Envelope| envelope.header.position.index > index && envelope.synced_end > index;
    let found = find(file, generation, from, end, witnesses)?;
    Ok(found.map(|(_, envelope)| envelope.header.position.index))
}

/// Looks for the next whole envelope of this file; where it begins.
pub(crate) fn find_any(
    file: &dyn File,
    generation: u64,
    from: u64,
    end: u64,
) -> io::Result<Option<u64>> {
    Ok(find(file, generation, from, end, |_| true)?.map(|(position, _)| position))
}

fn find(
    file: &dyn File,
    generation: u64,
    from: u64,
    end: u64,
    wanted: impl Fn(&Envelope) -> bool,
) -> io::Result<Option<(u64, Envelope)>> {
    let tag = envelope::tag(generation);
    let mut start = from.next_multiple_of(ALIGN);
    while start < end {
        let left = usize::try_from(end - start).unwrap_or(usize::MAX);
        let chunk = read(file, start, SEARCH_BYTES.min(left))?;
        for (at, word) in (0..).zip(chunk.chunks_exact(ALIGN as usize)) {
            let position = start + at * ALIGN;
            if word[..4] == tag
                && let Some(envelope) = envelope_at(file, generation, position, end)?
                && wanted(&envelope)
            {
                return Ok(Some((position, envelope)));
            }
        }
        let searched = chunk.len() as u64 / ALIGN * ALIGN;
        if searched == 0 {
            break;
        }
        start += searched;
    }
    Ok(None)
}

fn envelope_at(
    file: &dyn File,
    generation: u64,
    position: u64,
    end: u64,
) -> io::Result<Option<Envelope>> {
    let fixed = read(file, position, ENVELOPE_BYTES_MIN)?;
    let Some(extent) = Extent::peek(&fixed, generation) else { return Ok(None) };
    // The heads of all batches are needed; the last one's body may be damaged, that is no matter.
    let left = usize::try_from(end - position).unwrap_or(usize::MAX);
    let bytes = read(file, position, extent.bytes().min(left))?;
    Ok(Envelope::decode(&bytes, generation).ok())
}
