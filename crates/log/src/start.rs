//! Start points: the state before a segment, from which a restart or a new replica begins.

use bytes::{BufMut, Bytes, BytesMut};
use tidelog_types::LogIndex;

use crate::frontier::{FRONTIER_BYTES, Frontier};
use crate::wire::Reader;

/// The state before the first entry of a segment: all that the log before it determines.
///
/// It is a partition's snapshot: record bytes are not part of it. On disk, and on the wire:
///
/// ```text
///  0  magic        8  "tidestrt"
///  8  format       4  1
/// 12  crc32c       4  of all that follows
/// 16  index        8
/// 24  frontier    64
/// 88  machine         to the end
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartPoint {
    /// The first index of the segment.
    pub index: LogIndex,
    /// The frontier of the log that ends right before `index`.
    pub frontier: Frontier,
    /// State machine and membership before `index`, opaque here.
    pub machine: Bytes,
}

const MAGIC: &[u8; 8] = b"tidestrt";
pub(crate) const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 24 + FRONTIER_BYTES;

/// Why bytes are no start point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedStart {
    /// Written by a newer version.
    #[error("start point has format {0}, this version reads up to {FORMAT}")]
    NewerFormat(u32),
    /// Damaged, or something else.
    #[error("malformed start point: {0}")]
    Damaged(&'static str),
}

impl StartPoint {
    /// The newest format that this version reads.
    pub(crate) const FORMAT: u32 = FORMAT;

    /// The bytes, for disk and wire.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut covered = BytesMut::with_capacity(8 + FRONTIER_BYTES);
        covered.put_u64(self.index.0);
        covered.put_slice(&self.frontier.encode());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&covered), &self.machine);

        let mut out = BytesMut::with_capacity(HEADER_BYTES + self.machine.len());
        out.put_slice(MAGIC);
        out.put_u32(FORMAT);
        out.put_u32(crc);
        out.put_slice(&covered);
        out.put_slice(&self.machine);
        out.freeze()
    }

    /// Reads what [`StartPoint::encode`] wrote.
    pub fn decode(bytes: &Bytes) -> Result<Self, MalformedStart> {
        let mut reader = Reader::new(bytes);
        if &reader.array::<8>() != MAGIC {
            return Err(MalformedStart::Damaged("wrong magic"));
        }
        let format = reader.u32();
        if format > FORMAT {
            return Err(MalformedStart::NewerFormat(format));
        }
        if format == 0 {
            return Err(MalformedStart::Damaged("no format"));
        }
        let crc = reader.u32();
        if crc32c::crc32c(reader.rest()) != crc {
            return Err(MalformedStart::Damaged("CRC mismatch"));
        }
        let index = LogIndex(reader.u64());
        let frontier = Frontier::decode(&mut reader);
        if reader.overrun() {
            return Err(MalformedStart::Damaged("too short"));
        }
        let frontier = frontier.ok_or(MalformedStart::Damaged("beyond all there can be"))?;
        if frontier.next_index() != index {
            return Err(MalformedStart::Damaged("frontier does not end at its index"));
        }
        Ok(Self { index, frontier, machine: bytes.slice(HEADER_BYTES..) })
    }
}

#[cfg(test)]
mod tests {
    use tidelog_types::{LogPosition, Offset, Term, Timestamp};

    use super::*;

    fn sample() -> StartPoint {
        let frontier = Frontier {
            last: Some(LogPosition { term: Term(3), index: LogIndex(41) }),
            next_offset: Offset(77),
            ordinal_term: Term(3),
            ordinal_next: 5,
            append_time: Timestamp(1_700_000_000_000),
            chain: 0xdead_beef,
        };
        StartPoint { index: LogIndex(42), frontier, machine: Bytes::from_static(b"machine") }
    }

    #[test]
    fn encoding_round_trips() {
        assert_eq!(StartPoint::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let good = sample().encode();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(StartPoint::decode(&bytes.into()).is_err(), "bit {bit}");
        }
        for end in 0..good.len() {
            assert!(StartPoint::decode(&good.slice(..end)).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn newer_format_is_named() {
        let mut bytes = sample().encode().to_vec();
        bytes[11] = 9;
        assert_eq!(StartPoint::decode(&bytes.into()), Err(MalformedStart::NewerFormat(9)));
    }
}
