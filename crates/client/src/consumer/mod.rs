//! The consumer: a member of a group, which shares the partitions of topics with the other members.
//!
//! ```text
//! broker ══> fetcher ─> reading ─> recv           reading: one per held partition
//!                         ^  │
//!                         │  └─ marks ─> commit ═══╗
//!                  membership ═══ heartbeat ═══════╬═> coordinator
//! ```

mod builder;
mod commit;
mod core;
mod error;
mod event;
mod heartbeat;
mod listener;
mod marks;
mod membership;
mod reading;
mod reconcile;
mod record;
mod start;
mod streams;

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use tidelog_types::TopicPartition;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

pub use builder::ConsumerBuilder;
pub use error::{CommitError, ConsumeError};
pub use listener::{Listening, RebalanceListener};
pub use record::ConsumerRecord;
pub use start::StartPolicy;
pub use streams::{PartitionStream, PartitionStreams};

use self::core::Core;
use crate::admin::OffsetAt;
use crate::{Admin, CommittedOffset, Error, OffsetCommit, Position, ReadPosition};
use commit::Commit;
use event::{Event, Taken};
use membership::Closed;
use reading::Reading;

/// How many records are still to be handed out of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionLag {
    /// The partition.
    pub partition: TopicPartition,
    /// How many; `None` until its leader was heard of.
    pub records: Option<u64>,
}

/// A member of a group: gets its share of the partitions, and hands out their records, each partition
/// in the order of its offsets.
///
/// At least once: [`Consumer::mark`] a record when it is processed. Only what is marked is committed,
/// and of a partition only up to the first record that is not: after a crash, or when a partition moves
/// to another member, records that were handed out and not marked come again, and none is skipped.
///
/// Membership goes on in the background, however long the application takes with a record, unless it
/// sets a [`ConsumerBuilder::processing_deadline`]. Also a [`Stream`].
///
/// ```no_run
/// # async fn example(client: tidelog_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use tidelog_client::StartPolicy;
///
/// let consumer = client.consumer("billing").topics(["orders"]).start(StartPolicy::Earliest);
/// let mut consumer = consumer.build().await?;
/// while let Some(record) = consumer.recv().await? {
///     println!("{}: {:?}", record.offset, record.value);
///     consumer.mark(&record);
///     # break;
/// }
/// consumer.close().await?;
/// # Ok(())
/// # }
/// ```
///
/// Dropped without [`Consumer::close`] it commits and leaves in the background, as far as that goes.
pub struct Consumer {
    core: Arc<Core>,
    events: mpsc::UnboundedReceiver<Event>,
    /// Whose turn it is.
    current: Option<Arc<Reading>>,
    close: oneshot::Sender<Closed>,
    ended: bool,
}

impl Consumer {
    fn new(
        core: Arc<Core>,
        events: mpsc::UnboundedReceiver<Event>,
        close: oneshot::Sender<Closed>,
    ) -> Self {
        Self { core, events, current: None, close, ended: false }
    }

    /// The next record; `None` after an error that is fatal.
    ///
    /// Cancel safe: no record is lost.
    ///
    /// # Errors
    /// See [`ConsumeError`] for when to go on. Other partitions are read on in any case.
    pub async fn recv(&mut self) -> Result<Option<ConsumerRecord>, ConsumeError> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// At most `max` records of one partition: those that are there, or else the first that come within
    /// `wait`. Empty when time is up, `None` after an error that is fatal.
    ///
    /// Cancel safe: no record is lost.
    ///
    /// # Errors
    /// As [`Consumer::recv`]; records before the error are handed out first.
    pub async fn recv_batch(
        &mut self,
        max: usize,
        wait: Duration,
    ) -> Result<Option<Vec<ConsumerRecord>>, ConsumeError> {
        if max == 0 {
            return Ok(Some(Vec::new()));
        }
        // Nothing is taken out before it is handed out: the wait can be dropped.
        let batch = std::future::poll_fn(|cx| self.poll_batch(cx, max));
        timeout(wait, batch).await.unwrap_or_else(|_| Ok(Some(Vec::new())))
    }

    /// A stream for each partition that this consumer holds or gets. From then on records come by
    /// these and no longer by [`Consumer::recv`], which gives `None`; everything else stays as it is.
    /// A second call takes the partitions away from the first.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: tidelog_client::Consumer)
    /// # -> Result<(), Box<dyn std::error::Error>> {
    /// use futures_util::StreamExt;
    ///
    /// let mut partitions = consumer.partition_streams();
    /// while let Some(partition) = partitions.next().await {
    ///     let mut partition = partition?;
    ///     tokio::spawn(async move {
    ///         while let Some(Ok(record)) = partition.next().await {
    ///             record.mark();
    ///         }
    ///     });
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn partition_streams(&mut self) -> PartitionStreams {
        (self.current, self.ended) = (None, true);
        PartitionStreams::new(Arc::clone(&self.core), self.core.split())
    }

    /// Marks a record as processed. What is marked is committed by itself, or by [`Consumer::commit`].
    /// Records may be marked in any order. Of a partition that was lost meanwhile it counts for nothing.
    pub fn mark(&self, record: &ConsumerRecord) {
        record.mark();
    }

    /// Commits what is marked, of all partitions.
    ///
    /// Not cancel safe in that a commit may be under way; it does no harm.
    ///
    /// # Errors
    /// The first error; see [`CommitError`].
    pub async fn commit(&self) -> Result<(), CommitError> {
        let within = self.core.cluster.request_timeout();
        self.core.commit_marked(&self.core.held(), within).await
    }

    /// Commits offsets, whatever is marked. An offset below what is committed changes nothing: only
    /// [`Admin::seek_group`] takes a group back.
    ///
    /// Not cancel safe in that a commit may be under way; it does no harm.
    ///
    /// # Errors
    /// [`CommitError::NotHeld`] for a partition that this consumer does not hold; otherwise the first
    /// error. The other offsets are committed all the same.
    pub async fn commit_offsets<O: Into<OffsetCommit>>(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, O)>,
    ) -> Result<(), CommitError> {
        let (mut commits, mut missing) = (Vec::new(), None);
        for (partition, offset) in offsets {
            match self.core.reading(&partition) {
                Some(reading) => commits.push(Commit::new(reading, offset.into())),
                None => drop(missing.get_or_insert(partition)),
            }
        }
        let outcome = self.core.commit(commits, self.core.cluster.request_timeout()).await;
        match missing {
            Some(partition) => Err(CommitError::NotHeld { partition, maybe_written: false }),
            None => outcome,
        }
    }

    /// What the group has committed, for partitions that need not be this consumer's. All commits that
    /// were answered before are seen.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// When the group cannot be reached in time.
    pub async fn committed(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, Option<CommittedOffset>>, Error> {
        let partitions = partitions.into_iter().collect::<Vec<_>>();
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let within = self.core.cluster.request_timeout();
        Ok(self.core.calls.fetch(&partitions, within).await?.into_iter().collect())
    }

    /// Goes on with a partition at another place. What was handed out of it before can no longer be
    /// marked, what was marked is committed. The group stays where it is until records are marked
    /// beyond that.
    ///
    /// Cancel safe: the place changes when this is done, or not at all.
    ///
    /// # Errors
    /// [`Error::NotAssigned`] for a partition that this consumer does not hold; otherwise when the place
    /// cannot be found. An offset out of range is told by [`Consumer::recv`].
    pub async fn seek(&self, partition: &TopicPartition, to: Position) -> Result<(), Error> {
        let not_assigned = || Error::NotAssigned { partition: partition.clone() };
        let reading = self.core.reading(partition).ok_or_else(not_assigned)?;
        let at = match to {
            Position::Offset(offset) => OffsetAt::Offset(offset),
            Position::Earliest => OffsetAt::Earliest,
            Position::Latest => OffsetAt::Latest,
            Position::Timestamp(time) => OffsetAt::Timestamp(time),
        };
        let offset = match at {
            OffsetAt::Offset(offset) => offset,
            at => {
                let admin = Admin::new(Arc::clone(&self.core.cluster));
                let listed = admin.list_offsets([(partition.clone(), at)]).await;
                let (_, listed) = listed.into_iter().next().ok_or_else(not_assigned)?;
                listed?.offset
            }
        };
        let reading = self.core.restart(&reading)?;
        self.core.start_at(reading, offset);
        Ok(())
    }

    /// Hands out no more records of `partitions` until they are resumed. What has been fetched waits.
    /// Partitions that this consumer does not hold are passed over; one that is lost and comes again is
    /// not paused.
    pub fn pause(&self, partitions: impl IntoIterator<Item = TopicPartition>) {
        self.set_paused(partitions, true);
    }

    /// Hands out records of `partitions` again.
    pub fn resume(&self, partitions: impl IntoIterator<Item = TopicPartition>) {
        self.set_paused(partitions, false);
    }

    fn set_paused(&self, partitions: impl IntoIterator<Item = TopicPartition>, paused: bool) {
        for partition in partitions {
            if let Some(reading) = self.core.reading(&partition) {
                reading.pause(paused);
            }
        }
    }

    /// The partitions that are paused.
    #[must_use]
    pub fn paused(&self) -> Vec<TopicPartition> {
        let held = self.core.held().into_iter().filter(|reading| reading.is_paused());
        held.map(|reading| reading.partition.clone()).collect()
    }

    /// The partitions that this consumer holds.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.core.held().iter().map(|reading| reading.partition.clone()).collect()
    }

    /// How many records are still to be handed out, of each partition that this consumer holds.
    #[must_use]
    pub fn lag(&self) -> Vec<PartitionLag> {
        let lag = |reading: &Arc<Reading>| PartitionLag {
            partition: reading.partition.clone(),
            records: reading.lag(),
        };
        self.core.held().iter().map(lag).collect()
    }

    /// How far the consumer is in each partition that it holds.
    #[must_use]
    pub fn positions(&self) -> Vec<ReadPosition> {
        self.core.held().iter().map(|reading| reading.position()).collect()
    }

    /// Hands out no more, tells the listener, commits what is marked, and leaves the group. A static
    /// member commits and stays, see [`ConsumerBuilder::instance_id`].
    ///
    /// Cancel safe: all of that is done in the background anyway.
    ///
    /// # Errors
    /// When what is marked could not be committed, or the group not be left.
    pub async fn close(self) -> Result<(), CommitError> {
        let (reply, closed) = oneshot::channel();
        if self.close.send(reply).is_err() {
            // The group has refused the consumer: nothing is held.
            return Ok(());
        }
        closed.await.unwrap_or(Ok(()))
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<ConsumerRecord>, ConsumeError>> {
        self.core.want();
        while let Some(reading) = ready!(self.poll_ready(cx))? {
            let (taken, over) = reading.take();
            if over {
                self.current = None;
            }
            match taken {
                Taken::Record(record) => return Poll::Ready(Ok(Some(record))),
                Taken::Failure(error) => return Poll::Ready(Err(error)),
                Taken::Nothing | Taken::Ended => {}
            }
        }
        Poll::Ready(Ok(None))
    }

    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Result<Option<Vec<ConsumerRecord>>, ConsumeError>> {
        self.core.want();
        let mut records = Vec::new();
        while let Some(reading) = ready!(self.poll_ready(cx))? {
            let (failure, over) = reading.take_many(max, &mut records);
            if over {
                self.current = None;
            }
            match failure {
                Some(error) => return Poll::Ready(Err(error)),
                None if !records.is_empty() => return Poll::Ready(Ok(Some(records))),
                None => {}
            }
        }
        Poll::Ready(Ok(None))
    }

    /// Whose turn it is; `None` when there will be nothing more.
    fn poll_ready(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Arc<Reading>>, ConsumeError>> {
        if self.current.is_none() && !self.ended {
            match ready!(self.events.poll_recv(cx)) {
                Some(Event::Ready(reading)) => self.current = Some(reading),
                Some(Event::Failed(error)) => return Poll::Ready(Err(error)),
                Some(Event::Ended) | None => self.ended = true,
            }
        }
        Poll::Ready(Ok(self.current.clone()))
    }
}

impl Stream for Consumer {
    type Item = Result<ConsumerRecord, ConsumeError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_recv(cx).map(Result::transpose)
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("group", self.core.calls.group())
            .field("assignment", &self.assignment())
            .finish_non_exhaustive()
    }
}
