//! The outcome of a batch, shared by the deliveries of its records.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};

use tidelog_types::{Offset, PartitionId, Timestamp, TopicName};

use super::{ProduceError, RecordMetadata};
use crate::cluster::locked;

/// Where the first record of a batch lies, and when it got there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) base_offset: Offset,
    pub(super) append_time: Timestamp,
}

/// The outcome of one batch: set once, and then whoever waits is woken once.
pub(super) struct Completion {
    topic: TopicName,
    partition: PartitionId,
    outcome: OnceLock<Result<Written, ProduceError>>,
    waiting: Mutex<Vec<Waker>>,
}

impl Completion {
    pub(super) fn new(topic: TopicName, partition: PartitionId) -> Arc<Self> {
        let (outcome, waiting) = (OnceLock::new(), Mutex::default());
        Arc::new(Self { topic, partition, outcome, waiting })
    }

    pub(super) fn is_done(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// Sets the outcome; a second one is ignored.
    pub(super) fn complete(&self, outcome: Result<Written, ProduceError>) {
        // Whoever lost the race has nothing more to say.
        let _ = self.outcome.set(outcome);
        let waiting = std::mem::take(&mut *locked(&self.waiting));
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The outcome, or `None` after `slot` is where the waker waits.
    fn poll(
        &self,
        slot: &mut Option<usize>,
        cx: &Context<'_>,
    ) -> Option<&Result<Written, ProduceError>> {
        if let Some(outcome) = self.outcome.get() {
            return Some(outcome);
        }
        let mut waiting = locked(&self.waiting);
        // Set before the wakers are taken: whoever finds nothing here is woken later.
        if let Some(outcome) = self.outcome.get() {
            return Some(outcome);
        }
        match slot.and_then(|slot| waiting.get_mut(slot)) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => {
                *slot = Some(waiting.len());
                waiting.push(cx.waker().clone());
            }
        }
        None
    }
}

/// A record on its way: a future of where it lies once it is durable.
///
/// Dropping it does not take the record back. Polling it again after it has resolved gives the same
/// again.
#[must_use = "the record is sent anyway, but whether it was written is told here"]
pub struct Delivery {
    completion: Arc<Completion>,
    /// The place of the record in its batch.
    index: u32,
    slot: Option<usize>,
}

impl Delivery {
    pub(super) fn new(completion: Arc<Completion>, index: u32) -> Self {
        Self { completion, index, slot: None }
    }

    /// The topic of the record.
    #[must_use]
    pub fn topic(&self) -> &TopicName {
        &self.completion.topic
    }

    /// The partition that the record goes to.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.completion.partition
    }

    /// The outcome, if it is known already.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<RecordMetadata, ProduceError>> {
        self.completion.outcome.get().map(|outcome| self.of_record(outcome))
    }

    fn of_record(
        &self,
        outcome: &Result<Written, ProduceError>,
    ) -> Result<RecordMetadata, ProduceError> {
        let written = outcome.as_ref().map_err(Clone::clone)?;
        Ok(RecordMetadata {
            topic: self.completion.topic.clone(),
            partition: self.completion.partition,
            offset: written.base_offset.plus(self.index.into()),
            append_time: written.append_time,
        })
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, ProduceError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        match this.completion.poll(&mut this.slot, cx) {
            Some(outcome) => Poll::Ready(this.of_record(outcome)),
            None => Poll::Pending,
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("topic", &self.completion.topic)
            .field("partition", &self.completion.partition)
            .field("done", &self.completion.is_done())
            .finish_non_exhaustive()
    }
}
