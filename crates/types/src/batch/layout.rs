//! Where the header's fields lie, and how they are read and written.

use super::BatchError;

/// The bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;

/// The first byte that the CRC covers. What lies before it needs another guard on disk.
pub const CRC_FROM: usize = 21;

/// The bytes at the front of a batch that a leader stamps: base offset, length, leader epoch.
pub const STAMP_BYTES: usize = 16;

/// The version of the format.
pub const MAGIC: u8 = 2;

/// The bytes that the length field does not count: the base offset and itself.
pub(super) const LENGTH_EXCLUDES: usize = 12;

pub(super) const BASE_OFFSET: usize = 0;
pub(super) const BATCH_LENGTH: usize = 8;
pub(super) const LEADER_EPOCH: usize = 12;
pub(super) const MAGIC_AT: usize = 16;
pub(super) const CRC: usize = 17;
pub(super) const ATTRIBUTES: usize = 21;
pub(super) const LAST_OFFSET_DELTA: usize = 23;
pub(super) const BASE_TIMESTAMP: usize = 27;
pub(super) const MAX_TIMESTAMP: usize = 35;
pub(super) const PRODUCER_ID: usize = 43;
pub(super) const PRODUCER_EPOCH: usize = 51;
pub(super) const BASE_SEQUENCE: usize = 53;
pub(super) const RECORD_COUNT: usize = 57;

pub(super) const CODEC_BITS: i16 = 0b111;
pub(super) const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
pub(super) const TRANSACTIONAL_BIT: i16 = 1 << 4;
pub(super) const CONTROL_BIT: i16 = 1 << 5;

/// A batch's header. Only its length is known to be right.
pub(super) type Head = [u8; HEADER_BYTES];

/// The header at the front of `bytes`, of the right version.
pub(super) fn head(bytes: &[u8]) -> Result<&Head, BatchError> {
    let head = bytes
        .first_chunk()
        .ok_or(BatchError::Truncated { bytes: bytes.len(), needed: HEADER_BYTES })?;
    let magic = head[MAGIC_AT];
    if magic == MAGIC { Ok(head) } else { Err(BatchError::Magic { magic }) }
}

/// The bytes of the whole batch, by its length field.
pub(super) fn batch_bytes(head: &Head) -> Result<u32, BatchError> {
    let length = i32_at(head, BATCH_LENGTH);
    let shortest = (HEADER_BYTES - LENGTH_EXCLUDES) as i32;
    if length < shortest {
        return Err(BatchError::Length { length, bytes: HEADER_BYTES });
    }
    Ok(length as u32 + LENGTH_EXCLUDES as u32)
}

/// The header of `bytes` when they are exactly one batch by its length field.
pub(super) fn whole(bytes: &[u8]) -> Result<&Head, BatchError> {
    let head = head(bytes)?;
    let needed = batch_bytes(head)? as usize;
    if bytes.len() < needed {
        return Err(BatchError::Truncated { bytes: bytes.len(), needed });
    }
    if bytes.len() > needed {
        let length = i32_at(head, BATCH_LENGTH);
        return Err(BatchError::Length { length, bytes: bytes.len() });
    }
    Ok(head)
}

/// The checksum that `batch` should carry. `batch` is at least a header.
pub(super) fn crc_of(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[CRC_FROM..])
}

/// Writes the checksum of `batch` into it. `batch` is at least a header.
pub(super) fn seal(batch: &mut [u8]) {
    let crc = crc_of(batch);
    put(batch, CRC, crc.to_be_bytes());
}

pub(super) fn i16_at(head: &Head, at: usize) -> i16 {
    i16::from_be_bytes(field(head, at))
}

pub(super) fn i32_at(head: &Head, at: usize) -> i32 {
    i32::from_be_bytes(field(head, at))
}

pub(super) fn u32_at(head: &Head, at: usize) -> u32 {
    u32::from_be_bytes(field(head, at))
}

pub(super) fn i64_at(head: &Head, at: usize) -> i64 {
    i64::from_be_bytes(field(head, at))
}

pub(super) fn put<const N: usize>(batch: &mut [u8], at: usize, field: [u8; N]) {
    batch[at..at + N].copy_from_slice(&field);
}

fn field<const N: usize>(head: &Head, at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&head[at..at + N]);
    field
}
