//! Reads the files of a log offline, for people: nothing is changed, damage is shown and stepped over.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use smallvec::SmallVec;
use tidelog_types::batch::Info;
use tidelog_types::{GroupId, LogIndex};

use crate::disk::{Disk, File, Open};
use crate::entry::{Header, Kind};
use crate::envelope;
use crate::error::OpenError;
use crate::frontier::Frontier;
use crate::segment::{Head, HeadError, ScanError, Scanned, Scanner, find_any};
use crate::start::{MalformedStart, StartPoint};
use crate::votes::{self, GroupRecord};

/// How much of a segment is read at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

/// What a segment file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    /// The group.
    pub group: GroupId,
    /// The random number that every CRC in the file is seeded with.
    pub generation: u64,
    /// What the log before this segment determines.
    pub frontier: Frontier,
    /// The length of the file.
    pub bytes: u64,
}

impl fmt::Display for SegmentHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "segment of {}, {} bytes, first index {}, base offset {}, generation {:016x}, chain {:08x}",
            self.group,
            self.bytes,
            self.frontier.next_index(),
            self.frontier.next_offset,
            self.generation,
            self.frontier.chain,
        )
    }
}

/// An entry in a segment file. All its CRCs hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpedEntry {
    /// Where it begins in the file.
    pub position: u64,
    /// How long it is there.
    pub bytes: u64,
    /// The entry.
    pub header: Header,
    /// The first index that was not on stable storage when it was written.
    pub synced_end: LogIndex,
    /// The heads of its batches.
    pub batches: SmallVec<[Info; 1]>,
    /// The bytes of its body; fewer than the header's if it was compacted.
    pub body_bytes: u32,
    /// Whether it was compacted.
    pub is_compacted: bool,
}

impl fmt::Display for DumpedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Header { position, kind, append_time, ordinal, base_offset, .. } = self.header;
        let kind = match kind {
            Kind::Blank => "blank",
            Kind::Membership => "membership",
            Kind::Records => "records",
            Kind::Command => "command",
        };
        write!(
            f,
            "@{} index {} term {} {kind} time {append_time} chain {:08x} synced below {}",
            self.position, position.index, position.term, self.header.chain, self.synced_end,
        )?;
        if self.header.kind == Kind::Records {
            write!(f, " ordinal {ordinal} offsets {base_offset}..{}", self.header.next_offset())?;
        }
        if self.header.void {
            f.write_str(" void")?;
        }
        write!(f, " body {} bytes", self.body_bytes)?;
        if self.is_compacted {
            write!(f, " compacted from {} bytes", self.header.body_bytes)?;
        }
        Ok(())
    }
}

/// Bytes in a segment file that are no entry, or not the one that belongs there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("@{position} damaged: {reason}")]
pub struct Damage {
    /// Where it begins in the file.
    pub position: u64,
    /// What is wrong.
    pub reason: String,
    /// Where the next whole entry begins; `None` when nothing good comes behind.
    pub resumes_at: Option<u64>,
}

/// The entries of a segment file, in order, and the damage between them.
#[derive(Debug)]
pub struct Segment {
    head: SegmentHead,
    file: Arc<dyn File>,
    scanner: Scanner,
    /// Where the next entry must begin its place in the log; unknown right behind damage.
    frontier: Option<Frontier>,
    ended: bool,
}

/// Opens a segment file to walk over its entries.
pub fn segment(disk: &dyn Disk, path: &Path) -> Result<Segment, OpenError> {
    let file = disk.open(path, Open::Read).map_err(OpenError::io("open", path))?;
    let bytes = file.len().map_err(OpenError::io("open", path))?;
    let mut head = [0; Head::BYTES];
    let read = file.read_at(&mut head, 0).map_err(OpenError::io("read", path))?;
    let head = Head::decode(&head[..read]).map_err(|err| match err {
        HeadError::NewerFormat(format) => {
            OpenError::NewerFormat { path: path.to_owned(), format, supported: Head::FORMAT }
        }
        HeadError::Bad(reason) => corrupt(path, reason.to_owned()),
    })?;
    let start = Head::BYTES as u64;
    let scanner = Scanner::new(Arc::clone(&file), head.generation, start, bytes, CHUNK_BYTES);
    let Head { group, generation, frontier } = head;
    let head = SegmentHead { group, generation, frontier, bytes };
    Ok(Segment { head, file, scanner, frontier: Some(frontier), ended: false })
}

/// Reads a start point.
pub fn start_point(disk: &dyn Disk, path: &Path) -> Result<StartPoint, OpenError> {
    let bytes = crate::disk::read_all(disk, path).map_err(OpenError::io("read", path))?;
    StartPoint::decode(&bytes.into()).map_err(|err| match err {
        MalformedStart::NewerFormat(format) => {
            let supported = StartPoint::FORMAT;
            OpenError::NewerFormat { path: path.to_owned(), format, supported }
        }
        MalformedStart::Damaged(reason) => corrupt(path, reason.to_owned()),
    })
}

/// Reads a node's votes: the newest record of each group.
pub fn votes(disk: &dyn Disk, path: &Path) -> Result<Vec<(GroupId, GroupRecord)>, OpenError> {
    let bytes = crate::disk::read_all(disk, path).map_err(OpenError::io("read", path))?;
    votes::read(&bytes, path)
}

fn corrupt(path: &Path, reason: String) -> OpenError {
    OpenError::Corrupt { path: path.to_owned(), position: 0, index: None, reason }
}

impl Segment {
    /// What the file says of itself.
    #[must_use]
    pub const fn head(&self) -> &SegmentHead {
        &self.head
    }

    /// Steps over what is damaged, to the next whole entry.
    fn damaged(&mut self, position: u64, reason: String) -> io::Result<Damage> {
        let (generation, end) = (self.head.generation, self.head.bytes);
        let behind = position + envelope::ALIGN;
        let resumes_at = find_any(&*self.file, generation, behind, end)?;
        match resumes_at {
            Some(at) => {
                let file = Arc::clone(&self.file);
                self.scanner = Scanner::new(file, generation, at, end, CHUNK_BYTES);
                self.frontier = None;
            }
            None => self.ended = true,
        }
        Ok(Damage { position, reason, resumes_at })
    }

    fn check(&mut self, entry: Scanned) -> Result<DumpedEntry, Damage> {
        let header = entry.envelope.header;
        let follows = self.frontier.is_none_or(|frontier| entry.follows(&frontier));
        self.frontier = Some(header.frontier());
        if !follows {
            return Err(Damage {
                position: entry.position,
                reason: format!("entry {} does not follow the one before it", header.position),
                resumes_at: Some(entry.end),
            });
        }
        Ok(DumpedEntry {
            position: entry.position,
            bytes: entry.end - entry.position,
            header,
            synced_end: entry.envelope.synced_end,
            batches: entry.batches,
            body_bytes: entry.envelope.table.body_bytes(),
            is_compacted: entry.envelope.table.original.is_some(),
        })
    }
}

impl Iterator for Segment {
    type Item = io::Result<Result<DumpedEntry, Damage>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.scanner.next() {
            Ok(None) => None,
            Ok(Some(entry)) => Some(Ok(self.check(entry))),
            Err(ScanError::Flaw(position, flaw)) => {
                Some(self.damaged(position, flaw.to_string()).map(Err))
            }
            Err(ScanError::Io(err)) => {
                self.ended = true;
                Some(Err(err))
            }
        }
    }
}
