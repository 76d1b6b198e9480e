//! Reads a backup, and believes nothing of it before its checksums say so.

use std::io::{self, BufRead, Read};

use serde::Deserialize;
use serde::de::IgnoredAny;
use thiserror::Error;
use tidelog_types::{GroupName, Offset, PartitionId, TopicName};

use super::format::{
    BEFORE_CHECKSUM, BEHIND_CHECKSUM, BLOCK, CHECKSUM_DIGITS, Commit, Crc, END, End, GROUP, Head,
    LINE_BYTES_MAX, PartitionEnd, VERSION,
};
use super::sums::Sums;
use crate::record::{Consumed, parse_consumed};

/// Why a file is no backup, or one no more. Lines count from 1.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Damage {
    /// The file cannot be read.
    #[error("cannot be read")]
    Unreadable(#[from] io::Error),
    /// It does not begin as a backup does.
    #[error("is no backup of a topic: {reason}")]
    Foreign {
        /// What is wrong with its first line.
        reason: String,
    },
    /// Another version of the format.
    #[error("has format {found}, this version reads {VERSION}")]
    Version {
        /// Which one.
        found: u32,
    },
    /// The end is missing.
    #[error("is cut off at line {line}: the end mark is missing")]
    Cut {
        /// The line that should have come.
        line: u64,
    },
    /// Bytes changed.
    #[error("is damaged at line {line} or before: the checksum does not match")]
    Checksum {
        /// The line with the checksum.
        line: u64,
    },
    /// A line is not what should stand there.
    #[error("is damaged at line {line}: {reason}")]
    Malformed {
        /// Which one.
        line: u64,
        /// Why.
        reason: String,
    },
}

/// A line that is neither head nor checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// What a group has committed.
    Commit(Commit),
    /// The next record of its partition.
    Record(Consumed),
}

/// Reads the lines of a backup.
///
/// What it hands out may be damaged until it has come to the end: only `None` says that the whole file
/// is what was written.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    input: R,
    head: Head,
    topic: TopicName,
    /// The last line that was read, with its line feed.
    buffer: Vec<u8>,
    line: u64,
    /// Of all bytes before the buffer.
    crc: u32,
    sums: Sums,
    commits: u64,
    end: Option<End>,
}

impl<R: BufRead> Reader<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// When the file does not begin as a backup of this version does.
    pub(crate) fn open(mut input: R) -> Result<Self, Damage> {
        #[derive(Deserialize)]
        #[serde(expecting = "an object with tidelog_backup")]
        struct Version {
            tidelog_backup: u32,
        }
        let mut buffer = Vec::new();
        if !read_line(&mut input, &mut buffer)? {
            return Err(Damage::Cut { line: 1 });
        }
        let foreign = |error: serde_json::Error| Damage::Foreign { reason: reason(&error) };
        let version: Version = serde_json::from_slice(&buffer).map_err(foreign)?;
        if version.tidelog_backup != VERSION {
            return Err(Damage::Version { found: version.tidelog_backup });
        }
        let head: Head = serde_json::from_slice(&buffer).map_err(foreign)?;
        let topic = TopicName::new(&head.topic);
        let topic = topic.map_err(|error| Damage::Foreign { reason: error.to_string() })?;
        let sums = Sums::default();
        Ok(Self { input, head, topic, buffer, line: 1, crc: 0, sums, commits: 0, end: None })
    }

    /// The head.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// The topic that it names.
    pub(crate) fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// The line of the last item, from 1.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// What the file holds, once [`Reader::next`] gave `None`.
    pub(crate) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The next item; `None` behind the end, when the whole file is what was written.
    ///
    /// # Errors
    /// When it is not. Nothing can be read behind that.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, Damage> {
        while self.end.is_none() {
            self.crc = crc32c::crc32c_append(self.crc, &self.buffer);
            self.line += 1;
            if !read_line(&mut self.input, &mut self.buffer)? {
                return Err(Damage::Cut { line: self.line });
            }
            if self.buffer.starts_with(GROUP) {
                return self.commit().map(Some);
            } else if self.buffer.starts_with(BLOCK) {
                self.block()?;
            } else if self.buffer.starts_with(END) {
                self.end = Some(self.last()?);
            } else {
                return self.record().map(Some);
            }
        }
        Ok(None)
    }

    fn commit(&mut self) -> Result<Item, Damage> {
        let commit: Commit = self.parse()?;
        GroupName::new(&commit.group).map_err(|error| self.malformed(error.to_string()))?;
        if self.sums.records() > 0 {
            return Err(self.malformed("groups stand before records"));
        }
        self.check_place(commit.partition, commit.offset)?;
        self.commits += 1;
        Ok(Item::Commit(commit))
    }

    fn record(&mut self) -> Result<Item, Damage> {
        let record = parse_consumed(&self.buffer);
        let record = record.map_err(|error| self.malformed(error.to_string()))?;
        if record.topic != self.topic {
            return Err(self.malformed(format!("a record of topic {}", record.topic)));
        }
        self.check_place(record.partition.0, record.offset.0)?;
        self.sums.add(&record).map_err(|expected| {
            let (partition, offset) = (record.partition, record.offset);
            self.malformed(format!("partition {partition} goes on at {offset}, not {expected}"))
        })?;
        Ok(Item::Record(record))
    }

    fn check_place(&self, partition: u32, offset: u64) -> Result<(), Damage> {
        let partitions = self.head.partitions;
        if partition >= partitions {
            return Err(self.malformed(format!("partition {partition} of {partitions}")));
        }
        match i64::try_from(offset) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.malformed(format!("offset {offset} is above all that there are"))),
        }
    }

    fn block(&self) -> Result<(), Damage> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Block {
            block: u64,
            #[serde(rename = "crc32c")]
            _crc: IgnoredAny,
        }
        self.check_crc()?;
        let Block { block, .. } = self.parse()?;
        match self.sums.records() {
            records if records == block => Ok(()),
            records => Err(self.malformed(format!("{block} records are counted, not {records}"))),
        }
    }

    /// The end, which must agree with everything before it, and stand last.
    fn last(&mut self) -> Result<End, Damage> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Last {
            end: End,
            #[serde(rename = "crc32c")]
            _crc: IgnoredAny,
        }
        self.check_crc()?;
        let Last { end, .. } = self.parse()?;
        let numbers = end.partitions.iter().map(|partition| partition.partition);
        let agrees = end.records == self.sums.records()
            && end.groups == self.commits
            && numbers.eq(0..self.head.partitions)
            && end.partitions.iter().all(|partition| self.agrees(partition));
        if !agrees {
            return Err(self.malformed("its counts are not those of the lines before"));
        }
        match self.input.fill_buf()?.is_empty() {
            true => Ok(end),
            false => Err(self.malformed("something stands behind the end mark")),
        }
    }

    fn agrees(&self, partition: &PartitionEnd) -> bool {
        let PartitionEnd { partition, start, end, crc } = partition;
        match self.sums.of(PartitionId(*partition)) {
            Some(sum) => (sum.first, sum.end(), sum.crc) == (Offset(*start), Offset(*end), crc.0),
            None => start == end && crc.0 == 0,
        }
    }

    /// Whether the line ends with the checksum of all bytes before it.
    fn check_crc(&self) -> Result<(), Damage> {
        let digits = CHECKSUM_DIGITS + BEHIND_CHECKSUM.len();
        let (before, given) = self.buffer.split_at(self.buffer.len().saturating_sub(digits));
        let crc = Crc(crc32c::crc32c_append(self.crc, before));
        let whole = before.ends_with(BEFORE_CHECKSUM.as_bytes())
            && given == format!("{crc}{BEHIND_CHECKSUM}").as_bytes();
        if whole { Ok(()) } else { Err(Damage::Checksum { line: self.line }) }
    }

    fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Damage> {
        serde_json::from_slice(&self.buffer).map_err(|error| self.malformed(reason(&error)))
    }

    fn malformed(&self, reason: impl Into<String>) -> Damage {
        Damage::Malformed { line: self.line, reason: reason.into() }
    }
}

/// Reads a line with its line feed; `false` when there is none, or none that is whole.
fn read_line(input: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<bool> {
    buffer.clear();
    input.take(LINE_BYTES_MAX).read_until(b'\n', buffer)?;
    if buffer.len() as u64 == LINE_BYTES_MAX {
        return Err(io::Error::other(format!("a line has more than {LINE_BYTES_MAX} bytes")));
    }
    Ok(buffer.last() == Some(&b'\n'))
}

/// What the parser says, without its line number: it sees only one.
fn reason(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.split(" at line ").next().unwrap_or_default().to_owned()
}
