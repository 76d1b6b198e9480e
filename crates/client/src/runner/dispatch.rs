//! Records from the consumer to handlers: in order by key, different keys side by side.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidelog_types::TopicPartition;
use tokio::task::{JoinError, JoinSet};
use tracing::warn;

use super::RunError;
use super::work::{Shared, Work};
use crate::{ConsumeError, Consumer, ConsumerRecord};

/// The most records that are taken from the consumer and not done, and their bytes.
const PENDING_RECORDS_MAX: usize = 1_024;
const PENDING_BYTES_MAX: usize = 16 << 20;
/// The most records that are taken from the consumer at once.
const TAKEN_MAX: usize = 100;
/// The longest wait for records; then the same begins anew.
const WAIT: Duration = Duration::from_secs(60);

/// How records are handed to the handler.
#[derive(Clone, Copy, Debug)]
pub(super) enum Grouping {
    /// One by one; those of one key one after the other.
    Records,
    /// So many at a time; those of one partition one after the other.
    Batches(usize),
}

/// What has to be done one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Key(TopicPartition, Bytes),
    Partition(TopicPartition),
    /// A record without a key has no order to keep.
    Alone(u64),
}

/// Takes records and has them handled.
///
/// Invariant: a lane is in `lanes` exactly while a worker works on it; what waits behind that worker
/// stands in its queue.
pub(super) struct Dispatcher {
    consumer: Consumer,
    shared: Arc<Shared>,
    grouping: Grouping,
    lanes: HashMap<Lane, VecDeque<Work>>,
    workers: JoinSet<(Lane, Work, Result<(), RunError>)>,
    records: usize,
    bytes: usize,
    alone: u64,
}

impl Dispatcher {
    pub(super) fn new(consumer: Consumer, shared: Arc<Shared>, grouping: Grouping) -> Self {
        let (lanes, workers) = (HashMap::new(), JoinSet::new());
        Self { consumer, shared, grouping, lanes, workers, records: 0, bytes: 0, alone: 0 }
    }

    /// Runs until `stop` is done or something fails; then waits for calls in progress, commits and
    /// leaves.
    pub(super) async fn run(
        mut self,
        stop: impl Future<Output = ()>,
        stop_timeout: Duration,
    ) -> Result<(), RunError> {
        tokio::pin!(stop);
        let outcome = loop {
            let breaker = self.shared.rules.breaker.clone();
            let room = self.records < PENDING_RECORDS_MAX && self.bytes < PENDING_BYTES_MAX;
            let (open, max) = (breaker.is_open(), self.take_max());
            let outcome = tokio::select! {
                biased;
                () = &mut stop => break Ok(()),
                Some(done) = self.workers.join_next(), if !self.workers.is_empty() => {
                    self.finish(done)
                }
                // While something is down nothing is taken: the consumer's buffer fills and that is
                // all.
                () = breaker.closed(), if open => Ok(()),
                taken = self.consumer.recv_batch(max, WAIT), if room && !open => {
                    self.take(taken)
                }
            };
            if let Err(error) = outcome {
                break Err(error);
            }
        };
        self.shared.flight.stop(stop_timeout).await;
        self.workers.shutdown().await;
        let closed = self.consumer.close().await.map_err(RunError::from);
        outcome.and(closed)
    }

    fn take_max(&self) -> usize {
        match self.grouping {
            Grouping::Records => TAKEN_MAX,
            Grouping::Batches(max) => max,
        }
    }

    fn take(
        &mut self,
        taken: Result<Option<Vec<ConsumerRecord>>, ConsumeError>,
    ) -> Result<(), RunError> {
        let records = match taken {
            Ok(Some(records)) => records,
            Ok(None) => return Err(RunError::Lost),
            Err(error) if error.is_retriable() => {
                warn!(err = %error, "records do not come");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if records.is_empty() {
            return Ok(());
        }
        match self.grouping {
            Grouping::Batches(_) => {
                let work = Work::new(records);
                self.enqueue(Lane::Partition(work.partition()), work);
            }
            Grouping::Records => {
                for record in records {
                    let key = record.key.clone();
                    let work = Work::new(vec![record]);
                    self.alone += 1;
                    let lane = match key {
                        Some(key) => Lane::Key(work.partition(), key),
                        None => Lane::Alone(self.alone),
                    };
                    self.enqueue(lane, work);
                }
            }
        }
        Ok(())
    }

    fn enqueue(&mut self, lane: Lane, work: Work) {
        self.records += work.len();
        self.bytes += work.bytes();
        match self.lanes.get_mut(&lane) {
            Some(queue) => queue.push_back(work),
            None => {
                self.lanes.insert(lane.clone(), VecDeque::new());
                self.start(lane, work);
            }
        }
    }

    fn start(&mut self, lane: Lane, work: Work) {
        let shared = Arc::clone(&self.shared);
        self.workers.spawn(async move {
            let outcome = shared.work(&work).await;
            (lane, work, outcome)
        });
    }

    fn finish(
        &mut self,
        done: Result<(Lane, Work, Result<(), RunError>), JoinError>,
    ) -> Result<(), RunError> {
        // Handlers that panic are caught: this is a fault of the runner's own.
        let (lane, work, outcome) = done.map_err(|_| RunError::Lost)?;
        self.records -= work.len();
        self.bytes -= work.bytes();
        match self.lanes.get_mut(&lane).and_then(VecDeque::pop_front) {
            Some(next) => self.start(lane, next),
            None => drop(self.lanes.remove(&lane)),
        }
        outcome
    }
}
