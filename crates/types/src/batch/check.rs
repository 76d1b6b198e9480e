//! What a broker checks before it takes a batch.

use super::layout;
use super::record::Walk;
use super::{BatchError, BatchView, Codec, Info, TimestampType};
use crate::ProducerEpoch;

/// A record's length, attributes, deltas, null key, null value and count of no headers.
const RECORD_BYTES_MIN: u64 = 7;

/// What a topic allows its producers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest batch in bytes, header included: `max.message.bytes`.
    pub batch_bytes_max: usize,
}

/// Checks a batch that a client wants appended. `bytes` must be exactly one batch.
///
/// The rules are those of Kafka's `LogValidator`, and stricter in two: a mark that this version
/// gives no meaning (transactional, and bits that Kafka has not assigned) is refused instead of
/// kept, and no record may be younger than the batch's max timestamp, by which records are found.
/// Compressed records are not looked at: a broker never inflates, so a reader must stand bad ones.
///
/// # Errors
/// The first rule that is broken; [`BatchError::error_code`] is what to answer.
pub fn check(bytes: &[u8], limits: &Limits) -> Result<Info, BatchError> {
    // Before the checksum, so that an oversized batch costs nothing.
    if bytes.len() > limits.batch_bytes_max {
        return Err(BatchError::TooLarge { bytes: bytes.len(), bytes_max: limits.batch_bytes_max });
    }
    verify_crc(bytes)?;
    let batch = BatchView::new(bytes)?;
    check_attributes(&batch)?;
    check_count(&batch)?;
    check_producer(&batch)?;
    if batch.codec() == Codec::None {
        check_records(&batch)?;
    }
    Ok(batch.info())
}

/// Checks that `bytes` are exactly one batch of this version and that its CRC holds.
///
/// # Errors
/// When they are not. No other field is looked at.
pub fn verify_crc(bytes: &[u8]) -> Result<(), BatchError> {
    let head = layout::whole(bytes)?;
    let stated = layout::u32_at(head, layout::CRC);
    let computed = layout::crc_of(bytes);
    if stated == computed { Ok(()) } else { Err(BatchError::Crc { stated, computed }) }
}

/// Checks that every record has a key, as a compacted topic needs. Inflates a compressed batch.
///
/// # Errors
/// When a record has no key or is malformed, or the records do not inflate within
/// `inflate_bytes_max`.
pub fn check_keys(bytes: &[u8], inflate_bytes_max: usize) -> Result<(), BatchError> {
    let (mut index, mut without) = (0, None);
    super::each_key(bytes, inflate_bytes_max, |record| {
        if record.key.is_none() {
            without.get_or_insert(index);
        }
        index += 1;
    })?;
    match without {
        Some(index) => {
            Err(BatchError::Record { index, reason: "has no key, its topic is compacted" })
        }
        None => Ok(()),
    }
}

fn check_attributes(batch: &BatchView<'_>) -> Result<(), BatchError> {
    const KNOWN: i16 = layout::CODEC_BITS
        | layout::LOG_APPEND_TIME_BIT
        | layout::TRANSACTIONAL_BIT
        | layout::CONTROL_BIT;
    let attributes = batch.attributes();
    let refuse = |mark| Err(BatchError::Attributes { attributes, mark });
    if !batch.codec().is_accepted() {
        return Err(BatchError::Codec { number: batch.codec().number() });
    }
    if batch.is_control() {
        return refuse("control");
    }
    // Without a coordinator nobody would ever end the transaction.
    if batch.is_transactional() {
        return refuse("transactional");
    }
    if attributes & !KNOWN != 0 {
        return refuse("with an unknown bit");
    }
    if batch.timestamp_type() == TimestampType::LogAppend {
        return Err(BatchError::Timestamp { reason: "timestamp type log-append" });
    }
    Ok(())
}

/// One record per offset, and no more than its bytes can hold: or else a client could use up the
/// partition's offsets with empty batches.
fn check_count(batch: &BatchView<'_>) -> Result<(), BatchError> {
    let count = batch.records_held();
    if count != batch.info().count {
        let last_offset_delta = batch.last_offset_delta();
        return Err(BatchError::Count { count: count as i32, last_offset_delta });
    }
    let inflated = batch.records_bytes().len() as u64 * batch.codec().ratio_max();
    let count_max = inflated / RECORD_BYTES_MIN;
    if u64::from(count) > count_max {
        return Err(BatchError::Record { index: count_max as u32, reason: "has no bytes left" });
    }
    Ok(())
}

fn check_producer(batch: &BatchView<'_>) -> Result<(), BatchError> {
    let Info { producer_id, producer_epoch, base_sequence, .. } = batch.info();
    let complete = producer_epoch > ProducerEpoch::NONE && base_sequence >= 0;
    if !batch.info().has_producer() || complete {
        return Ok(());
    }
    Err(BatchError::Producer { id: producer_id.0, epoch: producer_epoch.0, base_sequence })
}

fn check_records(batch: &BatchView<'_>) -> Result<(), BatchError> {
    let mut walk = Walk::new(batch);
    while let Some(record) = walk.step(batch.records_bytes()) {
        if record?.timestamp > batch.max_timestamp() {
            return Err(BatchError::Timestamp { reason: "a record above its max timestamp" });
        }
    }
    Ok(())
}
