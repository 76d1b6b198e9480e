//! Checks what a broker sends, and takes the records out of it. No I/O.

use bytes::Bytes;
use tidelog_types::batch::{self, Batch};
use tidelog_types::{Offset, TopicPartition};

use crate::{ReadError, ReadRecord};

/// What batches of one partition are checked against.
#[derive(Debug)]
pub(super) struct Checker<'a> {
    pub(super) partition: &'a TopicPartition,
    pub(super) address: &'a str,
    pub(super) inflate_bytes_max: usize,
    /// Records from here on are not wanted.
    pub(super) until: Option<Offset>,
}

impl Checker<'_> {
    /// Takes the records out of `batch` that stand at `next` or behind it; gives where to go on.
    ///
    /// The batch must hold the offset `next`: not one is missing, and none comes again. Only the records
    /// before `next` in the same batch are passed over, since batches come whole. One that was compacted
    /// says so by holding fewer records than it has offsets, even none.
    pub(super) fn take(
        &self,
        batch: Bytes,
        next: Offset,
        records: &mut Vec<ReadRecord>,
    ) -> Result<Offset, ReadError> {
        let corrupt = |source| ReadError::Corrupt {
            partition: self.partition.clone(),
            offset: next,
            address: self.address.to_owned(),
            source,
        };
        batch::verify_crc(&batch).map_err(corrupt)?;
        let batch = Batch::new(batch).map_err(corrupt)?;
        let info = batch.info();
        if info.base_offset > next || info.next_offset() <= next {
            return Err(self.gap(next, info.base_offset));
        }
        // Markers are not for users, but they take an offset.
        if batch.view().is_control() {
            return Ok(info.next_offset());
        }
        let is_compacted = batch.view().records_held() < info.count;
        let mut expected = info.base_offset;
        for record in batch.records(self.inflate_bytes_max).map_err(corrupt)? {
            let record = record.map_err(corrupt)?;
            if record.offset != expected && !is_compacted {
                return Err(self.gap(expected, record.offset));
            }
            expected = record.offset.next();
            if record.offset < next || self.until.is_some_and(|until| record.offset >= until) {
                continue;
            }
            records.push(ReadRecord {
                topic: self.partition.topic.clone(),
                partition: self.partition.partition,
                offset: record.offset,
                timestamp: record.timestamp,
                key: record.key,
                value: record.value,
                headers: record.headers,
            });
        }
        if expected != info.next_offset() && !is_compacted {
            return Err(self.gap(expected, info.next_offset()));
        }
        Ok(info.next_offset())
    }

    pub(super) fn gap(&self, expected: Offset, found: Offset) -> ReadError {
        ReadError::Gap { partition: self.partition.clone(), expected, found }
    }
}

#[cfg(test)]
mod tests {
    use tidelog_types::batch::{Builder, Codec, NewRecord, stamp_in_place};
    use tidelog_types::{PartitionId, TopicName};

    use super::*;

    fn batch(base: u64, records: u64) -> Bytes {
        let mut builder = Builder::new();
        for _ in 0..records {
            builder.push(&NewRecord { value: Some(b"v"), ..NewRecord::default() }).unwrap();
        }
        let mut batch = builder.finish(Codec::None, None).unwrap().to_vec();
        stamp_in_place(&mut batch, Offset(base), 1);
        batch.into()
    }

    fn take(batch: Bytes, next: u64, until: Option<u64>) -> Result<(u64, Vec<u64>), ReadError> {
        let partition =
            TopicPartition { topic: TopicName::new("t").unwrap(), partition: PartitionId(0) };
        let until = until.map(Offset);
        let (partition, address) = (&partition, "b:1");
        let checker = Checker { partition, address, inflate_bytes_max: 1 << 20, until };
        let mut records = Vec::new();
        let next = checker.take(batch, Offset(next), &mut records)?;
        Ok((next.0, records.iter().map(|record| record.offset.0).collect()))
    }

    #[test]
    fn records_below_the_start_are_passed_over() {
        assert_eq!(take(batch(10, 4), 12, None).unwrap(), (14, vec![12, 13]));
    }

    #[test]
    fn records_from_the_stop_on_are_passed_over() {
        assert_eq!(take(batch(10, 4), 10, Some(12)).unwrap(), (14, vec![10, 11]));
    }

    #[test]
    fn what_compaction_took_out_of_a_batch_is_no_gap() {
        let left = |keep: &[u64]| {
            let keeps = |record: batch::Keyed<'_>| keep.contains(&record.offset.0);
            batch::retain(&batch(10, 4), 0, keeps).unwrap().unwrap()
        };
        assert_eq!(take(left(&[11, 12]), 10, None).unwrap(), (14, vec![11, 12]));
        assert_eq!(take(left(&[10, 13]), 12, None).unwrap(), (14, vec![13]));
        assert_eq!(take(left(&[]), 10, None).unwrap(), (14, vec![]));
        assert!(matches!(take(left(&[]), 14, None), Err(ReadError::Gap { .. })));
    }

    #[test]
    fn a_missing_batch_is_a_gap() {
        let error = take(batch(10, 4), 9, None).unwrap_err();
        assert_eq!(error.to_string(), "t/0 goes on at offset 10, expected 9");
    }

    #[test]
    fn a_batch_that_comes_again_is_refused() {
        assert!(matches!(take(batch(10, 4), 14, None), Err(ReadError::Gap { .. })));
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let mut damaged = batch(10, 4).to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(matches!(take(damaged.into(), 10, None), Err(ReadError::Corrupt { .. })));
    }
}
