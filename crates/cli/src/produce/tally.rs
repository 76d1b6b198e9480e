//! What became of the records.

use std::collections::BTreeMap;

use serde::Serialize;
use tidelog_types::{Offset, PartitionId, TopicName};

use crate::{Column, Page};

/// Counts acks.
#[derive(Debug, Default)]
pub(super) struct Tally {
    partitions: BTreeMap<PartitionId, Range>,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    records: u64,
    first: Offset,
    last: Offset,
}

/// What the command did, as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    topic: String,
    acked: u64,
    partitions: Vec<Share>,
}

/// A partition's share of it. Between the two offsets other producers may have records too.
#[derive(Debug, Serialize)]
struct Share {
    partition: u32,
    records: u64,
    first_offset: u64,
    last_offset: u64,
}

const COLUMNS: &[Column] = &[
    Column::number("PARTITION"),
    Column::number("RECORDS"),
    Column::number("FIRST-OFFSET"),
    Column::number("LAST-OFFSET"),
];

impl Tally {
    /// Counts one ack.
    pub(super) fn ack(&mut self, partition: PartitionId, offset: Offset) {
        let range = Range { records: 0, first: offset, last: offset };
        let range = self.partitions.entry(partition).or_insert(range);
        range.records += 1;
        range.first = range.first.min(offset);
        range.last = range.last.max(offset);
    }

    /// How many acks were counted.
    pub(super) fn acked(&self) -> u64 {
        self.partitions.values().map(|range| range.records).sum()
    }

    /// All of it.
    pub(super) fn summary(&self, topic: &TopicName) -> Summary {
        let share = |(partition, range): (&PartitionId, &Range)| Share {
            partition: partition.0,
            records: range.records,
            first_offset: range.first.0,
            last_offset: range.last.0,
        };
        Summary {
            topic: topic.to_string(),
            acked: self.acked(),
            partitions: self.partitions.iter().map(share).collect(),
        }
    }
}

impl Summary {
    /// The summary for people.
    pub(super) fn page(&self) -> Page {
        let cells = |share: &Share| {
            let numbers = [share.records, share.first_offset, share.last_offset];
            let numbers = numbers.iter().map(ToString::to_string);
            std::iter::once(share.partition.to_string()).chain(numbers).collect()
        };
        Page::new().table(COLUMNS, self.partitions.iter().map(cells))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_are_counted_by_partition() {
        let mut tally = Tally::default();
        for (partition, offset) in [(1, 7), (0, 3), (1, 8), (1, 6)] {
            tally.ack(PartitionId(partition), Offset(offset));
        }
        let summary = tally.summary(&TopicName::new("orders").unwrap());
        assert_eq!(tally.acked(), 4);
        let json = serde_json::to_string(&summary.partitions[1]).unwrap();
        assert_eq!(json, r#"{"partition":1,"records":3,"first_offset":6,"last_offset":8}"#);
    }
}
