//! The sparse index of a segment: a short cut, never the truth.

use tidelog_types::{LogIndex, Offset, Timestamp};

use crate::entry::Header;
use crate::wire::Reader;

/// How sparse a rebuilt index is.
pub(crate) const REBUILD_EVERY_BYTES: u64 = 4096;

/// Where an entry begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) index: LogIndex,
    /// Its base offset.
    pub(crate) offset: Offset,
    /// Its place in the file.
    pub(crate) position: u64,
    /// The newest record timestamp before it in the segment.
    pub(crate) newest_before: Option<Timestamp>,
}

/// The index points of a segment; the first entry always has one. On disk:
///
/// ```text
///  0  magic       8  "tideindx"
///  8  format      4  1
/// 12  crc32c      4  of the next 32 bytes
/// 16  generation  8  of the segment file
/// 24  end         8  the length of the segment file that the points describe
/// 32  newest      8  the newest record timestamp of the segment, i64::MIN when it has none
/// 40  points      4  how many
/// 44  crc32c      4  of the points
/// 48  per point: index 8, offset 8, position 8, newest timestamp before it 8
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    points: Vec<Point>,
    newest: Option<Timestamp>,
}

const MAGIC: &[u8; 8] = b"tideindx";
const FORMAT: u32 = 1;
const POINT_BYTES: usize = 32;

impl Index {
    /// The bytes before the points.
    pub(crate) const HEAD_BYTES: usize = 48;

    /// Notes an entry; makes a point of it when the last one is `every_bytes` behind.
    pub(crate) fn note(
        &mut self,
        header: &Header,
        max_timestamp: Option<Timestamp>,
        position: u64,
        every_bytes: u64,
    ) {
        if self.points.last().is_none_or(|last| position >= last.position + every_bytes) {
            self.points.push(Point {
                index: header.position.index,
                offset: header.base_offset,
                position,
                newest_before: self.newest,
            });
        }
        self.newest = self.newest.max(max_timestamp);
    }

    /// The newest record timestamp of the segment.
    pub(crate) fn newest(&self) -> Option<Timestamp> {
        self.newest
    }

    /// Where to begin looking for the entry with this index.
    pub(crate) fn by_index(&self, index: LogIndex) -> Option<Point> {
        self.last_where(|point| point.index <= index)
    }

    /// Where to begin looking for the record with this offset: at the last point before it, for
    /// entries that take no offset share the one of the entry behind them.
    pub(crate) fn by_offset(&self, offset: Offset) -> Option<Point> {
        self.last_where(|point| point.offset <= offset)
    }

    /// Where to begin looking for the first batch that has a record at or after `timestamp`.
    pub(crate) fn by_timestamp(&self, timestamp: Timestamp) -> Option<Point> {
        self.last_where(|point| point.newest_before.is_none_or(|newest| newest < timestamp))
    }

    fn last_where(&self, holds: impl Fn(&Point) -> bool) -> Option<Point> {
        let count = self.points.partition_point(holds);
        Some(self.points[count.checked_sub(1)?])
    }

    /// Forgets the points of entries from `index` on. The newest timestamp may then be that of an
    /// entry that is gone: a search begins too early in that case, never too late.
    pub(crate) fn cut(&mut self, index: LogIndex) {
        let keep = self.points.partition_point(|point| point.index < index);
        self.points.truncate(keep);
    }

    pub(crate) fn encode(&self, generation: u64, end: u64) -> Vec<u8> {
        let time = |t: Option<Timestamp>| t.map_or(i64::MIN, |t| t.0);
        let mut points = Vec::with_capacity(self.points.len() * POINT_BYTES);
        for point in &self.points {
            points.extend_from_slice(&point.index.0.to_be_bytes());
            points.extend_from_slice(&point.offset.0.to_be_bytes());
            points.extend_from_slice(&point.position.to_be_bytes());
            points.extend_from_slice(&time(point.newest_before).to_be_bytes());
        }
        let mut head = Vec::with_capacity(32);
        head.extend_from_slice(&generation.to_be_bytes());
        head.extend_from_slice(&end.to_be_bytes());
        head.extend_from_slice(&time(self.newest).to_be_bytes());
        head.extend_from_slice(&(self.points.len() as u32).to_be_bytes());
        head.extend_from_slice(&crc32c::crc32c(&points).to_be_bytes());

        let mut out = Vec::with_capacity(Self::HEAD_BYTES + points.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_be_bytes());
        out.extend_from_slice(&crc32c::crc32c(&head).to_be_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(&points);
        out
    }

    /// Reads points; `None` unless they are whole and describe this very file at this length.
    pub(crate) fn decode(bytes: &[u8], generation: u64, end: u64) -> Option<Self> {
        let newest = Self::decode_newest(bytes, generation, end)?;
        let mut reader = Reader::new(&bytes[40..]);
        let count = reader.u32() as usize;
        let crc = reader.u32();
        if reader.rest().len() != count * POINT_BYTES || crc32c::crc32c(reader.rest()) != crc {
            return None;
        }
        let points = (0..count)
            .map(|_| Point {
                index: LogIndex(reader.u64()),
                offset: Offset(reader.u64()),
                position: reader.u64(),
                newest_before: time(reader.i64()),
            })
            .collect();
        Some(Self { points, newest })
    }

    /// Reads only the newest record timestamp, from the first [`Index::HEAD_BYTES`].
    pub(crate) fn decode_newest(
        bytes: &[u8],
        generation: u64,
        end: u64,
    ) -> Option<Option<Timestamp>> {
        let mut reader = Reader::new(bytes.get(..Self::HEAD_BYTES)?);
        let intact = &reader.array::<8>() == MAGIC
            && reader.u32() == FORMAT
            && reader.u32() == crc32c::crc32c(reader.rest())
            && reader.u64() == generation
            && reader.u64() == end;
        intact.then(|| time(reader.i64()))
    }
}

fn time(t: i64) -> Option<Timestamp> {
    (t != i64::MIN).then_some(Timestamp(t))
}
