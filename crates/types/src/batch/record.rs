//! Records: as consumers get them, and as they lie in a batch.

use std::fmt;
use std::ops::{Deref, Range};

use bytes::Bytes;

use super::{BatchError, BatchView, TimestampType, varint};
use crate::{Offset, Timestamp};

/// A record out of a batch.
///
/// Its bytes are slices of the batch, or of what the batch inflated to, and keep the whole of it in
/// memory as long as one of them lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its position in the partition.
    pub offset: Offset,
    /// When it was made or appended, see [`TimestampType`].
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers, in the producer's order. Names may repeat.
    pub headers: Vec<Header>,
}

/// A named value beside a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub name: HeaderName,
    /// The value.
    pub value: Option<Bytes>,
}

/// The name of a header: text over shared bytes, cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderName(Bytes);

impl HeaderName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when the name was made")
    }

    /// What is not UTF-8 is replaced, as Kafka's clients do: an error would stop a consumer for good.
    fn from_wire(bytes: Bytes) -> Self {
        match String::from_utf8_lossy(&bytes) {
            std::borrow::Cow::Borrowed(_) => Self(bytes),
            std::borrow::Cow::Owned(text) => Self(text.into()),
        }
    }
}

impl From<&str> for HeaderName {
    fn from(name: &str) -> Self {
        Self(Bytes::copy_from_slice(name.as_bytes()))
    }
}

impl From<String> for HeaderName {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl Deref for HeaderName {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for HeaderName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for HeaderName {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for HeaderName {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Where the parts of a record lie in its block. Every range lies inside the block.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) offset: Offset,
    pub(super) timestamp: Timestamp,
    pub(super) key: Option<Range<usize>>,
    pub(super) value: Option<Range<usize>>,
    headers: Range<usize>,
    header_count: usize,
}

impl Span {
    /// The record, as slices of `block`.
    pub(super) fn record(self, block: &Bytes) -> Record {
        let slice = |range: Range<usize>| block.slice(range);
        let mut cursor = Cursor { bytes: &block[..self.headers.end], at: self.headers.start };
        let mut headers = Vec::with_capacity(self.header_count);
        // The walk has read the same headers, so none is missed.
        while let (true, Ok((name, value))) = (headers.len() < self.header_count, cursor.header()) {
            let name = HeaderName::from_wire(slice(name));
            headers.push(Header { name, value: value.map(slice) });
        }
        Record {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.map(slice),
            value: self.value.map(slice),
            headers,
        }
    }
}

/// A walk over the records of one block; the block is an argument of each step.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    base_offset: Offset,
    base_timestamp: Timestamp,
    /// All records bear this one when the broker set the time.
    append_time: Option<Timestamp>,
    last_offset_delta: i64,
    records: u32,
    /// The place of the next record in the batch.
    index: u32,
    at: usize,
    /// Records stand in the order of their offsets.
    offset_delta_min: i64,
    ended: bool,
}

impl Walk {
    pub(super) fn new(batch: &BatchView<'_>) -> Self {
        let append_time =
            (batch.timestamp_type() == TimestampType::LogAppend).then(|| batch.max_timestamp());
        Self {
            base_offset: batch.base_offset(),
            base_timestamp: batch.base_timestamp(),
            append_time,
            last_offset_delta: i64::from(batch.last_offset_delta()),
            records: batch.records_held(),
            index: 0,
            at: 0,
            offset_delta_min: 0,
            ended: false,
        }
    }

    /// The next record of `block`; `None` behind the last one and behind an error.
    pub(super) fn step(&mut self, block: &[u8]) -> Option<Result<Span, BatchError>> {
        if self.ended {
            return None;
        }
        if self.index == self.records {
            self.ended = true;
            return (self.at != block.len()).then_some(Err(BatchError::Record {
                index: self.index,
                reason: "was not counted",
            }));
        }
        let span = self.read(block);
        let index = self.index;
        self.index += 1;
        self.ended = span.is_err();
        Some(span.map_err(|reason| BatchError::Record { index, reason }))
    }

    /// Where the next record begins in the block.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// The most records that may still come.
    pub(super) fn left(&self) -> usize {
        if self.ended { 0 } else { (self.records - self.index) as usize + 1 }
    }

    fn read(&mut self, block: &[u8]) -> Result<Span, &'static str> {
        let mut cursor = Cursor { bytes: block, at: self.at };
        let length = cursor.length()?.ok_or("has no length")?;
        let end = cursor.take(length)?.end;
        let mut cursor = Cursor { bytes: &block[..end], at: end - length };
        self.at = end;
        // The attributes of a record have no meaning yet; Kafka ignores them too.
        cursor.take(1)?;
        let timestamp = self.timestamp(cursor.number()?)?;
        let offset = self.offset(cursor.number()?)?;
        let key = cursor.nullable()?;
        let value = cursor.nullable()?;
        let header_count = cursor.length()?.ok_or("has a negative number of headers")?;
        let headers = cursor.at..end;
        for _ in 0..header_count {
            cursor.header()?;
        }
        if cursor.at != end {
            return Err("is shorter than its length");
        }
        Ok(Span { offset, timestamp, key, value, headers, header_count })
    }

    fn timestamp(&self, delta: i64) -> Result<Timestamp, &'static str> {
        if let Some(append_time) = self.append_time {
            return Ok(append_time);
        }
        let timestamp = self.base_timestamp.0.checked_add(delta);
        timestamp.map(Timestamp).ok_or("has a timestamp out of bounds")
    }

    fn offset(&mut self, delta: i64) -> Result<Offset, &'static str> {
        if !(self.offset_delta_min..=self.last_offset_delta).contains(&delta) {
            return Err("has an offset out of turn");
        }
        self.offset_delta_min = delta + 1;
        Ok(self.base_offset.plus(delta as u64))
    }
}

/// Reads the parts of one record. `at <= bytes.len()` always.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn number(&mut self) -> Result<i64, &'static str> {
        varint::read(self.bytes, &mut self.at).ok_or("has a malformed number")
    }

    /// A length or count; `None` for the null that -1 stands for.
    fn length(&mut self) -> Result<Option<usize>, &'static str> {
        let length = self.number()?;
        match i32::try_from(length) {
            Ok(-1) => Ok(None),
            Ok(length) if length >= 0 => Ok(Some(length as usize)),
            _ => Err("has a length out of bounds"),
        }
    }

    fn take(&mut self, length: usize) -> Result<Range<usize>, &'static str> {
        if length > self.bytes.len() - self.at {
            return Err("is longer than its bytes");
        }
        let start = self.at;
        self.at += length;
        Ok(start..self.at)
    }

    fn nullable(&mut self) -> Result<Option<Range<usize>>, &'static str> {
        let length = self.length()?;
        length.map(|length| self.take(length)).transpose()
    }

    fn header(&mut self) -> Result<(Range<usize>, Option<Range<usize>>), &'static str> {
        let name = self.nullable()?.ok_or("has a header without a name")?;
        Ok((name, self.nullable()?))
    }
}
