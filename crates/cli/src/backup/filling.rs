//! From a backup into a topic.

use std::collections::VecDeque;
use std::io::BufRead;

use tidelog_client::{Delivery, ProduceError, Producer, RecordMetadata};
use tidelog_types::{Offset, TopicName};
use tokio::task::yield_now;

use super::contents::Contents;
use super::progress::Progress;
use super::reader::{Item, Reader};
use crate::produce::{failure, to_record};
use crate::record::{Consumed, Input};
use crate::{Failure, chain};

/// Records on their way at the same time. Their bytes are bounded by the producer's buffer; this
/// bounds what is remembered of each.
const DUE_MAX: usize = 64 * 1024;

/// Writes the records of a file to a topic, those of a partition in their order.
#[derive(Debug)]
pub(super) struct Filling<'a> {
    producer: Producer,
    topic: &'a TopicName,
    contents: &'a Contents,
    /// So many records of each partition are there already.
    held: &'a [u64],
    /// In the order of the file, each with its line and the offset that it should get.
    due: VecDeque<(u64, Offset, Delivery)>,
}

impl<'a> Filling<'a> {
    pub(super) fn new(
        producer: Producer,
        topic: &'a TopicName,
        contents: &'a Contents,
        held: &'a [u64],
    ) -> Self {
        Self { producer, topic, contents, held, due: VecDeque::new() }
    }

    /// Writes everything that is not there yet, and waits until it is durable.
    ///
    /// # Errors
    /// With the first record that is not written, or not where it should be, and when the file is not what
    /// it was.
    pub(super) async fn run(mut self, file: impl BufRead) -> Result<(), Failure> {
        let damaged = |damage: super::Damage| Failure::new(format!("the file {}", chain(&damage)));
        let mut reader = Reader::open(file).map_err(damaged)?;
        let mut progress = Progress::new("importing", self.contents.end.records);
        while let Some(item) = reader.next().map_err(damaged)? {
            let Item::Record(record) = item else { continue };
            self.write(reader.line(), record).await?;
            if progress.step() {
                // Nothing of the above has to wait when it only passes over what is there.
                yield_now().await;
            }
        }
        while let Some(due) = self.due.pop_front() {
            wait(due).await?;
        }
        Ok(())
    }

    async fn write(&mut self, line: u64, record: Consumed) -> Result<(), Failure> {
        let partition = record.partition.0 as usize;
        // In bounds: the reader checked the number against the head, the head stands for all lists.
        let offset = record.offset.0 - self.contents.end.partitions[partition].start;
        if offset < self.held[partition] {
            return Ok(());
        }
        let input = Input {
            content: record.content,
            partition: Some(record.partition),
            timestamp: Some(record.timestamp),
        };
        let delivery = self.producer.enqueue(to_record(self.topic, input)).await;
        let delivery = delivery.map_err(|error| failure(line, &error))?;
        self.due.push_back((line, Offset(offset), delivery));
        while let Some((_, _, first)) = self.due.front()
            && (self.due.len() > DUE_MAX || first.outcome().is_some())
            && let Some(due) = self.due.pop_front()
        {
            wait(due).await?;
        }
        Ok(())
    }
}

async fn wait((line, offset, delivery): (u64, Offset, Delivery)) -> Result<(), Failure> {
    check(line, offset, delivery.await)
}

fn check(
    line: u64,
    offset: Offset,
    outcome: Result<RecordMetadata, ProduceError>,
) -> Result<(), Failure> {
    let written = outcome.map_err(|error| failure(line, &error))?;
    if written.offset == offset {
        return Ok(());
    }
    let (topic, partition) = (written.topic, written.partition);
    Err(Failure::new(format!(
        "line {line}: got offset {} of {topic}/{partition}, not {offset}: somebody else writes there",
        written.offset
    )))
}
