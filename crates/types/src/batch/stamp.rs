//! The fields that change after a batch is encoded.

use bytes::{Bytes, BytesMut};

use super::layout::{self, STAMP_BYTES};
use super::{BatchError, BatchView};
use crate::{Offset, ProducerEpoch, ProducerId};

/// The first 16 bytes of a batch with the base offset and leader epoch that it is appended under.
///
/// `head` is the batch or at least its first 16 bytes; the CRC covers none of them. Written in front
/// of the rest of the batch, the stamp saves a copy of the whole.
///
/// # Panics
/// When `head` is shorter: only a checked batch is stamped.
#[must_use]
pub fn stamp(head: &[u8], base_offset: Offset, leader_epoch: i32) -> [u8; STAMP_BYTES] {
    let mut stamped = *head.first_chunk().expect("a batch is checked before it is stamped");
    stamp_in_place(&mut stamped, base_offset, leader_epoch);
    stamped
}

/// Writes base offset and leader epoch into `batch`, the whole or at least its first 16 bytes.
///
/// # Panics
/// When `batch` is shorter: only a checked batch is stamped.
pub fn stamp_in_place(batch: &mut [u8], base_offset: Offset, leader_epoch: i32) {
    layout::put(batch, layout::BASE_OFFSET, base_offset.to_wire().to_be_bytes());
    layout::put(batch, layout::LEADER_EPOCH, leader_epoch.to_be_bytes());
}

/// The batch under another producer, epoch or sequence, with a new CRC.
///
/// For a producer that must send an encoded batch again after it took a new epoch. Changes the bytes
/// in place when nobody else holds them, copies them otherwise. `None` takes the producer away.
///
/// # Errors
/// When `batch` is not exactly one batch, or its CRC does not hold: a new CRC would hide the damage.
pub fn set_producer(
    batch: Bytes,
    producer: Option<(ProducerId, ProducerEpoch, i32)>,
) -> Result<Bytes, BatchError> {
    super::verify_crc(&batch)?;
    BatchView::new(&batch)?;
    let mut batch = batch.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    put_producer(&mut batch, producer);
    layout::seal(&mut batch);
    Ok(batch.freeze())
}

pub(super) fn put_producer(batch: &mut [u8], producer: Option<(ProducerId, ProducerEpoch, i32)>) {
    let (id, epoch, base_sequence) =
        producer.unwrap_or((ProducerId::NONE, ProducerEpoch::NONE, -1));
    layout::put(batch, layout::PRODUCER_ID, id.0.to_be_bytes());
    layout::put(batch, layout::PRODUCER_EPOCH, epoch.0.to_be_bytes());
    layout::put(batch, layout::BASE_SEQUENCE, base_sequence.to_be_bytes());
}
