//! Asks brokers about a topic: several at once, since one of them may be the one that just died.

use std::collections::HashMap;
use std::fmt;
use std::iter;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, Shared, WeakShared};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tidelog_proto::v1::describe_topics_result::Result as Described;
use tidelog_proto::v1::metadata_service_client::MetadataServiceClient;
use tidelog_proto::v1::{DescribeTopicsRequest, DescribeTopicsResponse};
use tidelog_types::{ErrorCode, TopicName, TopicPartition};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Backoff, Cluster, RESPONSE_BYTES_MAX, TopicFacts, locked, unreachable};
use crate::Error;
use crate::error::BrokerError;

/// How many brokers are asked at once.
const ASKED_AT_ONCE: usize = 3;
/// After one broker has answered, how long the others may take: theirs may be newer.
const GRACE: Duration = Duration::from_millis(20);
/// A broker that says nothing for so long is passed over.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// What was just created may be unknown for a moment to brokers that lag: they are asked again.
const UNKNOWN_RETRIES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(200)];

type Refresh = BoxFuture<'static, Result<(), Error>>;

/// Refreshes under way, by topic: who wants the same waits for the same.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<TopicName, WeakShared<Refresh>>>);

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Flights").field(&locked(&self.0).len()).finish()
    }
}

impl Cluster {
    /// The topic, from memory or else from the brokers, for at most the request timeout.
    pub(crate) async fn topic(self: &Arc<Self>, topic: &TopicName) -> Result<TopicFacts, Error> {
        let deadline = Instant::now() + self.request_timeout();
        let mut unknown = UNKNOWN_RETRIES.iter();
        let mut backoff = Backoff::long();
        loop {
            if let Some(facts) = self.metadata().topic(topic) {
                return Ok(facts);
            }
            let pause = match self.refresh(topic, None).await {
                Ok(()) => continue,
                Err(error @ Error::UnknownTopic { .. }) => *unknown.next().ok_or(error)?,
                Err(error) if error.is_retriable() => {
                    let pause = backoff.next();
                    if Instant::now() + pause >= deadline {
                        return Err(error);
                    }
                    pause
                }
                Err(error) => return Err(error),
            };
            sleep(pause).await;
        }
    }

    /// The topic of `partition`, which it has: when it does not, the brokers are asked again, for it may
    /// just have been added.
    pub(crate) async fn topic_of(
        self: &Arc<Self>,
        partition: &TopicPartition,
    ) -> Result<TopicFacts, Error> {
        let TopicPartition { topic, partition } = partition;
        let mut pauses = iter::once(&Duration::ZERO).chain(&UNKNOWN_RETRIES);
        loop {
            let facts = self.topic(topic).await?;
            let partitions = facts.partitions;
            if partition.0 < partitions {
                return Ok(facts);
            }
            let Some(pause) = pauses.next() else {
                let (topic, partition) = (topic.clone(), *partition);
                return Err(Error::UnknownPartition { topic, partition, partitions });
            };
            sleep(*pause).await;
            self.refresh(topic, None).await?;
        }
    }

    /// Asks for `topic` anew; `avoid` is the broker whose word is least worth. Fails when no broker
    /// knows the topic or none answers.
    pub(crate) async fn refresh(
        self: &Arc<Self>,
        topic: &TopicName,
        avoid: Option<&str>,
    ) -> Result<(), Error> {
        self.flight(topic, avoid).await
    }

    fn flight(self: &Arc<Self>, topic: &TopicName, avoid: Option<&str>) -> Shared<Refresh> {
        let mut flights = locked(&self.flights.0);
        let under_way = flights.get(topic).and_then(WeakShared::upgrade);
        if let Some(flight) = under_way.filter(|flight| flight.peek().is_none()) {
            return flight;
        }
        flights.retain(|_, flight| flight.upgrade().is_some());
        let cluster = Arc::clone(self);
        let addresses = self.addresses(avoid);
        let asked = topic.clone();
        let flight = async move { cluster.ask_about(&asked, addresses).await }.boxed().shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(topic.clone(), weak);
        }
        flight
    }

    async fn ask_about(&self, topic: &TopicName, addresses: Vec<String>) -> Result<(), Error> {
        let mut addresses = addresses.into_iter();
        let mut asked = FuturesUnordered::new();
        asked.extend(addresses.by_ref().take(ASKED_AT_ONCE).map(|a| self.describe_at(topic, a)));
        let mut failed = Vec::new();
        let (mut unknown, mut found_by) = (false, None);
        loop {
            let grace = found_by.unwrap_or_else(Instant::now);
            let (address, answer) = tokio::select! {
                biased;
                answered = asked.next() => match answered {
                    Some(answered) => answered,
                    None => break,
                },
                () = sleep_until(grace), if found_by.is_some() => break,
            };
            match answer {
                Ok(()) => {
                    found_by.get_or_insert_with(|| Instant::now() + GRACE);
                    continue;
                }
                Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                    unknown = true;
                }
                Err(error) => failed.push((address, error)),
            }
            asked.extend(addresses.next().map(|address| self.describe_at(topic, address)));
        }
        match found_by {
            Some(_) => Ok(()),
            None if unknown => Err(Error::UnknownTopic { topic: topic.clone() }),
            None => Err(unreachable(&failed)),
        }
    }

    async fn describe_at(&self, topic: &TopicName, address: String) -> (String, Result<(), Error>) {
        let request =
            DescribeTopicsRequest { topics: vec![topic.to_string()], include_configs: true };
        let call = |channel| async move {
            MetadataServiceClient::new(channel)
                .max_decoding_message_size(RESPONSE_BYTES_MAX)
                .describe_topics(request)
                .await
        };
        let answer = self.ask(&address, ANSWER_TIMEOUT, call).await;
        let learned = answer.and_then(|answer| self.learn(topic, &address, answer));
        (address, learned)
    }

    fn learn(
        &self,
        topic: &TopicName,
        address: &str,
        answer: DescribeTopicsResponse,
    ) -> Result<(), Error> {
        self.metadata().learn_brokers("", &answer.brokers);
        match answer.results.into_iter().next().and_then(|result| result.result) {
            Some(Described::Topic(described)) => {
                self.metadata().learn_topic(topic, described);
                Ok(())
            }
            Some(Described::Error(error)) => Err(BrokerError::new(address, error).into()),
            None => Err(Error::protocol(address, "no result for the topic asked about")),
        }
    }
}
