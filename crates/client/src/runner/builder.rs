//! Sets a runner up.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tidelog_types::TopicName;
use tokio::sync::{Semaphore, watch};

use super::Runner;
use super::attempts::{Retry, Rules};
use super::breaker::Breaker;
use super::dead_letter::{DeadLetters, Morgue};
use super::dispatch::{Dispatcher, Grouping};
use super::flight::Flight;
use super::handler::Call;
use super::stats::Tally;
use super::work::Shared;
use crate::settings::refuse;
use crate::{Client, ConsumerBuilder, Error, IntoTopicName, StartPolicy};

/// The most records of a batch, unless told otherwise.
const BATCH_RECORDS: usize = 100;

type Until = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Sets a [`Runner`] up.
#[must_use]
pub struct RunnerBuilder {
    client: Client,
    consumer: ConsumerBuilder,
    topics: Result<Vec<TopicName>, Error>,
    call: Call,
    grouping: Grouping,
    concurrency_max: usize,
    retry: Retry,
    probe: Retry,
    dead_letters: DeadLetters,
    stop_timeout: Duration,
    until: Until,
}

impl RunnerBuilder {
    pub(crate) fn records<T: IntoTopicName>(
        client: &Client,
        group: String,
        topics: impl IntoIterator<Item = T>,
        handler: impl super::Handler,
    ) -> Self {
        Self::new(client, group, topics, Call::records(handler), Grouping::Records)
    }

    pub(crate) fn batches<T: IntoTopicName>(
        client: &Client,
        group: String,
        topics: impl IntoIterator<Item = T>,
        handler: impl super::BatchHandler,
    ) -> Self {
        let grouping = Grouping::Batches(BATCH_RECORDS);
        Self::new(client, group, topics, Call::batches(handler), grouping)
    }

    fn new<T: IntoTopicName>(
        client: &Client,
        group: String,
        topics: impl IntoIterator<Item = T>,
        call: Call,
        grouping: Grouping,
    ) -> Self {
        let topics = topics.into_iter().map(|topic| topic.into_topic_name().map_err(Error::from));
        let topics = topics.collect::<Result<Vec<_>, _>>();
        let mut consumer = client.consumer(group);
        if let Ok(topics) = &topics {
            consumer = consumer.topics(topics);
        }
        Self {
            client: client.clone(),
            consumer,
            topics,
            call,
            grouping,
            concurrency_max: 10,
            retry: Retry::new(Duration::from_secs(1), 3),
            probe: Retry::new(Duration::from_secs(1), 0).max(Duration::from_secs(8)),
            dead_letters: DeadLetters::default(),
            stop_timeout: Duration::from_secs(30),
            until: Box::pin(std::future::pending()),
        }
    }

    /// Where the group begins with partitions that it has committed nothing for. Required.
    pub fn start(self, start: StartPolicy) -> Self {
        self.consumer(|consumer| consumer.start(start))
    }

    /// Sets the consumer up. A [`crate::RebalanceListener`] does not come through: the runner has its
    /// own.
    pub fn consumer(mut self, set_up: impl FnOnce(ConsumerBuilder) -> ConsumerBuilder) -> Self {
        self.consumer = set_up(self.consumer);
        self
    }

    /// How many calls of the handler run at once. Default 10. Calls for records of one key, or for
    /// batches of one partition, come one after the other anyway. It is also about how many calls fail
    /// when a dependency goes down, before the others wait.
    pub fn concurrency_max(mut self, calls: usize) -> Self {
        self.concurrency_max = calls;
        self
    }

    /// How many records a batch has at most. Default 100. Of no meaning without batches.
    pub fn batch_records_max(mut self, records: usize) -> Self {
        if let Grouping::Batches(max) = &mut self.grouping {
            *max = records;
        }
        self
    }

    /// How a call that failed for now is tried again, before the record is put aside. Default: after
    /// 1 s, 2 s and 4 s. Other keys go on meanwhile.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The pauses between calls while a dependency is down; its number of tries does not count. Default
    /// 1 s, doubled up to 8 s. Shorter notices sooner that it is back, and calls more often.
    pub fn probe(mut self, probe: Retry) -> Self {
        self.probe = probe;
        self
    }

    /// Where records go that cannot be handled. Default: to `<topic>.dlq`, created if need be.
    pub fn dead_letters(mut self, dead_letters: DeadLetters) -> Self {
        self.dead_letters = dead_letters;
        self
    }

    /// How long calls in progress are waited for when the runner stops. Default 30 s. What takes longer
    /// is dropped, and comes again.
    pub fn stop_timeout(mut self, within: Duration) -> Self {
        self.stop_timeout = within;
        self
    }

    /// Stops when `until` is done, for example at a signal.
    pub fn until(mut self, until: impl Future<Output = ()> + Send + 'static) -> Self {
        self.until = Box::pin(until);
        self
    }

    /// Checks the settings, makes sure that there is a place for dead letters, and starts.
    ///
    /// Cancel safe: at most an empty dead-letter topic is left behind.
    ///
    /// # Errors
    /// When a setting is missing or refused, a dead-letter topic is missing and is not to be created, or
    /// no broker answers.
    pub async fn build(self) -> Result<Runner, Error> {
        let topics = self.topics?;
        if self.concurrency_max == 0 || self.concurrency_max > Semaphore::MAX_PERMITS {
            let value = self.concurrency_max.to_string();
            return Err(refuse("concurrency_max", &value, "must be above 0"));
        }
        if let Grouping::Batches(0) = self.grouping {
            return Err(refuse("batch_records_max", "0", "must be above 0"));
        }
        let flight = Flight::new(self.consumer.drain_timeout());
        let consumer = self.consumer.listener(flight.clone());
        consumer.check()?;
        let targets = self.dead_letters.prepare(&self.client.admin(), &topics).await?;
        let producer = self.client.producer().build().await?;
        let rules = Rules {
            retry: self.retry,
            probe: self.probe,
            breaker: Breaker::new(),
            slots: Semaphore::new(self.concurrency_max),
            tally: Tally::default(),
        };
        let clock = Arc::clone(&self.client.environment().clock);
        let morgue = Morgue { producer, targets };
        let shared = Arc::new(Shared { rules, flight, call: self.call, morgue, clock });
        let consumer = consumer.build().await?;
        let dispatcher = Dispatcher::new(consumer, Arc::clone(&shared), self.grouping);
        let (stop, stopped) = watch::channel(false);
        let stop_timeout = self.stop_timeout;
        let stopping = stopping(self.until, stopped);
        let task = tokio::spawn(dispatcher.run(stopping, stop_timeout));
        Ok(Runner { stop, task, shared })
    }
}

/// Done when the runner is to stop.
async fn stopping(until: Until, mut stopped: watch::Receiver<bool>) {
    tokio::select! {
        biased;
        // An error means that the runner was dropped.
        _ = stopped.wait_for(|stop| *stop) => {}
        () = until => {}
    }
}

impl fmt::Debug for RunnerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunnerBuilder")
            .field("consumer", &self.consumer)
            .field("dead_letters", &self.dead_letters)
            .finish_non_exhaustive()
    }
}
