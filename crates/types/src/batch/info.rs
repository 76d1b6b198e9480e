//! The facts of a batch that the log, the state machines and Raft carry beside its bytes.

use super::layout::{self, Head};
use super::{BatchError, Codec};
use crate::{Offset, ProducerEpoch, ProducerId, Timestamp};

/// The header of a batch, without what only its readers need.
///
/// Invariants, when read by [`Info::read`]: `count >= 1`, and `base_offset + count` fits an `i64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The offset of the first record; what a client sent there means nothing until it is stamped.
    pub base_offset: Offset,
    /// The producer, or [`ProducerId::NONE`].
    pub producer_id: ProducerId,
    /// The producer's epoch, or [`ProducerEpoch::NONE`].
    pub producer_epoch: ProducerEpoch,
    /// The sequence number of the first record, -1 without a producer.
    pub base_sequence: i32,
    /// The offsets that the batch takes: one more than the last offset delta.
    ///
    /// A compacted batch keeps its offsets and holds fewer records, see [`super::BatchView::records_held`].
    pub count: u32,
    /// The distance from the base offset to the last offset.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas count from.
    pub base_timestamp: Timestamp,
    /// The largest timestamp of the batch.
    pub max_timestamp: Timestamp,
    /// The checksum of all from byte 21, as the header states it.
    pub crc: u32,
    /// The size of the whole batch, header and records.
    pub bytes: u32,
    /// The codec of the records.
    pub codec: Codec,
}

impl Info {
    /// Reads the header at the front of `bytes`, of which 61 are enough. The CRC is not checked.
    ///
    /// # Errors
    /// When the header is cut off, of another version, or holds a field that no batch can have.
    pub fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        Self::of(layout::head(bytes)?)
    }

    pub(super) fn of(head: &Head) -> Result<Self, BatchError> {
        let last_offset_delta = layout::i32_at(head, layout::LAST_OFFSET_DELTA);
        let records = layout::i32_at(head, layout::RECORD_COUNT);
        // A compacted batch may hold fewer records than it takes offsets, even none.
        if last_offset_delta < 0
            || records < 0
            || i64::from(records) > i64::from(last_offset_delta) + 1
        {
            return Err(BatchError::Count { count: records, last_offset_delta });
        }
        let count = last_offset_delta as u32 + 1;
        let base_offset = layout::i64_at(head, layout::BASE_OFFSET);
        if base_offset < 0 || base_offset.checked_add(i64::from(count)).is_none() {
            return Err(BatchError::Field { field: "base offset", value: base_offset });
        }
        Ok(Self {
            base_offset: Offset(base_offset as u64),
            producer_id: ProducerId(layout::i64_at(head, layout::PRODUCER_ID)),
            producer_epoch: ProducerEpoch(layout::i16_at(head, layout::PRODUCER_EPOCH)),
            base_sequence: layout::i32_at(head, layout::BASE_SEQUENCE),
            count,
            last_offset_delta,
            base_timestamp: Timestamp(layout::i64_at(head, layout::BASE_TIMESTAMP)),
            max_timestamp: Timestamp(layout::i64_at(head, layout::MAX_TIMESTAMP)),
            crc: layout::u32_at(head, layout::CRC),
            bytes: layout::batch_bytes(head)?,
            codec: Codec::from_attributes(layout::i16_at(head, layout::ATTRIBUTES))?,
        })
    }

    /// The offset of the last record.
    #[must_use]
    pub const fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0 + self.count as u64 - 1)
    }

    /// The offset right behind the batch.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.base_offset.plus(self.count as u64)
    }

    /// Whether an idempotent producer sent the batch.
    #[must_use]
    pub const fn has_producer(&self) -> bool {
        self.producer_id.0 >= 0
    }
}
