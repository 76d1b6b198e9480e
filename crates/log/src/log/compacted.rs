//! How far a log is compacted, and the small file that remembers it.

use std::io;
use std::path::{Path, PathBuf};

use tidelog_types::Offset;

use super::{Log, lock};
use crate::disk::{self, Disk};
use crate::error::Error;
use crate::wire::Reader;

/// How far a log is compacted. With less than is true, or nothing, the same is done again; more than is
/// true would let tombstones go while what they supersede is still here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Below this offset no record is superseded by another below it.
    pub to: Offset,
    /// Below this offset there are no tombstones.
    pub tombstones_to: Offset,
}

/// The file, beside the segments:
///
/// ```text
///  0  magic          8  "tidecmpt"
///  8  format         4  1
/// 12  crc32c         4  of all that follows
/// 16  to             8
/// 24  tombstones to  8
/// ```
const FILE: &str = "compacted";
const MAGIC: &[u8; 8] = b"tidecmpt";
const FORMAT: u32 = 1;
const BYTES: usize = 32;

impl Compacted {
    fn path(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    /// What the file in `dir` says; nothing when it is not there, or cannot be understood.
    pub(super) fn load(disk: &dyn Disk, dir: &Path) -> io::Result<Self> {
        match disk::read_all(disk, &Self::path(dir)) {
            Ok(bytes) => Ok(Self::decode(&bytes).unwrap_or_default()),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(err) => Err(err),
        }
    }

    /// Forgets what the file says, durably.
    pub(super) fn forget(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        if disk::remove_if_there(disk, &Self::path(dir))? {
            disk.sync_dir(dir)?;
        }
        Ok(())
    }

    fn encode(self) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_be_bytes());
        out[16..24].copy_from_slice(&self.to.0.to_be_bytes());
        out[24..].copy_from_slice(&self.tombstones_to.0.to_be_bytes());
        let crc = crc32c::crc32c(&out[16..]);
        out[12..16].copy_from_slice(&crc.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let is_ours = &reader.array::<8>() == MAGIC && reader.u32() == FORMAT;
        let crc = reader.u32();
        let intact = bytes.len() == BYTES && crc32c::crc32c(reader.rest()) == crc;
        let compacted = Self { to: Offset(reader.u64()), tombstones_to: Offset(reader.u64()) };
        (is_ours && intact).then_some(compacted)
    }
}

impl Log {
    /// How far the closed segments are compacted.
    #[must_use]
    pub fn compacted(&self) -> Compacted {
        self.state().compacted
    }

    /// How often [`Log::uncompact`] was called.
    pub(super) fn uncompactions(&self) -> u64 {
        self.state().uncompactions
    }

    /// Notes that the closed segments are compacted so far, unless that was undone since there were
    /// `since` [`Log::uncompactions`]. Blocks.
    pub(super) fn note_compacted(&self, compacted: Compacted, since: u64) -> io::Result<()> {
        let _upkeep = lock(&self.upkeep);
        if self.uncompactions() != since || self.poisoned().is_some() {
            return Ok(());
        }
        self.set_compacted(compacted)
    }

    /// Notes that records at or above `from` may be superseded again. Blocks.
    pub(super) fn uncompact(&self, from: Offset) -> Result<(), Error> {
        let _upkeep = lock(&self.upkeep);
        self.alive()?;
        let noted = self.uncompact_within(from);
        noted.map_err(Error::io("forget compaction of", &self.dir))
    }

    /// The same, while `upkeep` is held.
    pub(super) fn uncompact_within(&self, from: Offset) -> io::Result<()> {
        let Compacted { to, tombstones_to } = {
            let mut state = self.state();
            state.uncompactions += 1;
            state.compacted
        };
        let lower = Compacted { to: to.min(from), tombstones_to: tombstones_to.min(from) };
        if lower == (Compacted { to, tombstones_to }) {
            return Ok(());
        }
        self.set_compacted(lower)
    }

    /// `upkeep` is held.
    fn set_compacted(&self, compacted: Compacted) -> io::Result<()> {
        disk::replace(&*self.env.disk, &Compacted::path(&self.dir), &compacted.encode())?;
        self.state().compacted = compacted;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_whole_says_nothing() {
        let good = Compacted { to: Offset(7), tombstones_to: Offset(3) }.encode();
        let read = Compacted::decode(&good);
        assert_eq!(read, Some(Compacted { to: Offset(7), tombstones_to: Offset(3) }));
        for bit in 0..good.len() * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Compacted::decode(&bytes), None, "bit {bit}");
        }
        for end in 0..good.len() {
            assert_eq!(Compacted::decode(&good[..end]), None, "cut at {end}");
        }
    }
}
