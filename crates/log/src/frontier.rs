//! What a log prefix determines, and the one place where the next entry's place is derived.

use bytes::Bytes;
use smallvec::SmallVec;
use tidelog_types::batch::{self, Info};
use tidelog_types::canary;
use tidelog_types::{LogIndex, LogPosition, Offset, Term, Timestamp};

use crate::entry::{Header, Kind, NewEntry};
use crate::envelope::{self, Part, Table};
use crate::error::Error;
use crate::wire::Reader;

/// Everything that a prefix of the log determines and that the next entry depends on.
///
/// Offsets are derived, not proposed: every replica runs [`Frontier::step`] over the same entries,
/// so by Raft's log matching all agree on offsets, void entries, times and chain values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    /// The last entry; `None` before index 0.
    pub last: Option<LogPosition>,
    /// The offset of the next record.
    pub next_offset: Offset,
    /// The term of the last entry, in which `ordinal_next` counts.
    pub ordinal_term: Term,
    /// The ordinal that the next records of that term must carry. Each new term begins at 0.
    pub ordinal_next: u64,
    /// The newest append time so far.
    pub append_time: Timestamp,
    /// The chain value of the last entry; 0 before index 0.
    pub chain: u32,
}

/// The bytes of an encoded frontier.
pub(crate) const FRONTIER_BYTES: usize = 64;

impl Frontier {
    /// The index of the next entry.
    #[must_use]
    pub const fn next_index(&self) -> LogIndex {
        match self.last {
            Some(last) => last.index.next(),
            None => LogIndex::ZERO,
        }
    }

    /// The header of `entry` as the next one of this log. Pure: the same on every replica.
    ///
    /// Errors: an index or term that does not follow, a body that its kind does not allow, a chain
    /// value other than the leader's.
    pub fn step(&self, entry: &NewEntry) -> Result<Header, Error> {
        Ok(self.place(entry, &Inspected::of(entry)?)?.header)
    }

    /// [`Frontier::step`] with the body looked at beforehand.
    pub(crate) fn place(&self, entry: &NewEntry, body: &Inspected) -> Result<Placed, Error> {
        let NewEntry { position, kind, ordinal, .. } = *entry;
        if position.index != self.next_index()
            || self.last.is_some_and(|last| position.term < last.term)
        {
            return Err(Error::NotConsecutive {
                term: position.term,
                index: position.index,
                last_term: self.last.map_or(Term::ZERO, |last| last.term),
                last_index: i128::from(self.next_index().0) - 1,
            });
        }

        let expected = if position.term == self.ordinal_term { self.ordinal_next } else { 0 };
        let void = kind == Kind::Records && ordinal != expected && !canary!(OrdinalNotChecked);
        let in_turn = kind == Kind::Records && !void;
        let mut header = Header {
            position,
            kind,
            append_time: entry.append_time.max(self.append_time),
            ordinal: if kind == Kind::Records { ordinal } else { 0 },
            ordinal_next: if in_turn { expected + 1 } else { expected },
            base_offset: self.next_offset,
            offsets_taken: if in_turn { body.records } else { 0 },
            void,
            chain: 0,
            body_bytes: body.appended_bytes,
        };
        header.chain = envelope::chain(self.chain, &header, &body.table);
        if let Some(expected) = entry.expect_chain.filter(|chain| *chain != header.chain) {
            return Err(Error::ChainMismatch {
                index: position.index,
                chain: header.chain,
                expected,
            });
        }
        Ok(Placed { header, batches: stamped(&header, &body.batches) })
    }

    pub(crate) fn encode(&self) -> [u8; FRONTIER_BYTES] {
        let mut out = [0; FRONTIER_BYTES];
        let last = self.last.unwrap_or_default();
        out[0] = u8::from(self.last.is_some());
        out[4..8].copy_from_slice(&self.chain.to_be_bytes());
        out[8..16].copy_from_slice(&last.term.0.to_be_bytes());
        out[16..24].copy_from_slice(&last.index.0.to_be_bytes());
        out[24..32].copy_from_slice(&self.next_offset.0.to_be_bytes());
        out[32..40].copy_from_slice(&self.ordinal_term.0.to_be_bytes());
        out[40..48].copy_from_slice(&self.ordinal_next.to_be_bytes());
        out[48..56].copy_from_slice(&self.append_time.0.to_be_bytes());
        out
    }

    /// `None` when no log can have it.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let has_last = reader.u8() == 1;
        reader.array::<3>();
        let chain = reader.u32();
        let last = LogPosition { term: Term(reader.u64()), index: LogIndex(reader.u64()) };
        let next_offset = Offset(reader.u64());
        let ordinal_term = Term(reader.u64());
        let ordinal_next = reader.u64();
        let append_time = Timestamp(reader.i64());
        reader.array::<8>();
        let in_range = last.index.0 < u64::MAX && next_offset.0 <= i64::MAX as u64;
        in_range.then_some(Self {
            last: has_last.then_some(last),
            next_offset,
            ordinal_term,
            ordinal_next,
            append_time,
            chain,
        })
    }
}

/// What an entry's body says about itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inspected {
    pub(crate) table: Table,
    pub(crate) batches: SmallVec<[Info; 1]>,
    pub(crate) records: u32,
    /// The bytes of the body as it was appended.
    pub(crate) appended_bytes: u32,
}

impl Inspected {
    /// Looks at a new entry's body. The CRCs of batches are checked when they came from a leader:
    /// our own produce path has checked those of its clients.
    pub(crate) fn of(entry: &NewEntry) -> Result<Self, Error> {
        let verify = entry.expect_chain.is_some();
        Self::body(entry.kind, &entry.body, verify)
            .and_then(|body| body.compacted_from(entry.kind, entry.original.as_ref()))
            .map_err(|reason| Error::BadBody { index: entry.position.index, reason })
    }

    /// The same of an entry that had these parts when it was appended.
    fn compacted_from(
        mut self,
        kind: Kind,
        original: Option<&SmallVec<[Part; 1]>>,
    ) -> Result<Self, String> {
        let Some(original) = original else { return Ok(self) };
        if kind != Kind::Records || original.len() != self.table.parts.len() {
            return Err(format!("{kind:?} compacted from {} parts", original.len()));
        }
        let bytes = original.iter().try_fold(0_u32, |sum, part| sum.checked_add(part.bytes));
        self.appended_bytes = bytes.ok_or("body over 4 GiB")?;
        self.table.original = Some(original.clone());
        Ok(self)
    }

    /// Looks at a body; with `verify`, checks the CRC of each batch.
    pub(crate) fn body(kind: Kind, body: &[Bytes], verify: bool) -> Result<Self, String> {
        let parts_wanted = match kind {
            Kind::Blank => 0..=0,
            Kind::Membership | Kind::Command => 1..=1,
            Kind::Records => 1..=usize::from(u16::MAX),
        };
        if !parts_wanted.contains(&body.len()) {
            return Err(format!("{kind:?} with {} parts", body.len()));
        }
        let mut inspected = Self::default();
        for part in body {
            let bytes = u32::try_from(part.len()).map_err(|_| "part over 4 GiB".to_owned())?;
            let crc = if kind == Kind::Records {
                let info = envelope::inspect_batch(part)?;
                if verify {
                    batch::verify_crc(part).map_err(|err| err.to_string())?;
                }
                inspected.records =
                    inspected.records.checked_add(info.count).ok_or("too many records")?;
                inspected.batches.push(info);
                info.crc
            } else {
                crc32c::crc32c(part)
            };
            inspected.table.parts.push(Part { bytes, crc });
            let sum = inspected.appended_bytes.checked_add(bytes);
            inspected.appended_bytes = sum.ok_or("body over 4 GiB")?;
        }
        Ok(inspected)
    }
}

/// An entry with its place in the log.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) header: Header,
    pub(crate) batches: SmallVec<[Info; 1]>,
}

/// The batches' heads with the base offsets and the epoch that the log stamps. Void batches take no
/// offsets, so all of them keep the header's.
fn stamped(header: &Header, batches: &[Info]) -> SmallVec<[Info; 1]> {
    let mut base = header.base_offset;
    batches
        .iter()
        .map(|info| {
            let info = Info { base_offset: base, ..*info };
            if !header.void {
                base = base.plus(u64::from(info.count));
            }
            info
        })
        .collect()
}
