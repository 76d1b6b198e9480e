//! Encodes records into a batch.

use bytes::{BufMut, Bytes, BytesMut};

use super::layout::{self, HEADER_BYTES, LENGTH_EXCLUDES, MAGIC};
use super::{BatchError, Codec, codec, stamp, varint};
use crate::{ProducerEpoch, ProducerId, Timestamp};

/// A record to append to a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers, name and value. Names may repeat.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// When it was made.
    pub timestamp: Timestamp,
}

/// Collects records into one batch.
///
/// Invariants: `out` is a header yet to be written and `count` encoded records; the batch never
/// outgrows what its length field can say.
#[derive(Clone, Debug)]
pub struct Builder {
    out: BytesMut,
    count: u32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

impl Builder {
    /// A builder without records.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(HEADER_BYTES)
    }

    /// A builder without records that has room for a batch of `bytes` before it allocates again.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let mut out = BytesMut::with_capacity(bytes.max(HEADER_BYTES));
        out.put_bytes(0, HEADER_BYTES);
        Self { out, count: 0, base_timestamp: Timestamp(0), max_timestamp: Timestamp(i64::MIN) }
    }

    /// The number of records.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether there is no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The size of the batch, header included, exact but for compression, which only makes it less.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.out.len()
    }

    /// What [`Builder::bytes`] would be with `record` appended.
    #[must_use]
    pub fn bytes_with(&self, record: &NewRecord<'_>) -> usize {
        let delta = record.timestamp.0.wrapping_sub(self.base_timestamp(record).0);
        let body = body_bytes(record, delta, self.count);
        self.out.len() + varint::bytes_of(body as i64) + body
    }

    /// Appends `record`. Nothing is appended on an error.
    ///
    /// # Errors
    /// When the batch would outgrow its format: 2 GiB, or timestamps further apart than an `i64`.
    pub fn push(&mut self, record: &NewRecord<'_>) -> Result<(), BatchError> {
        const BYTES_MAX: usize = i32::MAX as usize;
        let base_timestamp = self.base_timestamp(record);
        let delta = record.timestamp.0.checked_sub(base_timestamp.0);
        let delta = delta.ok_or(BatchError::Timestamp { reason: "timestamps too far apart" })?;
        let bytes = self.bytes_with(record);
        if bytes > BYTES_MAX {
            return Err(BatchError::TooLarge { bytes, bytes_max: BYTES_MAX });
        }
        self.out.reserve(bytes - self.out.len());
        put_record(&mut self.out, record, delta, self.count);
        assert_eq!(self.out.len(), bytes, "a record has the size that was computed");
        self.base_timestamp = base_timestamp;
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        self.count += 1;
        Ok(())
    }

    /// The batch, at base offset 0 and leader epoch -1, both to be stamped by the leader.
    ///
    /// The producer's part is its id, its epoch and the sequence number of the first record. Records
    /// that the codec would not make smaller are left as they are.
    ///
    /// # Errors
    /// When there is no record, or the codec is not in this build.
    pub fn finish(
        self,
        codec: Codec,
        producer: Option<(ProducerId, ProducerEpoch, i32)>,
    ) -> Result<Bytes, BatchError> {
        if self.count == 0 {
            return Err(BatchError::Count { count: 0, last_offset_delta: -1 });
        }
        let Self { out: mut batch, count, base_timestamp, max_timestamp } = self;
        let codec = codec::pack(&mut batch, codec)?;
        let length = (batch.len() - LENGTH_EXCLUDES) as i32;
        layout::put(&mut batch, layout::BATCH_LENGTH, length.to_be_bytes());
        layout::put(&mut batch, layout::LEADER_EPOCH, (-1_i32).to_be_bytes());
        layout::put(&mut batch, layout::MAGIC_AT, [MAGIC]);
        layout::put(&mut batch, layout::ATTRIBUTES, i16::from(codec.number()).to_be_bytes());
        layout::put(&mut batch, layout::LAST_OFFSET_DELTA, (count - 1).to_be_bytes());
        layout::put(&mut batch, layout::BASE_TIMESTAMP, base_timestamp.0.to_be_bytes());
        layout::put(&mut batch, layout::MAX_TIMESTAMP, max_timestamp.0.to_be_bytes());
        layout::put(&mut batch, layout::RECORD_COUNT, count.to_be_bytes());
        stamp::put_producer(&mut batch, producer);
        layout::seal(&mut batch);
        Ok(batch.freeze())
    }

    /// Timestamps count from the first record's.
    fn base_timestamp(&self, record: &NewRecord<'_>) -> Timestamp {
        if self.count == 0 { record.timestamp } else { self.base_timestamp }
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

/// The bytes of a record behind its length.
fn body_bytes(record: &NewRecord<'_>, timestamp_delta: i64, offset_delta: u32) -> usize {
    let headers = record.headers.iter();
    let headers: usize = headers
        .map(|(name, value)| nullable_bytes(Some(name.as_bytes())) + nullable_bytes(*value))
        .sum();
    1 + varint::bytes_of(timestamp_delta)
        + varint::bytes_of(i64::from(offset_delta))
        + nullable_bytes(record.key)
        + nullable_bytes(record.value)
        + varint::bytes_of(record.headers.len() as i64)
        + headers
}

fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(varint::bytes_of(-1), |bytes| varint::bytes_of(bytes.len() as i64) + bytes.len())
}

fn put_record(out: &mut BytesMut, record: &NewRecord<'_>, timestamp_delta: i64, offset_delta: u32) {
    const NO_ATTRIBUTES: u8 = 0;
    varint::put(out, body_bytes(record, timestamp_delta, offset_delta) as i64);
    out.put_u8(NO_ATTRIBUTES);
    varint::put(out, timestamp_delta);
    varint::put(out, i64::from(offset_delta));
    put_nullable(out, record.key);
    put_nullable(out, record.value);
    varint::put(out, record.headers.len() as i64);
    for (name, value) in record.headers {
        put_nullable(out, Some(name.as_bytes()));
        put_nullable(out, *value);
    }
}

fn put_nullable(out: &mut BytesMut, bytes: Option<&[u8]>) {
    varint::put(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.put_slice(bytes.unwrap_or_default());
}
