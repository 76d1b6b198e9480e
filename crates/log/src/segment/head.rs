//! The first bytes of a segment file.

use tidelog_types::GroupId;

use crate::frontier::{FRONTIER_BYTES, Frontier};
use crate::wire::Reader;

/// What a segment file says of itself. Written once, before any entry.
///
/// ```text
///   0  magic       8  "tidesegm"
///   8  format      4  1
///  12  head bytes  4  128: where the first entry begins
///  16  group      20
///  36  zero        4
///  40  generation  8  random; every CRC in the file is seeded with it
///  48  frontier   64  of the log that ends right before this segment
/// 112  zero       12
/// 124  crc32c      4  of the bytes before
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) group: GroupId,
    pub(crate) generation: u64,
    pub(crate) frontier: Frontier,
}

const MAGIC: &[u8; 8] = b"tidesegm";

/// Why the first bytes of a file are no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadError {
    NewerFormat(u32),
    Bad(&'static str),
}

impl Head {
    pub(crate) const BYTES: usize = 128;
    pub(crate) const FORMAT: u32 = 1;

    pub(crate) fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&Self::FORMAT.to_be_bytes());
        out[12..16].copy_from_slice(&(Self::BYTES as u32).to_be_bytes());
        out[16..36].copy_from_slice(&self.group.to_bytes());
        out[40..48].copy_from_slice(&self.generation.to_be_bytes());
        out[48..48 + FRONTIER_BYTES].copy_from_slice(&self.frontier.encode());
        let crc = crc32c::crc32c(&out[..124]);
        out[124..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeadError> {
        let mut reader = Reader::new(bytes);
        if &reader.array::<8>() != MAGIC {
            return Err(HeadError::Bad("no segment head"));
        }
        // Checked before the CRC: a newer format may keep it elsewhere.
        let format = reader.u32();
        let covered = bytes.get(..124);
        let crc = bytes.get(124..Self::BYTES).map(|crc| crc.try_into().unwrap_or([0; 4]));
        let intact = covered
            .zip(crc)
            .is_some_and(|(covered, crc)| crc32c::crc32c(covered) == u32::from_be_bytes(crc));
        if format > Self::FORMAT && format < 1 << 16 {
            return Err(HeadError::NewerFormat(format));
        }
        if !intact || format != Self::FORMAT {
            return Err(HeadError::Bad("segment head fails its CRC"));
        }
        reader.u32();
        let group = GroupId::from_bytes(reader.array());
        reader.u32();
        let generation = reader.u64();
        let frontier = Frontier::decode(&mut reader);
        let frontier = frontier.ok_or(HeadError::Bad("segment head beyond all there can be"))?;
        Ok(Self { group, generation, frontier })
    }
}
