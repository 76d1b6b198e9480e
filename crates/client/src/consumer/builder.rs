//! Sets a consumer up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidelog_types::{InstanceId, TopicName};
use tokio::sync::{mpsc, oneshot};

use super::core::Core;
use super::{Consumer, RebalanceListener, StartPolicy, membership};
use crate::cluster::Cluster;
use crate::fetch::FetchConfig;
use crate::group::{Calls, group_name};
use crate::settings::{millis, number, refuse, size};
use crate::{Error, IntoTopicName};

/// Bounds that the coordinator sets for timeouts.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(1_800);

#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) topics: Vec<TopicName>,
    pub(super) pattern: Option<String>,
    pub(super) start: StartPolicy,
    pub(super) instance_id: Option<InstanceId>,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) auto_commit: Option<Duration>,
    pub(super) buffer_bytes: usize,
    pub(super) processing_deadline: Option<Duration>,
    pub(super) fetch: FetchConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            topics: Vec::new(),
            pattern: None,
            start: StartPolicy::Error,
            instance_id: None,
            session_timeout: Duration::from_secs(10),
            rebalance_timeout: Duration::from_secs(60),
            auto_commit: Some(Duration::from_secs(5)),
            buffer_bytes: 32 << 20,
            processing_deadline: None,
            fetch: FetchConfig::default(),
        }
    }
}

/// Listens to nothing.
struct Deaf;

impl RebalanceListener for Deaf {}

/// Sets a [`Consumer`] up.
#[must_use]
pub struct ConsumerBuilder {
    cluster: Arc<Cluster>,
    group: String,
    config: Config,
    start: Option<StartPolicy>,
    listener: Arc<dyn RebalanceListener>,
    refused: Option<Error>,
}

impl ConsumerBuilder {
    pub(crate) fn new(cluster: Arc<Cluster>, group: String) -> Self {
        let (config, listener) = (Config::default(), Arc::new(Deaf));
        Self { cluster, group, config, start: None, listener, refused: None }
    }

    /// Subscribes to topics, besides those named before. They need not exist yet.
    pub fn topics<T: IntoTopicName>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        for topic in topics {
            match topic.into_topic_name() {
                Ok(topic) => self.config.topics.push(topic),
                Err(error) => drop(self.refused.get_or_insert(error.into())),
            }
        }
        self
    }

    /// Subscribes to all topics whose whole name matches `pattern`, a regular expression in the syntax
    /// of RE2; also to those that are created later.
    pub fn topic_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.config.pattern = Some(pattern.into());
        self
    }

    /// Where the group begins with partitions that it has committed nothing for. Required.
    pub fn start(mut self, start: StartPolicy) -> Self {
        self.start = Some(start);
        self
    }

    /// Makes the consumer a static member: one that joins under the same id takes its partitions over,
    /// so that a restart within the session timeout moves none. It does not leave the group when it is
    /// closed. Default: dynamic.
    pub fn instance_id(mut self, id: &str) -> Self {
        match InstanceId::new(id) {
            Ok(id) => self.config.instance_id = Some(id),
            Err(error) => {
                let error = refuse("group.instance.id", id, error.to_string());
                self.refused.get_or_insert(error);
            }
        }
        self
    }

    /// Without a sign of life for so long the consumer loses its partitions. Default 10 s, 1 s to
    /// 30 min. Too small takes a hiccup for death; too large keeps partitions waiting after a crash.
    pub fn session_timeout(mut self, within: Duration) -> Self {
        self.config.session_timeout = within;
        self
    }

    /// How long giving partitions up may take, [`RebalanceListener::revoked`] included. Default 60 s,
    /// 1 s to 30 min. Too small loses partitions in the middle of work; too large lets one slow
    /// consumer keep others waiting.
    pub fn rebalance_timeout(mut self, within: Duration) -> Self {
        self.config.rebalance_timeout = within;
        self
    }

    /// How often the marked records are committed. Default 5 s. Smaller repeats less after a crash and
    /// costs a write each time.
    pub fn auto_commit(mut self, every: Duration) -> Self {
        self.config.auto_commit = Some(every);
        self
    }

    /// Commits only when told, and what is marked when partitions are given up.
    pub fn manual_commit(mut self) -> Self {
        self.config.auto_commit = None;
        self
    }

    /// How many bytes may have been sent and not yet handed out, of all partitions together. Default
    /// 32 MiB; a partition gets at least 64 KiB of it. Too small costs throughput, too large memory.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.config.buffer_bytes = bytes;
        self
    }

    /// Leaves the group when records were handed out and for so long none of them was marked: for
    /// applications that hang rather than die. Only for those that mark. Default `None`: as long as the
    /// process lives it may take its time.
    pub fn processing_deadline(mut self, within: Option<Duration>) -> Self {
        self.config.processing_deadline = within;
        self
    }

    /// Who is told when partitions come and go. Default: nobody.
    pub fn listener(mut self, listener: impl RebalanceListener) -> Self {
        self.listener = Arc::new(listener);
        self
    }

    /// How long a partition may be without a leader, or the group without a coordinator, before that is
    /// told as an error. The consumer goes on trying all the same. Default 60 s.
    pub fn unavailable_timeout(mut self, within: Duration) -> Self {
        self.config.fetch.unavailable_timeout = within;
        self
    }

    /// The largest size that a compressed batch may inflate to. Default 64 MiB.
    pub fn inflate_bytes_max(mut self, bytes: usize) -> Self {
        self.config.fetch.inflate_bytes_max = bytes;
        self
    }

    /// Sets by Kafka's name: `group.id`, `group.instance.id`, `session.timeout.ms`,
    /// `rebalance.timeout.ms`, `enable.auto.commit`, `auto.commit.interval.ms`, `auto.offset.reset`
    /// (`earliest`, `latest`, `none`), `max.poll.interval.ms` (the processing deadline),
    /// `fetch.max.bytes` (the buffer), `fetch.min.bytes`. What is wrong with it is told by
    /// [`ConsumerBuilder::build`].
    pub fn set(mut self, key: &str, value: &str) -> Self {
        if key == "group.instance.id" {
            return self.instance_id(value);
        }
        if let Err(error) = self.try_set(key, value) {
            self.refused.get_or_insert(error);
        }
        self
    }

    fn try_set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let config = &mut self.config;
        let every = config.auto_commit.unwrap_or(Duration::from_secs(5));
        match (key, value) {
            ("group.id", _) => self.group = value.to_owned(),
            ("session.timeout.ms", _) => config.session_timeout = millis(key, value)?,
            ("rebalance.timeout.ms", _) => config.rebalance_timeout = millis(key, value)?,
            ("enable.auto.commit", "true") => config.auto_commit = Some(every),
            ("enable.auto.commit", "false") => config.auto_commit = None,
            ("enable.auto.commit", _) => return Err(refuse(key, value, "must be true or false")),
            ("auto.commit.interval.ms", _) => config.auto_commit = Some(millis(key, value)?),
            ("auto.offset.reset", "earliest") => self.start = Some(StartPolicy::Earliest),
            ("auto.offset.reset", "latest") => self.start = Some(StartPolicy::Latest),
            ("auto.offset.reset", "none") => self.start = Some(StartPolicy::Error),
            ("auto.offset.reset", _) => {
                return Err(refuse(key, value, "must be earliest, latest or none"));
            }
            ("max.poll.interval.ms", _) => config.processing_deadline = Some(millis(key, value)?),
            ("fetch.max.bytes", _) => config.buffer_bytes = size(key, value)?,
            ("fetch.min.bytes", _) => {
                config.fetch.min_bytes = number(key, value)?.min(1 << 20) as u32;
            }
            _ => return Err(refuse(key, value, "is not a setting of a consumer")),
        }
        Ok(())
    }

    /// How long a listener may wait for work in progress when partitions are revoked.
    pub(crate) fn drain_timeout(&self) -> Duration {
        self.config.rebalance_timeout / 2
    }

    /// Checks the settings; gives the start policy.
    pub(crate) fn check(&self) -> Result<StartPolicy, Error> {
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        if self.config.topics.is_empty() && self.config.pattern.is_none() {
            return Err(refuse("topics", "", "name a topic, or give a pattern"));
        }
        let bounded = |key: &str, timeout: Duration| {
            if (TIMEOUT_MIN..=TIMEOUT_MAX).contains(&timeout) {
                return Ok(());
            }
            Err(refuse(key, &timeout.as_millis().to_string(), "must be 1000 to 1800000"))
        };
        bounded("session.timeout.ms", self.config.session_timeout)?;
        bounded("rebalance.timeout.ms", self.config.rebalance_timeout)?;
        let positive = |key: &str, period: Option<Duration>| match period {
            Some(Duration::ZERO) => Err(refuse(key, "0", "must be above 0")),
            _ => Ok(()),
        };
        positive("auto.commit.interval.ms", self.config.auto_commit)?;
        positive("max.poll.interval.ms", self.config.processing_deadline)?;
        self.start.ok_or_else(|| {
            let reason = "is required: say where a group begins that has committed nothing";
            refuse("auto.offset.reset", "", reason)
        })
    }

    /// Checks the settings, and begins to join the group in the background.
    ///
    /// Cancel safe: nothing is left behind.
    ///
    /// # Errors
    /// [`Error::Setting`] when a setting is missing or refused. What is wrong with the group is told by
    /// [`Consumer::recv`].
    pub async fn build(self) -> Result<Consumer, Error> {
        let start = self.check()?;
        let Self { cluster, group, config, listener, .. } = self;
        let config = Config { start, ..config };
        let calls = Calls::new(Arc::clone(&cluster), group_name(&group)?);
        let (events_to, events) = mpsc::unbounded_channel();
        let core = Arc::new(Core::new(cluster, config, calls, listener, events_to));
        let (close, closing) = oneshot::channel();
        tokio::spawn(membership::run(Arc::clone(&core), closing));
        Ok(Consumer::new(core, events, close))
    }
}

impl fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("group", &self.group)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
