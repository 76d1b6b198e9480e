//! Entries of the log, on their way in and on their way out.

use bytes::Bytes;
use smallvec::SmallVec;
use tidelog_types::batch::Info;
use tidelog_types::{LogIndex, LogPosition, Offset, Term, Timestamp};

use crate::envelope::Part;
use crate::error::Error;
use crate::frontier::Frontier;
use crate::segment::SegmentSlice;

/// What an entry is. The numbers are on disk, where 4 stands for records that were compacted; 5 and
/// up are reserved (transactions, queue).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A new leader's first entry: no body.
    Blank = 0,
    /// A change of the group's membership: one opaque part.
    Membership = 1,
    /// Records: one whole batch per part. The only kind that takes offsets.
    Records = 2,
    /// A command to the group's state machine: one opaque part.
    Command = 3,
}

impl Kind {
    /// The largest number that an entry has on disk.
    pub(crate) const ON_DISK_MAX: u32 = 4;

    /// The kind with this number; `None` when this version knows no such kind.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Blank),
            1 => Some(Self::Membership),
            2 => Some(Self::Records),
            3 => Some(Self::Command),
            _ => None,
        }
    }
}

/// An entry to append.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// Term and index; the index follows the last one.
    pub position: LogPosition,
    /// What it is.
    pub kind: Kind,
    /// The leader's clock. Where it is behind the log's newest time, that one counts.
    pub append_time: Timestamp,
    /// Records: the how-manieth proposal of records in this term, from zero. Otherwise ignored: 0.
    pub ordinal: u64,
    /// Records: one whole batch per part. Blank: none. Otherwise one opaque part.
    pub body: SmallVec<[Bytes; 1]>,
    /// Follower: the leader's chain value. A mismatch is refused as corruption, and with it set
    /// the CRC of every batch is checked.
    pub expect_chain: Option<u32>,
    /// Records that another replica has compacted: the parts as they were appended, as many as `body`
    /// has.
    pub original: Option<SmallVec<[Part; 1]>>,
}

/// An entry without its body. All of it is a function of the log prefix: equal on all replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Term and index.
    pub position: LogPosition,
    /// What it is.
    pub kind: Kind,
    /// When the leader appended it; never goes back within a log.
    pub append_time: Timestamp,
    /// The ordinal that it was proposed with.
    pub ordinal: u64,
    /// The ordinal that the next entry with records must carry in this term.
    pub ordinal_next: u64,
    /// The offset of its first record; without records, the log's next offset.
    pub base_offset: Offset,
    /// How many offsets it takes: the sum of its batches' counts, or 0.
    pub offsets_taken: u32,
    /// Records out of turn in their term: they take no offset and apply must refuse them.
    pub void: bool,
    /// Covers the entry before, this header, and the CRCs of the body's parts.
    pub chain: u32,
    /// The bytes of the body as it was appended; a compacted entry holds fewer.
    pub body_bytes: u32,
}

impl Header {
    /// The offset right after this entry.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.base_offset.plus(self.offsets_taken as u64)
    }

    /// The frontier of the log that ends with this entry.
    #[must_use]
    pub const fn frontier(&self) -> Frontier {
        Frontier {
            last: Some(self.position),
            next_offset: self.next_offset(),
            ordinal_term: self.position.term,
            ordinal_next: self.ordinal_next,
            append_time: self.append_time,
            chain: self.chain,
        }
    }

    /// The term.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.position.term
    }

    /// The index.
    #[must_use]
    pub const fn index(&self) -> LogIndex {
        self.position.index
    }
}

/// An entry of the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// All but the body.
    pub header: Header,
    /// Records only: one per batch, with the base offset and leader epoch that the log stamped.
    /// Those of a void entry take no offsets: each carries the header's base offset.
    pub batches: SmallVec<[Info; 1]>,
    /// The body.
    pub body: Body,
    /// If the entry was compacted: its parts as they were appended.
    pub original: Option<SmallVec<[Part; 1]>>,
}

/// The body of an entry: in memory, or still on disk.
#[derive(Clone, Debug)]
pub enum Body {
    /// The parts, as they were appended or as they were read: heads of batches may not be stamped.
    /// Who forwards them to another replica need not care, for that one stamps its own.
    Memory(SmallVec<[Bytes; 1]>),
    /// On disk.
    Slice(SegmentSlice),
}

impl Body {
    /// The parts of the body, one whole batch each for records.
    ///
    /// A slice is read from disk (it blocks) and checked: the envelope's CRC and every part's.
    /// Errors: [`Error::Gone`] when the entry was truncated meanwhile, [`Error::Corrupt`], [`Error::Io`].
    pub fn load(&self) -> Result<SmallVec<[Bytes; 1]>, Error> {
        match self {
            Self::Memory(parts) => Ok(parts.clone()),
            Self::Slice(slice) => slice.load(),
        }
    }

    /// The parts, if they are in memory; never blocks.
    #[must_use]
    pub fn in_memory(&self) -> Option<&SmallVec<[Bytes; 1]>> {
        match self {
            Self::Memory(parts) => Some(parts),
            Self::Slice(_) => None,
        }
    }
}
