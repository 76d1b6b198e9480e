//! A stream per partition.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use tidelog_types::TopicPartition;
use tokio::sync::mpsc;

use super::core::Core;
use super::event::{Event, Taken};
use super::reading::Reading;
use super::{ConsumeError, ConsumerRecord};

/// Yields a [`PartitionStream`] for each partition that the consumer gets, and what goes wrong with
/// the group. Ends when the consumer is closed or of no more use.
///
/// Cancel safe, as streams are: nothing is taken out before it is yielded.
pub struct PartitionStreams {
    core: Arc<Core>,
    events: mpsc::UnboundedReceiver<Event>,
}

impl PartitionStreams {
    pub(super) fn new(core: Arc<Core>, events: mpsc::UnboundedReceiver<Event>) -> Self {
        Self { core, events }
    }
}

impl Stream for PartitionStreams {
    type Item = Result<PartitionStream, ConsumeError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.core.want();
        Poll::Ready(match ready!(this.events.poll_recv(cx)) {
            Some(Event::Ready(reading)) => Some(Ok(PartitionStream { reading })),
            Some(Event::Failed(error)) => Some(Err(error)),
            Some(Event::Ended) | None => None,
        })
    }
}

impl fmt::Debug for PartitionStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionStreams").finish_non_exhaustive()
    }
}

/// The records of one partition, in the order of their offsets. Ends when the partition is revoked,
/// lost or sought to another place; in the last case another stream begins for it.
///
/// Cancel safe, as streams are: no record is lost.
#[derive(Debug)]
pub struct PartitionStream {
    reading: Arc<Reading>,
}

impl PartitionStream {
    /// The partition.
    #[must_use]
    pub fn partition(&self) -> &TopicPartition {
        &self.reading.partition
    }
}

impl Stream for PartitionStream {
    type Item = Result<ConsumerRecord, ConsumeError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.reading.poll_take(cx) {
            Taken::Record(record) => Poll::Ready(Some(Ok(record))),
            Taken::Failure(error) => Poll::Ready(Some(Err(error))),
            Taken::Nothing => Poll::Pending,
            Taken::Ended => Poll::Ready(None),
        }
    }
}
