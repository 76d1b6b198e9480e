//! Collects the records of one partition into batches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidelog_types::batch::{self, NewRecord};
use tidelog_types::{PartitionId, Timestamp, TopicName};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::completion::{Completion, Delivery, Written};
use super::{ProduceError, ProduceFailure, Record};

/// Records that will be one batch. Dropped without an outcome it tells its deliveries that the
/// producer is gone.
pub(super) struct Collected {
    pub(super) builder: batch::Builder,
    pub(super) opened: Instant,
    pub(super) promise: Promise,
}

/// What is owed for a batch: an outcome to its deliveries and its bytes to the buffer.
pub(super) struct Promise {
    completion: Arc<Completion>,
    /// Whether the batch may be in the log, should the producer die now.
    pub(super) maybe_written: bool,
    permit: OwnedSemaphorePermit,
}

impl Promise {
    pub(super) fn keep(self, outcome: Result<Written, ProduceError>) {
        self.completion.complete(outcome);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.completion.is_done() {
            let error = ProduceError::new(ProduceFailure::Closed, self.maybe_written);
            self.completion.complete(Err(error));
        }
    }
}

/// What appending did, for whoever sends the batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing to see to.
    None,
    /// A batch was opened: its linger time runs.
    Opened,
    /// A batch was closed, since it was full: it can go.
    Closed,
}

/// Invariants: `closed` is in the order of the records; `pending` holds the completions of all
/// batches without an outcome, in that order, and maybe some with one.
pub(super) struct Accumulator {
    topic: TopicName,
    partition: PartitionId,
    batch_bytes_max: usize,
    /// The last batch's size: room for the next without wasting it on partitions of few records.
    room: usize,
    open: Option<Collected>,
    closed: VecDeque<Collected>,
    pending: VecDeque<Arc<Completion>>,
    /// Why no more records are taken.
    ended: Option<ProduceError>,
}

impl Accumulator {
    pub(super) fn new(topic: TopicName, partition: PartitionId, batch_bytes_max: usize) -> Self {
        Self {
            topic,
            partition,
            batch_bytes_max,
            room: 1024,
            open: None,
            closed: VecDeque::new(),
            pending: VecDeque::new(),
            ended: None,
        }
    }

    /// Appends a record for which `permit` holds the room.
    pub(super) fn append(
        &mut self,
        record: &Record,
        now: impl FnOnce() -> Timestamp,
        permit: OwnedSemaphorePermit,
    ) -> Result<(Delivery, Change), ProduceError> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        let headers = record.headers.iter();
        let headers = headers.map(|header| (header.name.as_str(), header.value.as_deref()));
        let headers = headers.collect::<Vec<_>>();
        let record = NewRecord {
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
            timestamp: record.timestamp.unwrap_or_else(now),
        };
        let full = |open: &Collected| open.builder.bytes_with(&record) > self.batch_bytes_max;
        let mut change = Change::None;
        if self.open.as_ref().is_some_and(full) {
            self.close();
            change = Change::Closed;
        }
        let encode = |error| ProduceError::new(ProduceFailure::Encode(error), false);
        if let Some(open) = &mut self.open {
            let index = open.builder.count();
            open.builder.push(&record).map_err(encode)?;
            open.promise.permit.merge(permit);
            return Ok((Delivery::new(Arc::clone(&open.promise.completion), index), change));
        }
        let mut builder = batch::Builder::with_capacity(self.room);
        builder.push(&record).map_err(encode)?;
        let completion = Completion::new(self.topic.clone(), self.partition);
        let promise = Promise { completion: Arc::clone(&completion), maybe_written: false, permit };
        self.open = Some(Collected { builder, opened: Instant::now(), promise });
        while self.pending.front().is_some_and(|completion| completion.is_done()) {
            self.pending.pop_front();
        }
        self.pending.push_back(Arc::clone(&completion));
        let change = if change == Change::None { Change::Opened } else { change };
        Ok((Delivery::new(completion, 0), change))
    }

    /// Closes the open batch, if there is one.
    pub(super) fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.room = open.builder.bytes().min(self.batch_bytes_max);
            self.closed.push_back(open);
        }
    }

    /// The next batch to send: a closed one, or the open one once it has lingered.
    pub(super) fn take(&mut self, linger: Duration, now: Instant) -> Option<Collected> {
        if self.closed.is_empty()
            && self.open.as_ref().is_some_and(|open| open.opened + linger <= now)
        {
            self.close();
        }
        self.closed.pop_front()
    }

    /// When the next batch can be taken, or when the open one will have lingered.
    pub(super) fn ready_at(&self, linger: Duration) -> Option<Instant> {
        match self.closed.front() {
            Some(closed) => Some(closed.opened),
            None => self.open.as_ref().map(|open| open.opened + linger),
        }
    }

    /// When the oldest batch was opened.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.closed.front().or(self.open.as_ref()).map(|batch| batch.opened)
    }

    /// Takes out the batches that were opened at `limit` or before.
    pub(super) fn take_older(&mut self, limit: Instant) -> Vec<Collected> {
        if self.open.as_ref().is_some_and(|open| open.opened <= limit) {
            self.close();
        }
        let old = self.closed.iter().take_while(|batch| batch.opened <= limit).count();
        self.closed.drain(..old).collect()
    }

    /// Takes no more records, and gives back all batches.
    pub(super) fn end(&mut self, error: ProduceError) -> Vec<Collected> {
        self.ended.get_or_insert(error);
        self.close();
        self.closed.drain(..).collect()
    }

    /// The outcomes that are still to come, in the order of the records.
    pub(super) fn pending(&mut self) -> Vec<Arc<Completion>> {
        self.pending.retain(|completion| !completion.is_done());
        self.pending.iter().cloned().collect()
    }

    /// Whether a batch takes records.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Closed batches that wait: how far the partition is behind.
    pub(super) fn backlog(&self) -> usize {
        self.closed.len()
    }
}
