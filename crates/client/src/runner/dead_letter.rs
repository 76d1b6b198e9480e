//! Records that cannot be handled, put aside.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_types::{ErrorCode, TopicName};
use tokio::time::sleep;
use tracing::warn;

use super::RunError;
use super::attempts::Death;
use crate::admin::NewTopic;
use crate::{Admin, Error, ProduceError, Producer, ReadRecord, Record};

/// Header of a dead letter: the topic that the record comes from.
pub const DEAD_LETTER_TOPIC: &str = "dlq.original.topic";
/// Header of a dead letter: the partition that the record comes from, in digits.
pub const DEAD_LETTER_PARTITION: &str = "dlq.original.partition";
/// Header of a dead letter: the record's offset there, in digits.
pub const DEAD_LETTER_OFFSET: &str = "dlq.original.offset";
/// Header of a dead letter: what the handler said last; at most 1,000 bytes.
pub const DEAD_LETTER_ERROR: &str = "dlq.error";
/// Header of a dead letter: how often the handler was called for it, in digits.
pub const DEAD_LETTER_ATTEMPTS: &str = "dlq.attempts";
/// Header of a dead letter: when the handler failed first, in milliseconds since the Unix epoch.
pub const DEAD_LETTER_FIRST_FAILURE: &str = "dlq.first.failure.ms";

/// How much of an error is kept.
const ERROR_BYTES_MAX: usize = 1_000;
/// Before a dead letter is sent again that could not be written.
const PAUSE: Duration = Duration::from_secs(1);

/// Where records go that cannot be handled.
///
/// ```
/// use tidelog_client::{DeadLetters, TopicName};
///
/// let beside = DeadLetters::suffix(".dlq");
/// let together = DeadLetters::topic(TopicName::new("dead-letters")?).must_exist();
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct DeadLetters {
    place: Place,
    create: bool,
    partitions: Option<u32>,
    configs: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
enum Place {
    Suffix(String),
    Topic(TopicName),
    Nowhere,
}

impl DeadLetters {
    fn new(place: Place) -> Self {
        Self { place, create: true, partitions: None, configs: BTreeMap::new() }
    }

    /// To a topic per topic, named after it with a suffix.
    #[must_use]
    pub fn suffix(suffix: impl Into<String>) -> Self {
        Self::new(Place::Suffix(suffix.into()))
    }

    /// To one topic.
    #[must_use]
    pub fn topic(topic: TopicName) -> Self {
        Self::new(Place::Topic(topic))
    }

    /// Nowhere: the first such record stops the runner, with [`RunError::Dead`].
    #[must_use]
    pub fn nowhere() -> Self {
        Self::new(Place::Nowhere)
    }

    /// Starts only when the topics exist. Default: those that do not are created.
    #[must_use]
    pub fn must_exist(mut self) -> Self {
        self.create = false;
        self
    }

    /// With how many partitions topics are created. Default: the cluster's.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// With which configs topics are created.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }

    /// The topic for records of `topic`.
    fn target(&self, topic: &TopicName) -> Result<Option<TopicName>, Error> {
        match &self.place {
            Place::Suffix(suffix) => Ok(Some(TopicName::new(&format!("{topic}{suffix}"))?)),
            Place::Topic(topic) => Ok(Some(topic.clone())),
            Place::Nowhere => Ok(None),
        }
    }

    /// Makes sure that there is a place for records of `topics`.
    pub(super) async fn prepare(
        &self,
        admin: &Admin,
        topics: &[TopicName],
    ) -> Result<BTreeMap<TopicName, TopicName>, Error> {
        let mut targets = BTreeMap::new();
        for topic in topics {
            let Some(target) = self.target(topic)? else { continue };
            match admin.describe_topic(&target).await {
                Ok(_) => {}
                Err(Error::UnknownTopic { .. }) if self.create => {
                    self.create(admin, &target).await?;
                }
                Err(error) => return Err(error),
            }
            targets.insert(topic.clone(), target);
        }
        Ok(targets)
    }

    async fn create(&self, admin: &Admin, topic: &TopicName) -> Result<(), Error> {
        let mut new = NewTopic::new(topic.clone());
        (new.partitions, new.configs) = (self.partitions, self.configs.clone());
        match admin.create_topics([new]).await?.pop() {
            // Another process of the group was faster.
            Some((_, Err(error))) if error.code() == Some(ErrorCode::TopicAlreadyExists) => Ok(()),
            Some((_, created)) => created.map(drop),
            None => Ok(()),
        }
    }
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self::suffix(".dlq")
    }
}

/// Writes records to where they are put aside.
#[derive(Debug)]
pub(super) struct Morgue {
    pub(super) producer: Producer,
    pub(super) targets: BTreeMap<TopicName, TopicName>,
}

impl Morgue {
    /// Puts a record aside, and tries for as long as that may help: until it is there it is not done.
    pub(super) async fn admit(&self, record: &ReadRecord, death: &Death) -> Result<(), RunError> {
        let Some(target) = self.targets.get(&record.topic) else {
            return Err(RunError::Dead {
                topic: record.topic.clone(),
                partition: record.partition,
                offset: record.offset,
                reason: death.error.to_string(),
            });
        };
        loop {
            match self.producer.send(letter(target, record, death)).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_retriable() => {
                    warn!(topic = %target, err = %error, "dead letter could not be written");
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(failed(target, error)),
            }
        }
    }
}

fn failed(topic: &TopicName, source: ProduceError) -> RunError {
    RunError::DeadLetter { topic: topic.clone(), source }
}

/// The record as it was, with where it comes from and why it is here.
fn letter(target: &TopicName, record: &ReadRecord, death: &Death) -> Record {
    let mut letter = Record::to(target).timestamp(record.timestamp);
    if let Some(key) = &record.key {
        letter = letter.key(key.clone());
    }
    if let Some(value) = &record.value {
        letter = letter.value(value.clone());
    }
    for header in &record.headers {
        letter = match &header.value {
            Some(value) => letter.header(header.name.clone(), value.clone()),
            None => letter.null_header(header.name.clone()),
        };
    }
    let mut error = death.error.to_string();
    let cut = (0..=ERROR_BYTES_MAX.min(error.len())).rev().find(|at| error.is_char_boundary(*at));
    error.truncate(cut.unwrap_or_default());
    letter
        .header(DEAD_LETTER_TOPIC, record.topic.to_string())
        .header(DEAD_LETTER_PARTITION, record.partition.to_string())
        .header(DEAD_LETTER_OFFSET, record.offset.to_string())
        .header(DEAD_LETTER_ERROR, error)
        .header(DEAD_LETTER_ATTEMPTS, death.attempts.to_string())
        .header(DEAD_LETTER_FIRST_FAILURE, death.first_failure.to_string())
}
