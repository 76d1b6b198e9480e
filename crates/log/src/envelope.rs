//! The envelope around an entry on disk.
//!
//! Big endian, as the batches are; each envelope begins at a multiple of 8, so that looking for one
//! behind damage is cheap.
//!
//! ```text
//!  0  tag           4  local: made from the generation of the file, which no client knows, so that
//!                      nobody can fill a record with what looks like envelopes
//!  4  crc32c        4  local: of all other bytes of the envelope and the first 21 bytes of each
//!                      batch, seeded with the generation of the file
//!  8  kind          1
//!  9  flags         1  bit 0: void
//! 10  parts         2
//! 12  offsets       4  how many it takes
//! 16  synced end    8  local: the first index that was not on stable storage when this was written
//! 24  term          8
//! 32  index         8
//! 40  append time   8
//! 48  ordinal       8
//! 56  ordinal next  8
//! 64  base offset   8
//! 72  chain         4
//! 76  body bytes    4
//! 80  per part: bytes 4, crc32c 4 (of a batch: its own, from its head; else of the whole part)
//!     compacted: the same table again, as it was when the entry was appended
//!     the parts, then zeros up to a multiple of 8
//! ```
//!
//! All but the three local fields is a function of the log prefix alone. The chain value is the
//! CRC-32C of the previous chain value and of every field that is neither local nor itself, so it
//! covers the entry before, this entry and, through the part table, every byte of the body that
//! does not follow from those (a batch's base offset, epoch and length do).
//!
//! An entry that was *compacted* lacks records that it was appended with. On disk its kind is 4, so
//! that a version that knows of none refuses the file instead of taking it for damaged. Its chain value
//! stays: that of the entry as it was appended, of kind 2 and with the second table for its parts. So
//! the chain goes on to tell that this entry stands in this place; that the body is what compaction
//! left of it, the CRCs of the first table and of the envelope tell.

use std::fmt;

use bytes::Bytes;
use smallvec::SmallVec;
use tidelog_types::batch::{self, CRC_FROM, Info};
use tidelog_types::{LogIndex, LogPosition, Offset, Term, Timestamp, canary};

use crate::entry::{Header, Kind};
use crate::wire::Reader;

/// The bytes of an envelope without its part table.
pub(crate) const ENVELOPE_BYTES_MIN: usize = 80;
/// The bytes of a part's place in the table.
pub(crate) const PART_BYTES: usize = 8;
/// Envelopes begin at multiples of this.
pub(crate) const ALIGN: u64 = 8;

/// What every envelope of a file begins with.
pub(crate) fn tag(generation: u64) -> [u8; 4] {
    crc32c::crc32c_append(crc32c::crc32c(b"envelope"), &generation.to_be_bytes()).to_be_bytes()
}

const FLAG_VOID: u8 = 1;

/// The kind that a compacted entry of records has on disk and on the wire.
const COMPACTED: u8 = 4;

/// A part of a body: its length and the CRC that vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its bytes.
    pub bytes: u32,
    /// The CRC-32C of a batch, as its head states it, or of the whole part.
    pub crc: u32,
}

/// The parts of a body.
pub(crate) type Parts = SmallVec<[Part; 1]>;

/// The parts of an entry: as they are, and as they were appended if compaction changed them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) parts: Parts,
    /// As many as `parts`.
    pub(crate) original: Option<Parts>,
}

impl Table {
    /// What the chain value covers.
    pub(crate) fn appended(&self) -> &[Part] {
        self.original.as_ref().unwrap_or(&self.parts)
    }

    /// The bytes of the body as it is.
    pub(crate) fn body_bytes(&self) -> u32 {
        sum(&self.parts)
    }

    /// The bytes of the envelope.
    pub(crate) fn envelope_bytes(&self) -> usize {
        let tables = if self.original.is_some() { 2 } else { 1 };
        ENVELOPE_BYTES_MIN + self.parts.len() * tables * PART_BYTES
    }

    /// The bytes of the entry in a segment, padding included.
    pub(crate) fn entry_bytes(&self) -> u64 {
        (self.envelope_bytes() as u64 + u64::from(self.body_bytes())).next_multiple_of(ALIGN)
    }
}

/// Whoever made the parts saw to it that they stay below 4 GiB.
fn sum(parts: &[Part]) -> u32 {
    parts.iter().fold(0, |sum, part| sum.saturating_add(part.bytes))
}

/// An envelope that was read and whose CRC holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) header: Header,
    pub(crate) synced_end: LogIndex,
    pub(crate) table: Table,
}

/// How long an entry is, read from an envelope whose CRC was not checked yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) envelope_bytes: usize,
    pub(crate) body_bytes: usize,
}

impl Extent {
    /// Looks at the first bytes of what may be an entry.
    pub(crate) fn peek(fixed: &[u8], generation: u64) -> Option<Self> {
        let fixed = fixed.get(..ENVELOPE_BYTES_MIN)?;
        let parts = usize::from(u16::from_be_bytes([fixed[10], fixed[11]]));
        let tables = if fixed[8] == COMPACTED { 2 } else { 1 };
        let body = u32::from_be_bytes([fixed[76], fixed[77], fixed[78], fixed[79]]);
        (fixed[..4] == tag(generation)).then(|| Self {
            envelope_bytes: ENVELOPE_BYTES_MIN + parts * tables * PART_BYTES,
            body_bytes: body as usize,
        })
    }

    /// The bytes of the whole entry, without padding.
    pub(crate) const fn bytes(self) -> usize {
        self.envelope_bytes + self.body_bytes
    }

    /// The bytes of the whole entry, padding included.
    pub(crate) const fn padded(self) -> u64 {
        (self.bytes() as u64).next_multiple_of(ALIGN)
    }
}

/// Where the encoded envelope goes: a small one for the chain, the arena of a flush.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Sink for SmallVec<[u8; 96]> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Writes an envelope with its local fields zero, to be [`seal`]ed.
pub(crate) fn encode(header: &Header, table: &Table, out: &mut impl Sink) {
    let kind = if table.original.is_some() { COMPACTED } else { header.kind as u8 };
    put(header, kind, table.body_bytes(), &table.parts, out);
    for part in table.original.iter().flatten() {
        put_part(part, out);
    }
}

fn put(header: &Header, kind: u8, body_bytes: u32, parts: &[Part], out: &mut impl Sink) {
    let count =
        u16::try_from(parts.len()).expect("bodies were checked to have at most 65535 parts");
    out.put(&[0; 8]);
    out.put(&[kind, if header.void { FLAG_VOID } else { 0 }]);
    out.put(&count.to_be_bytes());
    out.put(&header.offsets_taken.to_be_bytes());
    out.put(&[0; 8]);
    out.put(&header.position.term.0.to_be_bytes());
    out.put(&header.position.index.0.to_be_bytes());
    out.put(&header.append_time.0.to_be_bytes());
    out.put(&header.ordinal.to_be_bytes());
    out.put(&header.ordinal_next.to_be_bytes());
    out.put(&header.base_offset.0.to_be_bytes());
    out.put(&header.chain.to_be_bytes());
    out.put(&body_bytes.to_be_bytes());
    parts.iter().for_each(|part| put_part(part, out));
}

fn put_part(part: &Part, out: &mut impl Sink) {
    out.put(&part.bytes.to_be_bytes());
    out.put(&part.crc.to_be_bytes());
}

/// The chain value of the entry with this header and these parts.
pub(crate) fn chain(previous: u32, header: &Header, table: &Table) -> u32 {
    let mut appended = SmallVec::<[u8; 96]>::new();
    let parts = table.appended();
    put(header, header.kind as u8, header.body_bytes, parts, &mut appended);
    let mut crc = crc32c::crc32c(&previous.to_be_bytes());
    for covered in [8..16, 24..72, 76..appended.len()] {
        crc = crc32c::crc32c_append(crc, &appended[covered]);
    }
    crc
}

/// Sets the local fields of an encoded envelope.
pub(crate) fn seal<'a>(
    envelope: &mut [u8],
    synced_end: LogIndex,
    heads: impl Iterator<Item = &'a [u8]>,
    generation: u64,
) {
    envelope[..4].copy_from_slice(&tag(generation));
    envelope[16..24].copy_from_slice(&synced_end.0.to_be_bytes());
    let crc = local_crc(envelope, heads, generation);
    envelope[4..8].copy_from_slice(&crc.to_be_bytes());
}

fn local_crc<'a>(envelope: &[u8], heads: impl Iterator<Item = &'a [u8]>, generation: u64) -> u32 {
    let mut crc = crc32c::crc32c(&generation.to_be_bytes());
    crc = crc32c::crc32c_append(crc, &envelope[..4]);
    crc = crc32c::crc32c_append(crc, &envelope[8..]);
    heads.fold(crc, crc32c::crc32c_append)
}

/// Why bytes are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Not what was written: torn, damaged, or never an entry.
    Bad(&'static str),
    /// Whole, but of a kind that only a newer version knows.
    NewerKind(u8),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad(reason) => f.write_str(reason),
            Self::NewerKind(kind) => {
                write!(f, "entry of kind {kind}, which this version does not know")
            }
        }
    }
}

impl Envelope {
    /// Reads an envelope and checks its CRC. `entry` holds it and at least the heads of its batches,
    /// `rest` of the body may be cut short.
    pub(crate) fn decode(entry: &[u8], generation: u64) -> Result<Self, Flaw> {
        let extent = Extent::peek(entry, generation).ok_or(Flaw::Bad("no envelope"))?;
        let (envelope, body) =
            entry.split_at_checked(extent.envelope_bytes).ok_or(Flaw::Bad("envelope cut short"))?;

        let mut reader = Reader::new(&envelope[4..]);
        let crc = reader.u32();
        let kind_number = reader.u8();
        let flags = reader.u8();
        let part_count = reader.u16();
        let offsets_taken = reader.u32();
        let synced_end = LogIndex(reader.u64());
        let position = LogPosition { term: Term(reader.u64()), index: LogIndex(reader.u64()) };
        let append_time = Timestamp(reader.i64());
        let ordinal = reader.u64();
        let ordinal_next = reader.u64();
        let base_offset = Offset(reader.u64());
        let chain = reader.u32();
        let body_bytes = reader.u32();
        let (parts, total) = read_parts(&mut reader, part_count);
        if total != u64::from(body_bytes) {
            return Err(Flaw::Bad("parts do not add up"));
        }
        let is_compacted = kind_number == COMPACTED;
        let original = is_compacted.then(|| read_parts(&mut reader, part_count));
        let appended_bytes = original.as_ref().map_or(total, |(_, total)| *total);

        let mut heads: SmallVec<[&[u8]; 1]> = SmallVec::new();
        if kind_number == Kind::Records as u8 || is_compacted {
            let mut start = 0;
            for part in &parts {
                let head = body.get(start..start + CRC_FROM).ok_or(Flaw::Bad("head cut short"))?;
                heads.push(head);
                start += part.bytes as usize;
            }
        }
        if local_crc(envelope, heads.into_iter(), generation) != crc {
            return Err(Flaw::Bad("CRC mismatch"));
        }
        let kind = if is_compacted { Some(Kind::Records) } else { Kind::from_number(kind_number) };
        let kind = kind.ok_or(Flaw::NewerKind(kind_number))?;
        let body_bytes = u32::try_from(appended_bytes);
        let body_bytes = body_bytes.map_err(|_| Flaw::Bad("parts beyond all there can be"))?;
        if !is_in_range(position.index, base_offset, offsets_taken) {
            return Err(Flaw::Bad("index or offset beyond all there can be"));
        }
        let header = Header {
            position,
            kind,
            append_time,
            ordinal,
            ordinal_next,
            base_offset,
            offsets_taken,
            void: flags & FLAG_VOID != 0,
            chain,
            body_bytes,
        };
        let original = original.map(|(original, _)| original);
        Ok(Self { header, synced_end, table: Table { parts, original } })
    }

    /// Cuts the body into its parts and checks each against its CRC.
    pub(crate) fn check_body(&self, body: &Bytes) -> Result<SmallVec<[Bytes; 1]>, Flaw> {
        if body.len() != self.table.body_bytes() as usize {
            return Err(Flaw::Bad("body cut short"));
        }
        let mut start = 0;
        let mut out = SmallVec::with_capacity(self.table.parts.len());
        for part in &self.table.parts {
            let bytes = body.slice(start..start + part.bytes as usize);
            start += part.bytes as usize;
            let intact = match self.header.kind {
                Kind::Records => {
                    batch::verify_crc(&bytes).is_ok()
                        && Info::read(&bytes).is_ok_and(|info| info.crc == part.crc)
                }
                _ => crc32c::crc32c(&bytes) == part.crc,
            };
            if !intact && !canary!(CrcNotChecked) {
                return Err(Flaw::Bad("body fails its CRC"));
            }
            out.push(bytes);
        }
        Ok(out)
    }
}

/// A table of parts, and their bytes together.
fn read_parts(reader: &mut Reader<'_>, count: u16) -> (Parts, u64) {
    let mut parts = Parts::with_capacity(usize::from(count));
    let mut total = 0_u64;
    for _ in 0..count {
        let part = Part { bytes: reader.u32(), crc: reader.u32() };
        total += u64::from(part.bytes);
        parts.push(part);
    }
    (parts, total)
}

/// Whether what comes behind an entry still has an index and an offset.
fn is_in_range(index: LogIndex, base_offset: Offset, offsets_taken: u32) -> bool {
    let next_offset = base_offset.0.checked_add(u64::from(offsets_taken));
    index.0 < u64::MAX && next_offset.is_some_and(|next| next <= i64::MAX as u64)
}

/// Checks that a part is one whole batch, as far as its head tells.
pub(crate) fn inspect_batch(part: &Bytes) -> Result<Info, String> {
    let info = Info::read(part).map_err(|err| err.to_string())?;
    if info.bytes as usize != part.len() {
        return Err(format!("batch of {} bytes in a part of {}", info.bytes, part.len()));
    }
    Ok(info)
}

/// The first bytes of a batch, up to and with its CRC, with base offset and epoch stamped.
pub(crate) fn stamped_head(part: &[u8], base_offset: Offset, term: Term) -> [u8; CRC_FROM] {
    let mut head = [0; CRC_FROM];
    head.copy_from_slice(&part[..CRC_FROM]);
    batch::stamp_in_place(&mut head, base_offset, term.to_leader_epoch());
    head
}
