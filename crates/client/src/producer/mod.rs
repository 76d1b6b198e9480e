//! The producer: collects records into batches and writes each exactly once and in order.
//!
//! ```text
//! enqueue ─> accumulator ─> window ─> link ══> broker        accumulator, window: one per partition
//!    │ (a lock, no task)   (one task per partition)          link: one per broker
//!    └ delivery <──────────── completion <──── answer        completion: one per batch
//! ```
//! A record costs a copy into its batch under a short lock; everything else happens per batch.

mod accumulator;
mod completion;
mod config;
mod error;
mod link;
mod partition;
mod partitioner;
mod prepare;
mod record;
mod topic;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tidelog_types::{TopicName, TopicPartition};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::debug;

pub use completion::Delivery;
pub use config::{Compression, ProducerBuilder};
pub use error::{ProduceError, ProduceFailure, TryEnqueueError};
pub use partitioner::{Murmur2, Partitioner, murmur2};
pub use record::{IntoTopicName, Record, RecordMetadata};

use crate::Error;
use crate::cluster::{Cluster, locked};
use completion::Completion;
use config::Config;
use link::Links;
use topic::{Misfit, Topic};
use window::Identity;

/// Writes records. Cheap to clone; all clones share one buffer and one identity.
///
/// Always idempotent: however often a batch has to be sent, across reconnects and changes of leader,
/// each of its records is written once, and the records of a partition in the order in which they were
/// enqueued. An acknowledgement means that the record is on disk at a quorum.
///
/// When the last clone is dropped without [`Producer::close`], what was not acknowledged is abandoned,
/// and its deliveries resolve with [`ProduceFailure::Closed`].
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

impl Producer {
    fn new(core: Arc<Core>) -> Self {
        Self { handle: Arc::new(Handle { core }) }
    }

    /// Writes `record` and waits until it is durable.
    ///
    /// Not cancel safe: dropped after the record was enqueued it leaves the record on its way, and
    /// nobody learns of its outcome. To bound the wait use [`ProducerBuilder::delivery_timeout`].
    ///
    /// # Errors
    /// [`ProduceError`] tells whether the record may have been written all the same.
    pub async fn send(&self, record: Record) -> Result<RecordMetadata, ProduceError> {
        self.enqueue(record).await?.await
    }

    /// Puts `record` into the buffer and gives the future of its outcome. Waits for room in the buffer
    /// and, for the first record of a topic, for its metadata.
    ///
    /// Cancel safe: dropped before it resolves, the record is not enqueued.
    ///
    /// # Errors
    /// When the record can never be written, when the topic does not exist, or when there was no room
    /// for too long. Nothing was written then.
    pub async fn enqueue(&self, record: Record) -> Result<Delivery, ProduceError> {
        let mut record = record;
        let mut permit = None;
        let mut renewed = false;
        loop {
            let room = match permit.take() {
                Some(room) => room,
                None => self.core().wait_for_room(&record).await?,
            };
            match self.core().append(record, room) {
                Ok(delivery) => return Ok(delivery),
                Err(Misfit::Refused(error)) => return Err(error),
                Err(Misfit::UnknownTopic(name, back, room)) => {
                    self.core().learn(&name).await?;
                    (record, permit) = (*back, Some(room));
                }
                Err(Misfit::UnknownPartition(error, ..)) if renewed => {
                    return Err(ProduceError::new(error, false));
                }
                Err(Misfit::UnknownPartition(error, back, room)) => {
                    if let Error::UnknownPartition { topic, partition, .. } = error {
                        self.core().look_for(&TopicPartition { topic, partition }).await;
                    }
                    renewed = true;
                    (record, permit) = (*back, Some(room));
                }
            }
        }
    }

    /// As [`Producer::enqueue`], without waiting.
    ///
    /// # Errors
    /// Gives the record back when the buffer is full, or when nothing is known of the topic yet.
    pub fn try_enqueue(&self, record: Record) -> Result<Delivery, TryEnqueueError> {
        let bytes = self.core().check(&record)?;
        let Some(room) = self.core().try_room(bytes) else {
            return Err(TryEnqueueError::Full(Box::new(record)));
        };
        self.core().append(record, room).map_err(|misfit| match misfit {
            Misfit::Refused(error) => error.into(),
            Misfit::UnknownTopic(_, record, _) => TryEnqueueError::NotReady(record),
            Misfit::UnknownPartition(error, ..) => ProduceError::new(error, false).into(),
        })
    }

    /// Writes `records` and waits for all of them; one outcome each, in their order.
    ///
    /// Not cancel safe: what was enqueued by then stays on its way.
    pub async fn send_all(
        &self,
        records: impl IntoIterator<Item = Record>,
    ) -> Vec<Result<RecordMetadata, ProduceError>> {
        let mut deliveries = Vec::new();
        for record in records {
            deliveries.push(self.enqueue(record).await);
        }
        let mut outcomes = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            outcomes.push(match delivery {
                Ok(delivery) => delivery.await,
                Err(error) => Err(error),
            });
        }
        outcomes
    }

    /// Learns of `topic` now, so that the first record does not have to wait for it.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// When the topic does not exist, or no broker answers.
    pub async fn warm_up(&self, topic: &TopicName) -> Result<(), ProduceError> {
        self.core().learn(topic).await
    }

    /// Sends what has been enqueued without lingering, and waits for the outcome of all of it.
    ///
    /// Cancel safe: the records are on their way all the same.
    ///
    /// # Errors
    /// The first of the errors that the deliveries get too.
    pub async fn flush(&self) -> Result<(), ProduceError> {
        let mut outcome = Ok(());
        for completion in self.core().close_batches() {
            let delivery = Delivery::new(completion, 0).await;
            outcome = outcome.and(delivery.map(drop));
        }
        outcome
    }

    /// Takes no more records, flushes for at most `within`, and gives up what is left then.
    ///
    /// Not cancel safe: dropped before it resolves, the producer takes no more records, and what was
    /// enqueued stays on its way as long as a clone of the producer lives.
    ///
    /// # Errors
    /// The first error of a record; with [`ProduceFailure::Closed`], time was up. The deliveries tell
    /// which records were not written, and which may have been.
    pub async fn close(self, within: Duration) -> Result<(), ProduceError> {
        self.core().closed.store(true, Ordering::Release);
        let flushed = timeout(within, self.flush()).await;
        self.core().stop();
        flushed.unwrap_or_else(|_| Err(ProduceError::new(ProduceFailure::Closed, true)))
    }

    fn core(&self) -> &Arc<Core> {
        &self.handle.core
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("identity", &self.core().identity)
            .field("config", &self.core().config)
            .finish_non_exhaustive()
    }
}

/// Stops the tasks with the last clone of the producer: they hold the core, so it would live on.
struct Handle {
    core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.stop();
    }
}

/// What a producer's clones and tasks share.
struct Core {
    cluster: Arc<Cluster>,
    config: Config,
    links: Links,
    identity: Identity,
    buffer: Arc<Semaphore>,
    topics: RwLock<BTreeMap<TopicName, Arc<Topic>>>,
    /// Topics that were written to under `identity`.
    known: Mutex<BTreeSet<TopicName>>,
    tasks: Mutex<JoinSet<()>>,
    request_next: AtomicU64,
    closed: AtomicBool,
}

impl Core {
    async fn start(cluster: Arc<Cluster>, config: Config) -> Result<Arc<Self>, Error> {
        let core = Arc::new(Self {
            links: Links::new(),
            identity: new_identity(&cluster).await?,
            buffer: Arc::new(Semaphore::new(config.buffer_bytes)),
            topics: RwLock::default(),
            known: Mutex::default(),
            tasks: Mutex::default(),
            request_next: AtomicU64::new(1),
            closed: AtomicBool::new(false),
            cluster,
            config,
        });
        locked(&core.tasks).spawn(Self::keep_up(Arc::clone(&core)));
        Ok(core)
    }

    /// Looks for new partitions from time to time, until the producer stops.
    async fn keep_up(self: Arc<Self>) {
        loop {
            sleep(self.cluster.metadata_age()).await;
            for name in &self.topic_names() {
                self.renew(name).await;
            }
        }
    }

    fn topic_names(&self) -> Vec<TopicName> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Looks a topic up again, and writes to the partitions that it has got meanwhile, too.
    async fn renew(self: &Arc<Self>, name: &TopicName) {
        if let Err(error) = self.cluster.refresh(name, None).await {
            // What is known serves on; a topic that is gone shows when it is written to.
            debug!(topic = %name, err = %error, "topic was not looked up again");
        }
        self.grow(name);
    }

    /// As [`Core::renew`], for the sake of a partition that may just have been added.
    async fn look_for(self: &Arc<Self>, partition: &TopicPartition) {
        if let Err(error) = self.cluster.topic_of(partition).await {
            // The next try to write there tells.
            debug!(%partition, err = %error, "partition was not found");
        }
        self.grow(&partition.topic);
    }

    /// Writes to the partitions that a topic is now known to have, too.
    fn grow(self: &Arc<Self>, name: &TopicName) {
        let Some(facts) = self.cluster.metadata().topic(name) else { return };
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get_mut(name)
            && topic.id() == facts.id
            && topic.partitions() < facts.partitions
            && !self.closed.load(Ordering::Acquire)
        {
            debug!(topic = %name, partitions = facts.partitions, "topic has more partitions");
            *topic = Arc::new(topic.grown(self, &facts));
        }
    }

    /// A number that no other request of this producer has, on any link: an answer that comes late, by
    /// a link long given up, must not be taken for another's.
    fn next_request(&self) -> u64 {
        self.request_next.fetch_add(1, Ordering::Relaxed)
    }

    /// What `record` takes of the buffer, if it can be written at all.
    fn check(&self, record: &Record) -> Result<usize, ProduceError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(ProduceError::new(ProduceFailure::Closed, false));
        }
        let (bytes, bytes_max) = (record.buffer_bytes(), self.config.record_bytes_max);
        if bytes > bytes_max {
            return Err(ProduceError::new(ProduceFailure::TooLarge { bytes, bytes_max }, false));
        }
        Ok(bytes)
    }

    fn try_room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        // Fits: a record has at most as many bytes as the buffer, and that at most 1 GiB.
        Arc::clone(&self.buffer).try_acquire_many_owned(bytes as u32).ok()
    }

    async fn wait_for_room(&self, record: &Record) -> Result<OwnedSemaphorePermit, ProduceError> {
        let bytes = self.check(record)?;
        if let Some(room) = self.try_room(bytes) {
            return Ok(room);
        }
        let room = Arc::clone(&self.buffer).acquire_many_owned(bytes as u32);
        match timeout(self.config.buffer_timeout, room).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) => Err(ProduceError::new(ProduceFailure::Closed, false)),
            Err(_) => {
                let after = self.config.buffer_timeout;
                Err(ProduceError::new(ProduceFailure::BufferFull { after }, false))
            }
        }
    }

    fn append(&self, record: Record, room: OwnedSemaphorePermit) -> Result<Delivery, Misfit> {
        let name = match &record.topic {
            Ok(name) => name,
            Err(error) => return Err(Misfit::refused(Error::from(error.clone()))),
        };
        let topic = self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        match topic {
            Some(topic) => topic.append(self, &record, room),
            None => Err(Misfit::UnknownTopic(name.clone(), Box::new(record), room)),
        }
    }

    /// Learns of a topic and starts the tasks of its partitions.
    async fn learn(self: &Arc<Self>, name: &TopicName) -> Result<(), ProduceError> {
        let facts = self.cluster.topic(name).await;
        let facts = facts.map_err(|error| ProduceError::new(error, false))?;
        let identity = if locked(&self.known).contains(name) {
            // Tasks that begin again begin at sequence 0. Under the identity of before, what they send
            // would pass for a duplicate of what had that sequence then.
            let identity = new_identity(&self.cluster).await;
            identity.map_err(|error| ProduceError::new(error, false))?
        } else {
            self.identity
        };
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if !topics.contains_key(name) && !self.closed.load(Ordering::Acquire) {
            let first = locked(&self.known).insert(name.clone());
            if !first && identity == self.identity {
                // Came and went while it was looked up: look again.
                return Ok(());
            }
            let topic = Topic::start(self, name, &facts, identity);
            topics.insert(name.clone(), Arc::new(topic));
        }
        Ok(())
    }

    /// Looks the topic up anew with the next record: it is gone, or another one under its name.
    fn forget_topic(&self, name: &TopicName, id: &str) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if topics.get(name).is_some_and(|topic| topic.id() == id) {
            topics.remove(name);
        }
        let metadata = self.cluster.metadata();
        if metadata.topic(name).is_some_and(|facts| facts.id == id) {
            metadata.forget_topic(name);
        }
    }

    /// Closes all open batches; gives the outcomes that are still to come.
    fn close_batches(&self) -> Vec<Arc<Completion>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.values().flat_map(|topic| topic.close_batches()).collect()
    }

    /// Ends all tasks; what has no outcome yet gets one.
    fn stop(&self) {
        self.closed.store(true, Ordering::Release);
        self.buffer.close();
        locked(&self.tasks).abort_all();
        let topics =
            std::mem::take(&mut *self.topics.write().unwrap_or_else(PoisonError::into_inner));
        topics.values().for_each(|topic| topic.end());
        self.links.close();
    }
}

/// An identity that nobody else has, within the request timeout.
async fn new_identity(cluster: &Cluster) -> Result<Identity, Error> {
    let last = Mutex::new(None);
    let tell = |error| *locked(&last) = Some(error);
    let identity = prepare::init_producer(cluster, None, &tell);
    let after = cluster.request_timeout();
    match timeout(after, identity).await {
        Ok(identity) => identity,
        Err(_) => {
            let any = || Error::TimedOut { address: "any".to_owned(), after };
            Err(locked(&last).take().unwrap_or_else(any))
        }
    }
}
