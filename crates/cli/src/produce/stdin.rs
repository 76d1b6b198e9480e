//! Reads stdin on a thread of its own, for nothing else can wait for it.

use std::io::{self, BufReader, Read};
use std::thread;

use tokio::sync::mpsc::{self, Receiver, Sender};

use super::args::Shape;
use crate::Failure;
use crate::record::{Input, LINE_BYTES_MAX, read_line};

/// Records that are handed over together, at most. More would cost memory, fewer a wake-up each.
const CHUNK_RECORDS_MAX: usize = 1024;
const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// Chunks that wait for the producer.
const CHUNKS_WAITING: usize = 4;
const BUFFER_BYTES: usize = 64 * 1024;

/// A record and the line that it was read from, counted from 1.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) line: u64,
    pub(super) input: Input,
}

/// What was read: records, then at most one reason to stop.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) records: Vec<Numbered>,
    pub(super) broken: Option<Failure>,
}

/// Starts to read. The channel closes behind the last line, and behind a line that is no record.
pub(super) fn read(shape: Shape) -> Result<Receiver<Chunk>, Failure> {
    let (chunks, receiver) = mpsc::channel(CHUNKS_WAITING);
    let work = move || pump(io::stdin().lock(), &shape, &chunks);
    let thread = thread::Builder::new().name("stdin".into()).spawn(work);
    thread.map_err(|error| Failure::because("start a thread", &error))?;
    Ok(receiver)
}

fn pump(input: impl Read, shape: &Shape, chunks: &Sender<Chunk>) {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let mut number = 0;
    loop {
        let mut chunk = Chunk::default();
        let more = fill(&mut input, shape, &mut number, &mut chunk);
        if !chunk.records.is_empty() || chunk.broken.is_some() {
            // The receiver is gone when a record was refused: nothing more is wanted.
            if chunks.blocking_send(chunk).is_err() {
                return;
            }
        }
        if !more {
            return;
        }
    }
}

/// Reads as much as is there, at least one line; tells whether more may come.
fn fill<R: Read>(
    input: &mut BufReader<R>,
    shape: &Shape,
    number: &mut u64,
    chunk: &mut Chunk,
) -> bool {
    let mut bytes = 0;
    loop {
        let line = match read_line(input, LINE_BYTES_MAX) {
            Ok(Some(line)) => line,
            Ok(None) => return false,
            Err(error) => {
                chunk.broken = Some(broken(*number + 1, &error.to_string()));
                return false;
            }
        };
        *number += 1;
        bytes += line.len();
        match shape.read(line) {
            Ok(input) => chunk.records.push(Numbered { line: *number, input }),
            Err(reason) => {
                chunk.broken = Some(broken(*number, &format!("no record: {reason}")));
                return false;
            }
        }
        let full = chunk.records.len() >= CHUNK_RECORDS_MAX || bytes >= CHUNK_BYTES_MAX;
        // Without a whole line in the buffer the next read may wait for somebody to type.
        if full || !input.buffer().contains(&b'\n') {
            return true;
        }
    }
}

fn broken(line: u64, reason: &str) -> Failure {
    Failure::new(format!("line {line}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8], shape: &Shape) -> (Vec<u64>, Option<String>) {
        let (chunks, mut receiver) = mpsc::channel(1024);
        pump(input, shape, &chunks);
        drop(chunks);
        let mut lines = Vec::new();
        let mut broken = None;
        while let Some(chunk) = receiver.blocking_recv() {
            assert!(broken.is_none() && chunk.records.len() <= CHUNK_RECORDS_MAX);
            lines.extend(chunk.records.iter().map(|record| record.line));
            broken = chunk.broken.map(|failure| failure.to_string());
        }
        (lines, broken)
    }

    #[test]
    fn every_line_comes_in_order() {
        let input = "x\n".repeat(3 * CHUNK_RECORDS_MAX + 1);
        let (lines, broken) = all(input.as_bytes(), &Shape::Raw(Input::default()));
        assert!(lines.iter().copied().eq(1..=3 * CHUNK_RECORDS_MAX as u64 + 1));
        assert_eq!(broken, None);
    }

    #[test]
    fn a_line_that_is_no_record_ends_it_behind_the_good_ones() {
        let json = Shape::Json { partition: None, repartition: false };
        let (lines, broken) = all(b"{\"value\":\"a\"}\n{}\n{\"value\":\"c\"}\n", &json);
        assert_eq!(lines, [1]);
        assert_eq!(broken.unwrap(), "line 2: no record: missing field `value` (column 2)");
    }
}
