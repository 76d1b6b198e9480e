//! The newest records of several partitions.

use crate::record::Consumed;

/// The newest `number` records, oldest first.
///
/// Each partition comes in the order of its offsets and stays so: where times within a partition go
/// back, its order counts more than they do.
pub(super) fn newest(mut partitions: Vec<Vec<Consumed>>, number: usize) -> Vec<Consumed> {
    let mut taken = Vec::new();
    while taken.len() < number {
        let last = |records: &Vec<Consumed>| records.last().map(|record| record.timestamp);
        let Some(partition) = partitions
            .iter_mut()
            .filter(|records| !records.is_empty())
            .max_by_key(|records| last(records))
        else {
            break;
        };
        taken.extend(partition.pop());
    }
    taken.reverse();
    taken
}

#[cfg(test)]
mod tests {
    use tidelog_types::{Offset, PartitionId, Timestamp, TopicName};

    use super::*;
    use crate::record::Content;

    fn partition(number: u32, times: &[i64]) -> Vec<Consumed> {
        let record = |(offset, time): (usize, &i64)| Consumed {
            topic: TopicName::new("orders").unwrap(),
            partition: PartitionId(number),
            offset: Offset(offset as u64),
            timestamp: Timestamp(*time),
            content: Content::default(),
        };
        times.iter().enumerate().map(record).collect()
    }

    fn check(number: usize, expected: &[(u32, u64)]) {
        let partitions =
            vec![partition(0, &[1, 9, 5]), partition(1, &[2, 6, 7]), partition(2, &[])];
        let found = newest(partitions, number);
        let found: Vec<_> = found.iter().map(|r| (r.partition.0, r.offset.0)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_newest_come_last_and_partitions_keep_their_order() {
        check(0, &[]);
        check(3, &[(0, 2), (1, 1), (1, 2)]);
        check(4, &[(0, 1), (0, 2), (1, 1), (1, 2)]);
        check(9, &[(0, 0), (1, 0), (0, 1), (0, 2), (1, 1), (1, 2)]);
    }
}
