//! Topics: create, delete, describe, list, change.

use std::time::Duration;

use futures_util::FutureExt;
use tidelog_proto::v1;
use tidelog_proto::v1::admin_service_client::AdminServiceClient;
use tidelog_proto::v1::metadata_service_client::MetadataServiceClient;
use tidelog_types::{ErrorCode, Kind, TopicName};
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use super::facts::{topic_id, topic_name};
use super::{
    Admin, Answer, Answers, CreatedTopic, NewTopic, PerItem, TopicFacts, TopicSummary, admin,
};
use crate::Error;
use crate::cluster::{Backoff, RESPONSE_BYTES_MAX, one_of};
use crate::error::BrokerError;

/// How long one broker may try before another one is asked.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);
/// Where answers come from, when any broker may have given them.
const ANY: &str = "any";

impl Admin {
    /// Creates topics. Each exists once its result says so; its leaders are elected right after, see
    /// [`Admin::wait_for_leaders`]. When the answer to a try was lost, and a topic exists at the next,
    /// it counts as created.
    ///
    /// # Errors
    /// When no broker could take the call.
    pub async fn create_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
    ) -> Result<PerItem<TopicName, CreatedTopic>, Error> {
        self.create(topics, false).await
    }

    /// Checks whether topics could be created, and creates none.
    ///
    /// # Errors
    /// When no broker could take the call.
    pub async fn check_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
    ) -> Result<PerItem<TopicName, CreatedTopic>, Error> {
        self.create(topics, true).await
    }

    async fn create(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
        validate_only: bool,
    ) -> Result<PerItem<TopicName, CreatedTopic>, Error> {
        use v1::create_topics_result::Result as Outcome;
        let topics = topics.into_iter().collect::<Vec<_>>();
        let names = topics.iter().map(|topic| topic.name.clone()).collect::<Vec<_>>();
        let topics = topics.into_iter().map(wire_topic).collect::<Vec<_>>();
        let call = |channel, items: &[usize], timeout_ms| {
            let topics = items.iter().filter_map(|at| topics.get(*at)).cloned().collect();
            let request = v1::CreateTopicsRequest { topics, validate_only, timeout_ms };
            let call = async move {
                let answer = admin(channel).create_topics(request).await?;
                Ok(answer.map(|a| a.results.into_iter().map(|result| result.result).collect()))
            };
            call.boxed()
        };
        let read = |outcome, in_doubt: bool| match outcome {
            Some(Outcome::Created(created)) => {
                let created: v1::CreatedTopic = created;
                let id = Some(created.id).filter(|id| !id.is_empty());
                let id = id.map(|id| topic_id(ANY, &id)).transpose()?;
                let (partitions, replication_factor) =
                    (created.partitions, created.replication_factor);
                Ok(Some(CreatedTopic { id, partitions, replication_factor }))
            }
            // An earlier try may have created it.
            Some(Outcome::Error(error)) if in_doubt && !validate_only && is_there(&error) => {
                Ok(None)
            }
            Some(Outcome::Error(error)) => Err(BrokerError::new(ANY, error).into()),
            None => Err(Error::protocol(ANY, "no result for a topic")),
        };
        let results = self.at_controller(names.len(), call, read).await?;
        let mut created = Vec::with_capacity(names.len());
        for (name, result) in names.into_iter().zip(results) {
            let result = match result {
                Ok(Some(topic)) => Ok(topic),
                Ok(None) => self.describe_topic(&name).await.map(CreatedTopic::from),
                Err(error) => Err(error),
            };
            created.push((name, result));
        }
        Ok(created)
    }

    /// Gives `topic` more partitions, so that it has `partitions` of them. Records of a key may go to
    /// another partition from then on. Producers notice within [`ClientBuilder::metadata_age`].
    ///
    /// [`ClientBuilder::metadata_age`]: crate::ClientBuilder::metadata_age
    ///
    /// # Errors
    /// When the topic does not exist or has more already, or no broker could take the call.
    pub async fn create_partitions(&self, topic: &TopicName, partitions: u32) -> Result<(), Error> {
        self.add_partitions(topic, partitions, false).await?;
        self.cluster.refresh(topic, None).await
    }

    /// Checks whether [`Admin::create_partitions`] would take that, and adds none.
    ///
    /// # Errors
    /// As there.
    pub async fn check_partitions(&self, topic: &TopicName, partitions: u32) -> Result<(), Error> {
        self.add_partitions(topic, partitions, true).await
    }

    async fn add_partitions(
        &self,
        topic: &TopicName,
        partitions: u32,
        validate_only: bool,
    ) -> Result<(), Error> {
        let wanted = v1::NewPartitions { topic: topic.to_string(), partitions };
        let call = |channel, _: &[usize], timeout_ms| {
            let topics = vec![wanted.clone()];
            let request = v1::CreatePartitionsRequest { topics, validate_only, timeout_ms };
            let call = async move {
                let answer = admin(channel).create_partitions(request).await?;
                Ok(answer.map(|a| a.results.into_iter().map(|result| result.error).collect()))
            };
            call.boxed()
        };
        let mut results = self.at_controller(1, call, |error, _| done(error)).await?;
        results.pop().unwrap_or_else(|| Err(Error::protocol(ANY, "no result for the topic")))
    }

    /// Deletes topics with all their records. When the answer to a try was lost, and a topic does not
    /// exist at the next, it counts as deleted.
    ///
    /// # Errors
    /// When no broker could take the call.
    pub async fn delete_topics(
        &self,
        topics: impl IntoIterator<Item = TopicName>,
    ) -> Result<PerItem<TopicName, ()>, Error> {
        let names = topics.into_iter().collect::<Vec<_>>();
        let call = |channel, items: &[usize], timeout_ms| {
            let topics = items.iter().filter_map(|at| names.get(*at));
            let topics = topics.map(TopicName::to_string).collect();
            let request = v1::DeleteTopicsRequest { topics, timeout_ms };
            let call = async move {
                let answer = admin(channel).delete_topics(request).await?;
                Ok(answer.map(|a| a.results.into_iter().map(|result| result.error).collect()))
            };
            call.boxed()
        };
        let read = |error: Option<v1::Error>, in_doubt| {
            done(error.filter(|error| !(in_doubt && is_gone(error))))
        };
        let results = self.at_controller(names.len(), call, read).await?;
        for topic in &names {
            self.cluster.metadata().forget_topic(topic);
        }
        Ok(names.into_iter().zip(results).collect())
    }

    /// Changes configs of `topic`; `None` takes a setting away. All of them are changed, or none.
    ///
    /// # Errors
    /// When the topic or a config does not exist, a value is not allowed, or no broker could take the
    /// call.
    pub async fn alter_configs(
        &self,
        topic: &TopicName,
        changes: impl IntoIterator<Item = (String, Option<String>)>,
    ) -> Result<(), Error> {
        self.change_configs(topic, changes, false).await
    }

    /// Checks whether [`Admin::alter_configs`] would take that, and changes nothing.
    ///
    /// # Errors
    /// As there.
    pub async fn check_configs(
        &self,
        topic: &TopicName,
        changes: impl IntoIterator<Item = (String, Option<String>)>,
    ) -> Result<(), Error> {
        self.change_configs(topic, changes, true).await
    }

    async fn change_configs(
        &self,
        topic: &TopicName,
        changes: impl IntoIterator<Item = (String, Option<String>)>,
        validate_only: bool,
    ) -> Result<(), Error> {
        let configs = changes.into_iter().map(|(name, value)| v1::ConfigValue { name, value });
        let change = v1::TopicConfigs { topic: topic.to_string(), configs: configs.collect() };
        let call = |channel, _: &[usize], timeout_ms| {
            let topics = vec![change.clone()];
            let request = v1::AlterConfigsRequest { topics, validate_only, timeout_ms };
            let call = async move {
                let answer = admin(channel).alter_configs(request).await?;
                Ok(answer.map(|a| a.results.into_iter().map(|result| result.error).collect()))
            };
            call.boxed()
        };
        let mut results = self.at_controller(1, call, |error, _| done(error)).await?;
        results.pop().unwrap_or_else(|| Err(Error::protocol(ANY, "no result for the topic")))
    }

    /// Describes topics, with partitions and configs.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn describe_topics(
        &self,
        topics: impl IntoIterator<Item = TopicName>,
    ) -> Result<PerItem<TopicName, TopicFacts>, Error> {
        let names = topics.into_iter().collect::<Vec<_>>();
        let topics = names.iter().map(TopicName::to_string).collect();
        let request = v1::DescribeTopicsRequest { topics, include_configs: true };
        let call = |channel| {
            let request = request.clone();
            async move { metadata(channel).describe_topics(request).await }
        };
        let answer = self.cluster.ask_any(self.cluster.request_timeout(), call).await?;
        let mut results = answer.results.into_iter();
        let results = names.into_iter().map(|name| {
            let result = results.next().and_then(|result| result.result);
            let facts = read_description(&name, result);
            (name, facts)
        });
        Ok(results.collect())
    }

    /// Describes one topic.
    ///
    /// # Errors
    /// When it does not exist, or no broker answers.
    pub async fn describe_topic(&self, topic: &TopicName) -> Result<TopicFacts, Error> {
        // A topic just created may be unknown to a broker that lags; this asks several.
        self.cluster.refresh(topic, None).await?;
        let mut backoff = Backoff::long();
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            let described = self.describe_topics([topic.clone()]).await?;
            let facts = described.into_iter().next().map(|(_, facts)| facts);
            match facts {
                Some(Err(Error::UnknownTopic { .. })) if Instant::now() < deadline => {}
                Some(facts) => return facts,
                None => return Err(Error::protocol(ANY, "no result for the topic")),
            }
            sleep(backoff.next()).await;
        }
    }

    /// Lists all topics, in the order of their names.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn list_topics(&self) -> Result<Vec<TopicSummary>, Error> {
        let mut topics = Vec::<TopicSummary>::new();
        loop {
            let after = topics.last().map_or_else(String::new, |topic| topic.name.to_string());
            let request = v1::ListTopicsRequest { after, max_topics: 0 };
            let call = |channel| {
                let request = request.clone();
                async move { metadata(channel).list_topics(request).await }
            };
            let page = self.cluster.ask_any(self.cluster.request_timeout(), call).await?;
            let more = page.more && !page.topics.is_empty();
            for topic in page.topics {
                topics.push(TopicSummary {
                    name: topic_name(ANY, &topic.name)?,
                    id: topic_id(ANY, &topic.id)?,
                    partitions: topic.partitions,
                    replication_factor: topic.replication_factor,
                });
            }
            if !more {
                return Ok(topics);
            }
        }
    }

    /// As [`Admin::at_controller`], for a call about one thing that any try may repeat.
    pub(super) async fn change<R>(
        &self,
        call: impl Fn(AdminServiceClient<Channel>, u32) -> Answer<R>,
    ) -> Result<R, Error>
    where
        R: Send + 'static,
    {
        let call = |channel, _: &[usize], timeout_ms| {
            let answer = call(admin(channel), timeout_ms);
            async move { Ok(answer.await?.map(|answer| vec![answer])) }.boxed()
        };
        let mut results = self.at_controller(1, call, |answer, _| Ok(answer)).await?;
        results.pop().unwrap_or_else(|| Err(Error::protocol(ANY, "no answer to the call")))
    }

    /// Sends items to one broker after the other, since any may forward, and where hints point. Items
    /// that failed for now are sent again. Never to two brokers at once: the slower one would find the
    /// change made, and refuse it.
    ///
    /// `read` is told whether an earlier try got no answer, so that the change may be made already.
    pub(super) async fn at_controller<R, T>(
        &self,
        items: usize,
        call: impl Fn(Channel, &[usize], u32) -> Answers<R>,
        read: impl Fn(R, bool) -> Result<T, Error>,
    ) -> Result<Vec<Result<T, Error>>, Error> {
        let deadline = Instant::now() + self.cluster.request_timeout();
        let mut backoff = Backoff::long();
        let mut results = (0..items).map(|_| None).collect::<Vec<Option<Result<T, Error>>>>();
        let mut addresses = self.cluster.addresses(None).into_iter().cycle();
        let (mut hint, mut in_doubt, mut failed) = (None, false, Vec::new());
        loop {
            let pending = (0..items).filter(|at| match &results[*at] {
                None => true,
                Some(Err(error)) => error.is_retriable(),
                Some(Ok(_)) => false,
            });
            let pending = pending.collect::<Vec<_>>();
            let left = deadline.saturating_duration_since(Instant::now()).min(TRY_TIMEOUT);
            let timeout_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1);
            let ask = |channel| call(channel, &pending, timeout_ms);
            let Some(address) = hint.take().or_else(|| addresses.next()) else { break };
            if pending.is_empty() {
                break;
            }
            let error = match self.cluster.ask(&address, left, ask).await {
                Ok(answers) => {
                    for (at, answer) in pending.iter().zip(answers) {
                        results[*at] = Some(read(answer, in_doubt));
                    }
                    let failed =
                        results.iter().filter_map(|result| result.as_ref()?.as_ref().err());
                    match failed.into_iter().find(|error| error.is_retriable()) {
                        Some(error) => error.clone(),
                        None => break,
                    }
                }
                Err(error) if error.is_retriable() => {
                    in_doubt |= !matches!(error, Error::Refused(_));
                    failed.retain(|(tried, _)| *tried != address);
                    failed.push((address, error.clone()));
                    error
                }
                Err(error) => return Err(error),
            };
            let pause = backoff.next();
            if Instant::now() + pause >= deadline {
                break;
            }
            hint = self.controller_hint(&error);
            sleep(pause).await;
        }
        if results.iter().all(Option::is_none) && !failed.is_empty() {
            return Err(one_of(failed));
        }
        let unasked = || Err(Error::protocol(ANY, "no answer for the item"));
        Ok(results.into_iter().map(|result| result.unwrap_or_else(unasked)).collect())
    }

    fn controller_hint(&self, error: &Error) -> Option<String> {
        let Error::Refused(refusal) = error else { return None };
        if refusal.kind() != Kind::Redirect {
            return None;
        }
        let hint = refusal.leader.as_ref()?;
        let known = hint.known_address().map(str::to_owned);
        known.or_else(|| self.cluster.metadata().broker_address(hint.broker()))
    }
}

fn metadata(channel: Channel) -> MetadataServiceClient<Channel> {
    MetadataServiceClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX)
}

fn is_there(error: &v1::Error) -> bool {
    error.error_code() == Ok(ErrorCode::TopicAlreadyExists)
}

fn is_gone(error: &v1::Error) -> bool {
    error.error_code() == Ok(ErrorCode::UnknownTopicOrPartition)
}

fn done(error: Option<v1::Error>) -> Result<(), Error> {
    error.map_or(Ok(()), |error| Err(BrokerError::new(ANY, error).into()))
}

fn wire_topic(topic: NewTopic) -> v1::NewTopic {
    let configs = topic.configs.into_iter();
    let configs = configs.map(|(name, value)| v1::ConfigValue { name, value: Some(value) });
    v1::NewTopic {
        name: topic.name.to_string(),
        partitions: topic.partitions.unwrap_or_default(),
        replication_factor: topic.replication_factor.unwrap_or_default(),
        configs: configs.collect(),
    }
}

fn read_description(
    topic: &TopicName,
    result: Option<v1::describe_topics_result::Result>,
) -> Result<TopicFacts, Error> {
    use v1::describe_topics_result::Result as Described;
    match result {
        Some(Described::Topic(topic)) => TopicFacts::read(ANY, topic),
        Some(Described::Error(error)) => {
            if is_gone(&error) {
                return Err(Error::UnknownTopic { topic: topic.clone() });
            }
            Err(BrokerError::new(ANY, error).into())
        }
        None => Err(Error::protocol(ANY, "no result for a topic")),
    }
}
