//! One batch, borrowed or shared, with all fields of its header.

use bytes::Bytes;

use super::layout::{self, HEADER_BYTES, Head};
use super::{BatchError, Codec, Info, Records};
use crate::{Offset, ProducerEpoch, ProducerId, Timestamp};

/// Who set the records' timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer, record by record.
    Create,
    /// The broker: all records bear the batch's max timestamp.
    LogAppend,
}

/// One whole batch, borrowed.
///
/// Invariants: the bytes are exactly one batch by its length field, and [`Info::read`] takes its
/// header. The CRC and the records are not checked.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    bytes: &'a [u8],
    head: &'a Head,
    info: Info,
}

impl<'a> BatchView<'a> {
    /// Views `bytes` as one batch.
    ///
    /// # Errors
    /// When the bytes are not exactly one batch, or a header field is out of bounds.
    pub fn new(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let head = layout::whole(bytes)?;
        Ok(Self { bytes, head, info: Info::of(head)? })
    }

    /// The facts of the header.
    #[must_use]
    pub const fn info(&self) -> Info {
        self.info
    }

    /// The whole batch.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records as they lie in the batch, under its codec.
    #[must_use]
    pub fn records_bytes(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// The offset of the first record.
    #[must_use]
    pub const fn base_offset(&self) -> Offset {
        self.info.base_offset
    }

    /// The offset of the last record.
    #[must_use]
    pub const fn last_offset(&self) -> Offset {
        self.info.last_offset()
    }

    /// The offset right behind the batch.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.info.next_offset()
    }

    /// The distance from the base offset to the last offset.
    #[must_use]
    pub const fn last_offset_delta(&self) -> i32 {
        self.info.last_offset_delta
    }

    /// The epoch of the leader that stamped the batch, -1 before that.
    #[must_use]
    pub fn leader_epoch(&self) -> i32 {
        layout::i32_at(self.head, layout::LEADER_EPOCH)
    }

    /// The checksum that the header states.
    #[must_use]
    pub const fn crc(&self) -> u32 {
        self.info.crc
    }

    /// The attribute bits.
    #[must_use]
    pub fn attributes(&self) -> i16 {
        layout::i16_at(self.head, layout::ATTRIBUTES)
    }

    /// The codec of the records.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.info.codec
    }

    /// Who set the records' timestamps.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes() & layout::LOG_APPEND_TIME_BIT == 0 {
            TimestampType::Create
        } else {
            TimestampType::LogAppend
        }
    }

    /// Whether the batch is part of a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes() & layout::TRANSACTIONAL_BIT != 0
    }

    /// Whether the records are markers for the broker and not for consumers.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes() & layout::CONTROL_BIT != 0
    }

    /// What the records' timestamp deltas count from.
    #[must_use]
    pub const fn base_timestamp(&self) -> Timestamp {
        self.info.base_timestamp
    }

    /// The largest timestamp of the batch.
    #[must_use]
    pub const fn max_timestamp(&self) -> Timestamp {
        self.info.max_timestamp
    }

    /// The producer, or [`ProducerId::NONE`].
    #[must_use]
    pub const fn producer_id(&self) -> ProducerId {
        self.info.producer_id
    }

    /// The producer's epoch, or [`ProducerEpoch::NONE`].
    #[must_use]
    pub const fn producer_epoch(&self) -> ProducerEpoch {
        self.info.producer_epoch
    }

    /// The sequence number of the first record, -1 without a producer.
    #[must_use]
    pub const fn base_sequence(&self) -> i32 {
        self.info.base_sequence
    }

    /// The records in the batch, by its header. Fewer than its offsets once it is compacted.
    #[must_use]
    pub fn records_held(&self) -> u32 {
        layout::u32_at(self.head, layout::RECORD_COUNT)
    }
}

/// One whole batch over shared bytes, cheap to clone. Invariants as of [`BatchView`].
#[derive(Clone, Debug)]
pub struct Batch {
    bytes: Bytes,
    info: Info,
}

impl Batch {
    /// Takes `bytes` as one batch.
    ///
    /// # Errors
    /// When the bytes are not exactly one batch, or a header field is out of bounds.
    pub fn new(bytes: Bytes) -> Result<Self, BatchError> {
        let info = BatchView::new(&bytes)?.info();
        Ok(Self { bytes, info })
    }

    /// All fields of the header.
    #[must_use]
    pub fn view(&self) -> BatchView<'_> {
        let head = self.bytes.first_chunk().expect("a batch is at least its header");
        BatchView { bytes: &self.bytes, head, info: self.info }
    }

    /// The facts of the header.
    #[must_use]
    pub const fn info(&self) -> Info {
        self.info
    }

    /// The whole batch.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The whole batch.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The records, see [`super::records`].
    ///
    /// # Errors
    /// When the records cannot be inflated within `inflate_bytes_max`.
    pub fn records(&self, inflate_bytes_max: usize) -> Result<Records, BatchError> {
        Records::of(&self.view(), &self.bytes, inflate_bytes_max)
    }
}
