//! Batch headers for tests.

use tidelog_types::{Offset, ProducerEpoch, ProducerId, Timestamp, batch};

/// A header with a producer's claim.
pub(super) fn batch(
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: i32,
    count: u32,
) -> batch::Info {
    batch::Info {
        base_offset: Offset::ZERO,
        producer_id,
        producer_epoch,
        base_sequence,
        count,
        last_offset_delta: count as i32 - 1,
        base_timestamp: Timestamp(0),
        max_timestamp: Timestamp(0),
        crc: 0,
        bytes: 61,
        codec: batch::Codec::None,
    }
}
