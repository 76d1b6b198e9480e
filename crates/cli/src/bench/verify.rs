//! Reads back what a run has written, and compares.

use std::time::Duration;

use crc32c::crc32c;
use tidelog_client::admin::OffsetAt;
use tidelog_client::{Client, Offset, PartitionId, Position, RecordMetadata, Until};

use super::topic::Topic;
use super::watched::{Counter, watched};
use crate::audit::mix;
use crate::{Failure, chain};

/// The longest wait for something to read.
const READ_WITHIN: Duration = Duration::from_secs(60);

/// What a partition holds of a run. Records may come in any order: each one's CRC32C is bound to its
/// offset, and these are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    records: u64,
    checksum: u64,
}

/// Such sums, by partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sums(Vec<Sum>);

impl Sums {
    pub(super) fn new(partitions: u32) -> Self {
        Self(vec![Sum::default(); partitions as usize])
    }

    /// A value that was acked at this place.
    pub(super) fn acked(&mut self, at: &RecordMetadata, value: &[u8]) {
        self.note(at.partition, at.offset, value);
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (sum, other) in self.0.iter_mut().zip(&other.0) {
            sum.records += other.records;
            sum.checksum = sum.checksum.wrapping_add(other.checksum);
        }
    }

    fn note(&mut self, partition: PartitionId, offset: Offset, value: &[u8]) {
        // A partition that nobody wrote to cannot be read either.
        let Some(sum) = self.0.get_mut(partition.0 as usize) else { return };
        // Mixed, so that two values that changed places do not add up to the same.
        let placed = mix(mix(offset.0) ^ u64::from(crc32c(value)));
        sum.records += 1;
        sum.checksum = sum.checksum.wrapping_add(placed);
    }

    /// Says in one line how what was read differs from this; `None` when it does not.
    fn difference(&self, read: &Self) -> Option<String> {
        let mut differ =
            (0..).zip(self.0.iter().zip(&read.0)).filter(|(_, (own, read))| own != read);
        let (partition, (written, read)) = differ.next()?;
        let others = match differ.count() {
            0 => String::new(),
            more => format!(", and {more} more partitions differ"),
        };
        Some(format!(
            "partition {partition} holds {} records with checksum {:016x}, written were {} with \
             {:016x}{others}",
            read.records, read.checksum, written.records, written.checksum
        ))
    }
}

/// Where a run begins: what lies before is not its own.
#[derive(Clone, Debug)]
pub(super) struct Start(Vec<Offset>);

impl Start {
    pub(super) async fn of(client: &Client, topic: &Topic) -> Result<Self, Failure> {
        topic.offsets(client, OffsetAt::Latest).await.map(Self)
    }

    /// Reads from here to the end and compares with what was acked; gives the difference in one line.
    pub(super) async fn verify(
        self,
        client: &Client,
        topic: &Topic,
        written: &Sums,
    ) -> Result<Option<String>, Failure> {
        let counter = Counter::default();
        let total = written.0.iter().map(|sum| sum.records).sum();
        let read = self.read(client, topic, &counter);
        let read = watched("verifying", total, &counter, read).await?;
        Ok(written.difference(&read))
    }

    async fn read(
        &self,
        client: &Client,
        topic: &Topic,
        counter: &Counter,
    ) -> Result<Sums, Failure> {
        let mut reader = client.reader().until(Until::End);
        for (partition, start) in (0..).map(PartitionId).zip(&self.0) {
            reader = reader.partition(topic.name.clone(), partition, Position::Offset(*start));
        }
        let mut reader = reader.build().await?;
        let mut sums = Sums::new(topic.partitions);
        while let Some(records) = next_batch(&mut reader).await? {
            counter.add(records.len() as u64, bytes_of(&records));
            for record in records {
                let value = record.value.as_deref().unwrap_or_default();
                sums.note(record.partition, record.offset, value);
            }
        }
        Ok(sums)
    }
}

/// The next batch of a reader that has more to come; `None` at the end.
pub(super) async fn next_batch(
    reader: &mut tidelog_client::Reader,
) -> Result<Option<Vec<tidelog_client::ReadRecord>>, Failure> {
    let batch = reader.recv_batch(usize::MAX, READ_WITHIN).await;
    let batch = batch.map_err(|err| Failure::new(format!("cannot read: {}", chain(&err))))?;
    if batch.as_ref().is_some_and(Vec::is_empty) {
        return Err(Failure::new(format!("nothing came to read for {} s", READ_WITHIN.as_secs())));
    }
    Ok(batch)
}

/// Of the values of these records.
pub(super) fn bytes_of(records: &[tidelog_client::ReadRecord]) -> u64 {
    let value = |record: &tidelog_client::ReadRecord| record.value.as_ref().map_or(0, |v| v.len());
    records.iter().map(value).sum::<usize>() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(records: &[(u32, u64, &str)]) -> Sums {
        let mut sums = Sums::new(2);
        for (partition, offset, value) in records {
            sums.note(PartitionId(*partition), Offset(*offset), value.as_bytes());
        }
        sums
    }

    const WRITTEN: &[(u32, u64, &str)] = &[(0, 0, "a"), (0, 1, "b"), (1, 0, "a")];

    #[test]
    fn what_was_written_in_any_order_does_not_differ() {
        let read = sums(&[(0, 1, "b"), (1, 0, "a"), (0, 0, "a")]);
        assert_eq!(sums(WRITTEN).difference(&read), None);
    }

    #[test]
    fn what_is_lost_repeated_swapped_or_changed_differs() {
        for (fault, read) in [
            ("lost", &[(0, 0, "a"), (0, 1, "b")][..]),
            ("repeated", &[(0, 0, "a"), (0, 1, "b"), (0, 2, "b"), (1, 0, "a")]),
            ("swapped", &[(0, 0, "b"), (0, 1, "a"), (1, 0, "a")]),
            ("in another partition", &[(0, 0, "a"), (1, 1, "b"), (1, 0, "a")]),
            ("changed", &[(0, 0, "a"), (0, 1, "c"), (1, 0, "a")]),
        ] {
            assert!(sums(WRITTEN).difference(&sums(read)).is_some(), "{fault}");
        }
    }

    #[test]
    fn the_line_names_the_first_partition_and_counts_the_others() {
        let line = sums(WRITTEN).difference(&sums(&[])).unwrap();
        assert!(line.starts_with("partition 0 holds 0 records"), "{line}");
        assert!(line.ends_with("and 1 more partitions differ"), "{line}");
    }

    #[test]
    fn sums_of_clients_add_up() {
        let mut all = sums(&WRITTEN[..1]);
        all.add(&sums(&WRITTEN[1..]));
        assert_eq!(all, sums(WRITTEN));
    }
}
