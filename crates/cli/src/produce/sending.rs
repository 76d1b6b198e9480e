//! Hands records to the producer and collects what became of them.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::process::ExitCode;

use tidelog_client::{Delivery, ProduceError, ProduceFailure, Producer, Record, RecordMetadata};
use tidelog_types::{TopicName, TopicPartition};
use tokio::sync::mpsc::Receiver;

use super::stdin::{Chunk, Numbered};
use super::tally::Tally;
use crate::interrupt::Interrupt;
use crate::output::plural;
use crate::record::Input;
use crate::topic::unknown_partition;
use crate::{Exit, Failure, Output, chain};

/// Records on their way at the same time. Their bytes are bounded by the producer's buffer; this
/// bounds what is remembered of each.
const DUE_MAX: usize = 64 * 1024;

/// Records on their way to one topic.
///
/// The first record that fails ends it: no later one is handed over, and all that were are awaited.
#[derive(Debug)]
pub(super) struct Sending {
    producer: Producer,
    topic: TopicName,
    partitions: u32,
    output: Output,
    /// In the order of the lines, each with its line.
    due: VecDeque<(u64, Delivery)>,
    tally: Tally,
    failed: u64,
    maybe_written: u64,
    failure: Option<Failure>,
}

impl Sending {
    pub(super) fn new(
        producer: Producer,
        topic: TopicName,
        partitions: u32,
        output: Output,
    ) -> Self {
        Self {
            producer,
            topic,
            partitions,
            output,
            due: VecDeque::new(),
            tally: Tally::default(),
            failed: 0,
            maybe_written: 0,
            failure: None,
        }
    }

    /// Sends one record without a value.
    pub(super) async fn tombstone(&mut self, input: Input) -> Result<(), Failure> {
        self.enqueue(Numbered { line: 0, input }).await;
        Ok(())
    }

    /// Sends everything that comes, until the input ends, a record fails, or the user interrupts.
    pub(super) async fn take_all(
        &mut self,
        mut chunks: Receiver<Chunk>,
        interrupt: &mut Interrupt,
    ) -> Result<(), Failure> {
        while self.failure.is_none() {
            tokio::select! {
                biased;
                () = interrupt.asked() => break,
                (line, outcome) = next(&mut self.due) => self.collect(line, outcome)?,
                chunk = chunks.recv(), if self.due.len() < DUE_MAX => match chunk {
                    Some(chunk) => self.take(chunk).await,
                    None => break,
                },
            }
        }
        Ok(())
    }

    async fn take(&mut self, chunk: Chunk) {
        for record in chunk.records {
            if self.failure.is_some() {
                return;
            }
            self.enqueue(record).await;
        }
        if let Some(broken) = chunk.broken {
            self.failure.get_or_insert(broken);
        }
    }

    async fn enqueue(&mut self, record: Numbered) {
        let line = record.line;
        if let Some(partition) = record.input.partition.filter(|p| p.0 >= self.partitions) {
            let name = TopicPartition { topic: self.topic.clone(), partition };
            let failure = unknown_partition(&name, self.partitions);
            self.failure.get_or_insert(failure.at(|message| at(line, message)));
            return;
        }
        match self.producer.enqueue(to_record(&self.topic, record.input)).await {
            Ok(delivery) => self.due.push_back((line, delivery)),
            Err(error) => self.fail(line, &error),
        }
    }

    fn collect(
        &mut self,
        line: u64,
        outcome: Result<RecordMetadata, ProduceError>,
    ) -> io::Result<()> {
        match outcome {
            Ok(written) => {
                self.tally.ack(written.partition, written.offset);
                if self.output.is_jsonl() {
                    self.print(&written)?;
                }
            }
            Err(error) => self.fail(line, &error),
        }
        Ok(())
    }

    /// One ack on a line of its own, as it comes.
    fn print(&self, written: &RecordMetadata) -> io::Result<()> {
        let (partition, offset) = (written.partition.0, written.offset.0);
        writeln!(io::stdout(), r#"{{"partition":{partition},"offset":{offset}}}"#)
    }

    fn fail(&mut self, line: u64, error: &ProduceError) {
        self.failed += 1;
        self.maybe_written += u64::from(error.maybe_written());
        if self.failure.is_none() {
            self.failure = Some(failure(line, error));
        }
    }

    /// Awaits all that was sent and says what became of it.
    pub(super) async fn finish(mut self) -> Result<ExitCode, Failure> {
        while let Some((line, delivery)) = self.due.pop_front() {
            let outcome = delivery.await;
            self.collect(line, outcome)?;
        }
        let acked = self.tally.acked();
        if !self.output.is_jsonl() && (acked > 0 || self.failure.is_none()) {
            let summary = self.tally.summary(&self.topic);
            self.output.item("produce", &summary, |_| summary.page())?;
        }
        let Some(failure) = self.failure else {
            return Ok(ExitCode::SUCCESS);
        };
        if acked == 0 && self.failed <= 1 {
            return Err(failure);
        }
        let mut counts = format!("{} acked, {} not acked", plural(acked, "record"), self.failed);
        if self.maybe_written > 0 {
            counts += &format!(", of which {} may be written", self.maybe_written);
        }
        let exit = if acked > 0 { Exit::Partial } else { Exit::Failed };
        Err(failure.and(Failure::new(counts)).exit(exit))
    }
}

/// The outcome of the record that was sent first; waits for ever when there is none. Cancel safe.
async fn next(due: &mut VecDeque<(u64, Delivery)>) -> (u64, Result<RecordMetadata, ProduceError>) {
    let Some((line, delivery)) = due.front_mut() else {
        return std::future::pending().await;
    };
    let outcome = (*line, delivery.await);
    due.pop_front();
    outcome
}

/// The record that `input` asks for.
pub(crate) fn to_record(topic: &TopicName, input: Input) -> Record {
    let mut record = Record::to(topic);
    let content = input.content;
    if let Some(key) = content.key {
        record = record.key(key);
    }
    if let Some(value) = content.value {
        record = record.value(value);
    }
    for (name, value) in content.headers {
        record = match value {
            Some(value) => record.header(name, value),
            None => record.null_header(name),
        };
    }
    if let Some(partition) = input.partition {
        record = record.partition(partition);
    }
    match input.timestamp {
        Some(timestamp) => record.timestamp(timestamp),
        None => record,
    }
}

/// Why the record of a line was not written.
pub(crate) fn failure(line: u64, error: &ProduceError) -> Failure {
    if let ProduceFailure::Client(error) = error.failure() {
        return Failure::from(error.clone()).at(|message| at(line, message));
    }
    let failure = Failure::new(at(line, &chain(error))).code(error.code());
    match error.failure() {
        ProduceFailure::TooLarge { .. } => {
            failure.next_step("split it, or store it elsewhere and send where")
        }
        ProduceFailure::TimedOut { .. } => {
            failure.next_step("look at `tidelog cluster health`, then try again")
        }
        _ => failure,
    }
}

/// The message with the line it is about; line 0 is no line.
fn at(line: u64, message: &str) -> String {
    if line == 0 { message.to_owned() } else { format!("line {line}: {message}") }
}
