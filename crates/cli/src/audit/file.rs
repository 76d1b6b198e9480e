//! The file in which a producer writes its acks down, one line each, as they arrive.
//!
//! ```text
//! tidelog-acks 1 producer 2 seed 77
//! <sequence> <partition> <offset> <hash, hex> <invoked, µs> <completed, µs>
//! …
//! sent <records>
//! ```
//!
//! Text, because an audit is believed more readily when its input can be read with `less`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use tidelog_types::{Offset, PartitionId};

use super::{Ack, RecordId};

/// Writes the acks of one producer.
#[derive(Debug)]
pub struct AckWriter {
    file: BufWriter<File>,
}

impl AckWriter {
    /// Creates `<dir>/acks-<producer>.txt`. `seed` is what the run's records were made from.
    pub fn create(dir: &Path, producer: u32, seed: u64) -> io::Result<Self> {
        let file = File::create_new(path(dir, producer))?;
        let mut file = BufWriter::with_capacity(64 * 1024, file);
        writeln!(file, "tidelog-acks 1 producer {producer} seed {seed}")?;
        Ok(Self { file })
    }

    /// Appends one ack. The producer in its id is the one the file was created for.
    pub fn append(&mut self, ack: &Ack) -> io::Result<()> {
        writeln!(
            self.file,
            "{} {} {} {:016x} {} {}",
            ack.id.sequence, ack.partition, ack.offset, ack.hash, ack.invoked_us, ack.completed_us
        )
    }

    /// Closes the file with the number of records sent, acked or not.
    pub fn finish(mut self, sent: u64) -> io::Result<()> {
        writeln!(self.file, "sent {sent}")?;
        self.file.flush()
    }
}

/// What one ack file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckFile {
    /// What the run's records were made from.
    pub seed: u64,
    /// How many records the producer sent.
    pub sent: u64,
    /// The acks it got.
    pub acks: Vec<Ack>,
}

/// Reads `<dir>/acks-<producer>.txt`.
///
/// Fails with [`io::ErrorKind::InvalidData`] naming the line when one is malformed, and when the
/// closing line is missing: an unfinished file would hide losses.
pub fn read(dir: &Path, producer: u32) -> io::Result<AckFile> {
    let path = path(dir, producer);
    let mut lines = BufReader::new(File::open(&path)?).lines();
    let seed = lines.next().transpose()?.and_then(|line| parse_header(&line, producer));
    let Some(seed) = seed else { return Err(malformed(&path, 1)) };
    let mut acks = Vec::new();
    for (number, line) in (2..).zip(lines) {
        let line = line?;
        if let Some(sent) = line.strip_prefix("sent ") {
            let sent = sent.parse().map_err(|_| malformed(&path, number))?;
            return Ok(AckFile { seed, sent, acks });
        }
        acks.push(parse_ack(&line, producer).ok_or_else(|| malformed(&path, number))?);
    }
    let message = format!("{} has no closing line", path.display());
    Err(io::Error::new(io::ErrorKind::InvalidData, message))
}

fn path(dir: &Path, producer: u32) -> PathBuf {
    dir.join(format!("acks-{producer}.txt"))
}

fn parse_header(line: &str, producer: u32) -> Option<u64> {
    line.strip_prefix(&format!("tidelog-acks 1 producer {producer} seed "))?.parse().ok()
}

fn parse_ack(line: &str, producer: u32) -> Option<Ack> {
    let mut words = line.split(' ');
    let sequence = words.next()?.parse().ok()?;
    let partition = PartitionId(words.next()?.parse().ok()?);
    let offset = Offset(words.next()?.parse().ok()?);
    let hash = u64::from_str_radix(words.next()?, 16).ok()?;
    let invoked_us = words.next()?.parse().ok()?;
    let completed_us = words.next()?.parse().ok()?;
    let id = RecordId { producer, sequence };
    words.next().is_none().then_some(Ack { id, partition, offset, hash, invoked_us, completed_us })
}

fn malformed(path: &Path, line: usize) -> io::Error {
    let message = format!("{}: line {line} is malformed", path.display());
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(sequence: u64) -> Ack {
        Ack {
            id: RecordId { producer: 2, sequence },
            partition: PartitionId(1),
            offset: Offset(sequence + 40),
            hash: u64::MAX - sequence,
            invoked_us: 5 * sequence,
            completed_us: 5 * sequence + 3,
        }
    }

    #[test]
    fn acks_come_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = AckWriter::create(dir.path(), 2, 77).unwrap();
        let acks: Vec<Ack> = (0..100).map(ack).collect();
        acks.iter().for_each(|ack| writer.append(ack).unwrap());
        writer.finish(101).unwrap();
        assert_eq!(read(dir.path(), 2).unwrap(), AckFile { seed: 77, sent: 101, acks });
    }

    #[test]
    fn unfinished_and_malformed_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = AckWriter::create(dir.path(), 0, 1).unwrap();
        writer.append(&ack(1)).unwrap();
        drop(writer);
        assert!(read(dir.path(), 0).unwrap_err().to_string().contains("no closing line"));

        let header = "tidelog-acks 1 producer 1 seed 9\n";
        for bad in ["1 2 3 ff 4", "1 2 3 ff 4 5 6", "x 2 3 ff 4 5", "", "sent many"] {
            std::fs::write(path(dir.path(), 1), format!("{header}{bad}\n")).unwrap();
            assert!(read(dir.path(), 1).unwrap_err().to_string().contains("line 2"), "{bad:?}");
        }
        std::fs::write(path(dir.path(), 1), "tidelog-acks 1 producer 7 seed 9\n").unwrap();
        assert!(read(dir.path(), 1).unwrap_err().to_string().contains("line 1"));
    }
}
