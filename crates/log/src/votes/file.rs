//! The file of the votes: appended to, read back, compacted.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidelog_types::{GroupId, NodeId};

use super::record::{GroupRecord, Record};
use crate::disk::{self, Disk, File, Open};
use crate::error::OpenError;
use crate::room::Failure;
use crate::wire::Reader;

/// A file that is not longer than this is never compacted.
const COMPACT_BYTES_MIN: u64 = 64 * 1024;

/// A file is compacted when it has this many records for each group.
const COMPACT_RATIO: u64 = 4;

/// The first bytes of the file. The file appears under its name only when it is whole and synced.
///
/// ```text
///  0  magic       8  "tidevote"
///  8  format      4  1
/// 12  zero        4
/// 16  node        8
/// 24  generation  8  one more with each compaction
/// 32  records     8  how many the file began with, all synced before it got its name
/// 40  zero       20
/// 60  crc32c      4  of the bytes before
/// ```
#[derive(Clone, Copy, Debug)]
struct Head {
    node: NodeId,
    generation: u64,
    records: u64,
}

const MAGIC: &[u8; 8] = b"tidevote";
pub(crate) const FORMAT: u32 = 1;
const HEAD_BYTES: usize = 64;

impl Head {
    fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut out = [0; HEAD_BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_be_bytes());
        out[16..24].copy_from_slice(&self.node.to_u64().to_be_bytes());
        out[24..32].copy_from_slice(&self.generation.to_be_bytes());
        out[32..40].copy_from_slice(&self.records.to_be_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Self, OpenError> {
        let corrupt = |reason: &str| OpenError::Corrupt {
            path: path.to_owned(),
            position: 0,
            index: None,
            reason: reason.to_owned(),
        };
        let head = bytes.get(..HEAD_BYTES).ok_or_else(|| corrupt("too short"))?;
        let mut reader = Reader::new(head);
        if &reader.array::<8>() != MAGIC {
            return Err(corrupt("no votes"));
        }
        let format = reader.u32();
        if format > FORMAT && format < 1 << 16 {
            return Err(OpenError::NewerFormat {
                path: path.to_owned(),
                format,
                supported: FORMAT,
            });
        }
        let crc = Reader::new(&head[60..]).u32();
        if crc32c::crc32c(&head[..60]) != crc || format != FORMAT {
            return Err(corrupt("head fails its CRC"));
        }
        reader.u32();
        let node = NodeId::from_u64(reader.u64());
        Ok(Self { node, generation: reader.u64(), records: reader.u64() })
    }
}

/// The open file, behind the flush lock of the votes.
#[derive(Debug)]
pub(super) struct VotesFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn File>,
    node: NodeId,
    generation: u64,
    /// The sequence of the next record; everything before it is on stable storage.
    next: u64,
    /// Nothing vouches for the last records yet.
    unsealed: bool,
}

type Groups = BTreeMap<GroupId, GroupRecord>;

impl VotesFile {
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        node: NodeId,
    ) -> Result<(Self, Groups), OpenError> {
        let io = |action| OpenError::io(action, path.clone());
        if !disk.exists(&path).map_err(io("look for"))? {
            let head = Head { node, generation: 1, records: 0 };
            disk::replace(&*disk, &path, &head.encode()).map_err(io("create"))?;
        }
        let file = disk.open(&path, Open::Write).map_err(io("open"))?;
        let bytes = disk::read_all(&*disk, &path).map_err(io("read"))?;
        let head = Head::decode(&bytes, &path)?;
        if head.node != node {
            return Err(OpenError::Foreign { path, found: head.node, expected: node });
        }

        let (groups, next) = replay(&bytes, &head, &path)?;
        let end = position(next);
        if end < bytes.len() as u64 {
            file.set_len(end).map_err(io("cut"))?;
        }
        // What a killed process wrote, or renamed, may be in the page cache only. If it died of a
        // failed sync the system takes those pages for clean, and only a new write makes them dirty.
        disk::rewrite(&*file, 0..end).map_err(io("rewrite"))?;
        file.sync_all().map_err(io("sync"))?;
        if let Some(dir) = path.parent() {
            disk.sync_dir(dir).map_err(io("sync the directory of"))?;
        }
        let generation = head.generation;
        Ok((Self { disk, path, file, node, generation, next, unsealed: true }, groups))
    }

    /// Whether to write all records anew instead of `more` at the end.
    pub(super) fn wants_compaction(&self, more: usize, groups: usize) -> bool {
        let records = self.next + more as u64;
        position(records) > COMPACT_BYTES_MIN && records > COMPACT_RATIO * groups as u64
    }

    /// Appends and syncs records; with `seal`, at least one that vouches for those before it, unless
    /// that was done already. `urgent`: they hold more than the file has. Returns the bytes written.
    pub(super) fn append(
        &mut self,
        records: &[(GroupId, GroupRecord)],
        urgent: bool,
        seal: bool,
    ) -> Result<u64, Failure> {
        let alone = records.is_empty();
        if alone && !(seal && self.unsealed) {
            return Ok(0);
        }
        let synced_end = self.next;
        let mut bytes = Vec::with_capacity(records.len().max(1) * Record::BYTES);
        let seal_record = alone.then_some(None);
        for (n, group) in records.iter().copied().map(Some).chain(seal_record).enumerate() {
            let record = Record { sequence: self.next + n as u64, synced_end, group };
            bytes.extend_from_slice(&record.encode(self.generation));
        }
        let at = position(self.next);
        let written = self.file.write_at(&[IoSlice::new(&bytes)], at);
        if let Err(failure) = written.map_err(Failure::of_write) {
            if matches!(failure, Failure::Full(_)) {
                // What got in takes room that something else may need more.
                self.file.set_len(at)?;
            }
            return Err(failure);
        }
        self.file.sync_data()?;
        self.next += (bytes.len() / Record::BYTES) as u64;
        // What is not urgent repeats votes that the file has already: it needs no vouching itself.
        self.unsealed = urgent;
        Ok(bytes.len() as u64)
    }

    /// Writes a new file with these records and puts it in the place of this one.
    pub(super) fn compact(&mut self, records: &[(GroupId, GroupRecord)]) -> Result<u64, Failure> {
        let count = records.len() as u64;
        let generation = self.generation + 1;
        let mut bytes = Head { node: self.node, generation, records: count }.encode().to_vec();
        for (sequence, group) in (0..).zip(records) {
            let record = Record { sequence, synced_end: count, group: Some(*group) };
            bytes.extend_from_slice(&record.encode(generation));
        }
        disk::try_replace(&*self.disk, &self.path, &bytes)?;
        self.file = self.disk.open(&self.path, Open::Write)?;
        self.generation = generation;
        self.next = count;
        self.unsealed = false;
        Ok(bytes.len() as u64)
    }
}

const fn position(sequence: u64) -> u64 {
    HEAD_BYTES as u64 + sequence * Record::BYTES as u64
}

/// Reads the bytes of a votes file: the newest record of each group.
pub(crate) fn read(bytes: &[u8], path: &Path) -> Result<Vec<(GroupId, GroupRecord)>, OpenError> {
    let head = Head::decode(bytes, path)?;
    let (groups, _) = replay(bytes, &head, path)?;
    Ok(groups.into_iter().collect())
}

/// Reads all records; the groups, and how many records are whole.
///
/// A record that is damaged is torn, and ends the file, unless something shows that it was on stable
/// storage: the head, or a record behind it. Then a vote may be forgotten, and that is an error.
fn replay(bytes: &[u8], head: &Head, path: &Path) -> Result<(Groups, u64), OpenError> {
    let mut groups = Groups::new();
    let slots = bytes.get(HEAD_BYTES..).unwrap_or_default().chunks(Record::BYTES);
    let mut records = (0..).zip(slots.map(|slot| Record::decode(slot, head.generation)));
    let mut next = 0;
    for (sequence, record) in records.by_ref() {
        match record {
            Some(record) if record.sequence == sequence => {
                groups.extend(record.group);
                next = sequence + 1;
            }
            _ => break,
        }
    }
    let vouched = records.filter_map(|(_, record)| record).any(|record| record.synced_end > next);
    if vouched || next < head.records {
        return Err(OpenError::Corrupt {
            path: path.to_owned(),
            position: position(next),
            index: None,
            reason: "a vote that was safe is damaged".to_owned(),
        });
    }
    Ok((groups, next))
}
