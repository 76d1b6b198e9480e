//! What a partition comes to: where it begins, how many records, and a checksum over them.

use std::collections::BTreeMap;

use tidelog_types::{Offset, PartitionId};

use crate::record::{Consumed, Content};

/// The sums of the records of each partition that has any.
///
/// Invariant: the records of a partition were taken with offsets that follow each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    partitions: BTreeMap<PartitionId, Sum>,
    records: u64,
}

/// The sum of records that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    /// The offset of the first.
    pub(crate) first: Offset,
    /// How many.
    pub(crate) records: u64,
    /// CRC-32C over all of them, without their offsets: a copy at other offsets has the same.
    pub(crate) crc: u32,
}

impl Sum {
    /// The offset behind the last.
    pub(crate) fn end(&self) -> Offset {
        self.first.plus(self.records)
    }
}

impl Sums {
    /// Adds a record.
    ///
    /// # Errors
    /// With the offset that should have come, when it does not follow the one before.
    pub(crate) fn add(&mut self, record: &Consumed) -> Result<(), Offset> {
        let new = Sum { first: record.offset, records: 0, crc: 0 };
        let sum = self.partitions.entry(record.partition).or_insert(new);
        if record.offset != sum.end() {
            return Err(sum.end());
        }
        sum.records += 1;
        sum.crc = add(sum.crc, record);
        self.records += 1;
        Ok(())
    }

    /// The sum of a partition; `None` when it has no record.
    pub(crate) fn of(&self, partition: PartitionId) -> Option<&Sum> {
        self.partitions.get(&partition)
    }

    /// How many records there are of all partitions.
    pub(crate) const fn records(&self) -> u64 {
        self.records
    }
}

/// The checksum with one more record: its time, key, value, number of headers, and name and value of
/// each. Lengths stand before bytes, so that no byte can move from one field into the next unseen.
fn add(crc: u32, record: &Consumed) -> u32 {
    let Content { key, value, headers } = &record.content;
    let crc = crc32c::crc32c_append(crc, &record.timestamp.0.to_be_bytes());
    let crc = field(field(crc, key.as_deref()), value.as_deref());
    let crc = crc32c::crc32c_append(crc, &(headers.len() as u64).to_be_bytes());
    headers
        .iter()
        .fold(crc, |crc, (name, value)| field(field(crc, Some(name.as_bytes())), value.as_deref()))
}

/// -1 for null, which is not the empty field.
fn field(crc: u32, bytes: Option<&[u8]>) -> u32 {
    let length = bytes.map_or(-1, |bytes| bytes.len() as i64);
    let crc = crc32c::crc32c_append(crc, &length.to_be_bytes());
    crc32c::crc32c_append(crc, bytes.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use tidelog_types::{Timestamp, TopicName};

    use super::*;

    fn record(offset: u64, content: Content) -> Consumed {
        Consumed {
            topic: TopicName::new("orders").unwrap(),
            partition: PartitionId(1),
            offset: Offset(offset),
            timestamp: Timestamp(7),
            content,
        }
    }

    fn crc(content: Content) -> u32 {
        add(0, &record(0, content))
    }

    #[test]
    fn offsets_follow_each_other_and_are_not_in_the_checksum() {
        let (mut old, mut new) = (Sums::default(), Sums::default());
        for at in 0..3 {
            old.add(&record(40 + at, Content::default())).unwrap();
            new.add(&record(at, Content::default())).unwrap();
        }
        assert_eq!(old.add(&record(44, Content::default())), Err(Offset(43)));
        assert_eq!(old.add(&record(42, Content::default())), Err(Offset(43)));
        let (old, new) = (old.of(PartitionId(1)).unwrap(), new.of(PartitionId(1)).unwrap());
        assert_eq!((old.first, old.end(), old.crc), (Offset(40), Offset(43), new.crc));
    }

    #[test]
    fn no_two_shapes_are_the_same() {
        let some = |bytes: &'static str| Some(bytes.into());
        let header = |name: &str, value| (name.to_owned(), value);
        let shapes = [
            Content::default(),
            Content { key: some(""), ..Content::default() },
            Content { value: some(""), ..Content::default() },
            Content { key: some("ab"), value: some("c"), ..Content::default() },
            Content { key: some("a"), value: some("bc"), ..Content::default() },
            Content { headers: vec![header("a", None)], ..Content::default() },
            Content { headers: vec![header("a", some(""))], ..Content::default() },
            Content { headers: vec![header("a", None), header("b", None)], ..Content::default() },
            Content { headers: vec![header("b", None), header("a", None)], ..Content::default() },
        ];
        let mut crcs: Vec<u32> = shapes.into_iter().map(crc).collect();
        let count = crcs.len();
        crcs.sort_unstable();
        crcs.dedup();
        assert_eq!(crcs.len(), count);
    }
}
