//! A reader that ends at an offset of its own in each partition.

use std::collections::BTreeMap;

use tidelog_client::{ReadError, ReadRecord, Reader};
use tidelog_types::{Offset, TopicPartition};

/// Reads on until each partition has come to its end.
#[derive(Debug)]
pub(crate) struct Bounded {
    reader: Reader,
    ends: Option<Ends>,
}

impl Bounded {
    /// `reader`, which may end by itself, up to `ends`; without them, up to its own end.
    pub(crate) fn new(reader: Reader, ends: Option<Vec<(TopicPartition, Offset)>>) -> Self {
        Self { reader, ends: ends.map(Ends::new) }
    }

    /// The next record; `None` at the end. Cancel safe.
    pub(crate) async fn recv(&mut self) -> Result<Option<ReadRecord>, ReadError> {
        loop {
            if self.ends.as_ref().is_some_and(Ends::are_reached) {
                return Ok(None);
            }
            let Some(record) = self.reader.recv().await? else {
                return Ok(None);
            };
            let Some(ends) = &mut self.ends else {
                return Ok(Some(record));
            };
            let name = TopicPartition { topic: record.topic.clone(), partition: record.partition };
            if ends.take(&name, record.offset) {
                return Ok(Some(record));
            }
        }
    }
}

/// The partitions that have not come to their end yet.
#[derive(Debug)]
struct Ends {
    open: BTreeMap<TopicPartition, Offset>,
}

impl Ends {
    fn new(ends: Vec<(TopicPartition, Offset)>) -> Self {
        // Before offset 0 there is nothing to wait for.
        Self { open: ends.into_iter().filter(|(_, end)| *end > Offset::ZERO).collect() }
    }

    fn are_reached(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether the record lies before the end of its partition; notes when none will follow.
    fn take(&mut self, partition: &TopicPartition, offset: Offset) -> bool {
        let Some(end) = self.open.get(partition).copied() else {
            return false;
        };
        if offset.next() >= end {
            self.open.remove(partition);
        }
        offset < end
    }
}

#[cfg(test)]
mod tests {
    use tidelog_types::{PartitionId, TopicName};

    use super::*;

    #[test]
    fn each_partition_ends_at_its_own_offset() {
        let name = |partition| TopicPartition {
            topic: TopicName::new("orders").unwrap(),
            partition: PartitionId(partition),
        };
        let ends = [(name(0), Offset(2)), (name(1), Offset(0)), (name(2), Offset(5))];
        let mut ends = Ends::new(ends.to_vec());
        assert!(ends.take(&name(0), Offset(0)) && ends.take(&name(0), Offset(1)));
        assert!(!ends.take(&name(0), Offset(2)), "behind the end");
        assert!(!ends.take(&name(1), Offset(0)), "the end is the start");
        assert!(!ends.are_reached());
        // Began behind the end: nothing of it is taken, and it is over.
        assert!(!ends.take(&name(2), Offset(7)));
        assert!(ends.are_reached());
    }
}
