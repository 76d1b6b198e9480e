//! What a backup holds besides its records, once all of it was checked.

use std::io::BufRead;

use tidelog_types::TopicName;

use super::format::{Commit, End, Head};
use super::reader::{Damage, Item, Reader};
use crate::record::Consumed;

/// What a record takes of a producer's buffer besides its bytes, and each of its headers.
const RECORD_OVERHEAD: usize = 64;
const HEADER_OVERHEAD: usize = 16;

/// A whole backup, without its records.
#[derive(Debug)]
pub(super) struct Contents {
    /// The topic as it was.
    pub(super) head: Head,
    /// Its name.
    pub(super) topic: TopicName,
    /// What groups have committed.
    pub(super) commits: Vec<Commit>,
    /// What the file holds of each partition.
    pub(super) end: End,
    /// The size of the largest record.
    pub(super) record_bytes_max: usize,
}

impl Contents {
    /// Reads a backup to its end.
    ///
    /// # Errors
    /// When a byte of it is not what was written.
    pub(super) fn check(input: impl BufRead) -> Result<Self, Damage> {
        let mut reader = Reader::open(input)?;
        let (mut commits, mut record_bytes_max) = (Vec::new(), 0);
        while let Some(item) = reader.next()? {
            match item {
                Item::Commit(commit) => commits.push(commit),
                Item::Record(record) => record_bytes_max = record_bytes_max.max(bytes(&record)),
            }
        }
        let end = reader.end().cloned().expect("it is there behind the last item");
        let (head, topic) = (reader.head().clone(), reader.topic().clone());
        Ok(Self { head, topic, commits, end, record_bytes_max })
    }
}

fn bytes(record: &Consumed) -> usize {
    let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len());
    let content = &record.content;
    let header = |(name, value): &(String, _)| name.len() + length(value) + HEADER_OVERHEAD;
    let headers: usize = content.headers.iter().map(header).sum();
    length(&content.key) + length(&content.value) + headers + RECORD_OVERHEAD
}
