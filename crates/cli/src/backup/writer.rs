//! Writes a backup, line after line.

use std::io::{self, Write};

use serde::Serialize;
use tidelog_types::{Offset, PartitionId};

use super::format::{
    BEHIND_CHECKSUM, BLOCK_BYTES_MAX, BLOCK_LINES_MAX, Commit, Crc, End, Head, PartitionEnd, open,
};
use super::sums::Sums;
use crate::moment::Zone;
use crate::record::{self, Consumed};

/// Writes the lines of a backup. What was written is a backup only after [`Writer::finish`].
#[derive(Debug)]
pub(crate) struct Writer<W> {
    out: W,
    partitions: u32,
    line: Vec<u8>,
    /// Of all bytes so far.
    crc: u32,
    bytes: u64,
    sums: Sums,
    commits: u64,
    /// Since the last block.
    block_lines: u64,
    block_bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Begins with the head.
    ///
    /// # Errors
    /// When `out` takes no more; the same holds for what follows.
    pub(crate) fn begin(out: W, head: &Head) -> io::Result<Self> {
        let mut writer = Self {
            out,
            partitions: head.partitions,
            line: Vec::new(),
            crc: 0,
            bytes: 0,
            sums: Sums::default(),
            commits: 0,
            block_lines: 0,
            block_bytes: 0,
        };
        writer.json(head)?;
        Ok(writer)
    }

    /// Writes what a group has committed. Stands before all records.
    pub(crate) fn commit(&mut self, commit: &Commit) -> io::Result<()> {
        assert!(self.sums.records() == 0, "groups stand before records");
        self.commits += 1;
        self.json(commit)
    }

    /// Writes the next record of its partition.
    pub(crate) fn record(&mut self, record: &Consumed) -> io::Result<()> {
        let due = |expected: Offset| {
            let (partition, offset) = (record.partition, record.offset);
            io::Error::other(format!("partition {partition} goes on at {offset}, not {expected}"))
        };
        self.sums.add(record).map_err(due)?;
        self.line.clear();
        // Always UTC: the file must not depend on who writes it.
        record::write(&mut self.line, record, Zone::Utc)?;
        self.put()?;
        if self.block_lines >= BLOCK_LINES_MAX || self.block_bytes >= BLOCK_BYTES_MAX {
            self.checked("block", &self.sums.records())?;
            (self.block_lines, self.block_bytes) = (0, 0);
        }
        Ok(())
    }

    /// Writes the end; `ends` are the offsets behind the last record of each partition, by number.
    ///
    /// # Errors
    /// When `out` takes no more, or the records of a partition do not reach up to its end.
    pub(crate) fn finish(mut self, ends: &[Offset]) -> io::Result<(W, End, u64)> {
        assert!(ends.len() == self.partitions as usize, "every partition has an end");
        let partitions = (0..).map(PartitionId).zip(ends);
        let partitions = partitions.map(|(partition, end)| self.partition_end(partition, *end));
        let partitions = partitions.collect::<io::Result<_>>()?;
        let end = End { records: self.sums.records(), groups: self.commits, partitions };
        self.checked("end", &end)?;
        self.out.flush()?;
        Ok((self.out, end, self.bytes))
    }

    fn partition_end(&self, partition: PartitionId, end: Offset) -> io::Result<PartitionEnd> {
        let sum = self.sums.of(partition);
        let (start, crc) = sum.map_or((end, 0), |sum| (sum.first, sum.crc));
        match sum {
            Some(sum) if sum.end() != end => Err(io::Error::other(format!(
                "partition {partition} was read up to {}, not {end}",
                sum.end()
            ))),
            _ => Ok(PartitionEnd {
                partition: partition.0,
                start: start.0,
                end: end.0,
                crc: Crc(crc),
            }),
        }
    }

    fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, value)?;
        self.line.push(b'\n');
        self.put()
    }

    fn checked(&mut self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.line = open(name, value)?;
        let crc = Crc(crc32c::crc32c_append(self.crc, &self.line));
        write!(self.line, "{crc}{BEHIND_CHECKSUM}")?;
        self.put()
    }

    fn put(&mut self) -> io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, &self.line);
        let bytes = self.line.len() as u64;
        self.bytes += bytes;
        self.block_bytes += bytes;
        self.block_lines += 1;
        self.out.write_all(&self.line)
    }
}
