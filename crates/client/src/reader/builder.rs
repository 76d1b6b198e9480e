//! Sets a reader up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidelog_types::{Offset, PartitionId, TopicName, TopicPartition};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::fetcher::{Connections, Fetcher};
use super::{Position, ReadPosition, Reader, Shared, Until};
use crate::cluster::Cluster;
use crate::{Error, IntoTopicName};

/// Bounds of the credit of one partition.
const CREDIT_BYTES_MIN: usize = 64 << 10;
const CREDIT_BYTES_MAX: usize = 8 << 20;

#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) until: Until,
    pub(super) buffer_bytes: usize,
    pub(super) max_wait: Duration,
    pub(super) min_bytes: u32,
    pub(super) max_bytes: u32,
    pub(super) unavailable_timeout: Duration,
    pub(super) inflate_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            until: Until::Never,
            buffer_bytes: 32 << 20,
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: 1 << 20,
            unavailable_timeout: Duration::from_secs(60),
            inflate_bytes_max: 64 << 20,
        }
    }
}

/// Sets a [`Reader`] up.
#[derive(Debug)]
#[must_use]
pub struct ReaderBuilder {
    cluster: Arc<Cluster>,
    config: Config,
    topics: Vec<(Result<TopicName, Error>, Option<PartitionId>, Position)>,
}

impl ReaderBuilder {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, config: Config::default(), topics: Vec::new() }
    }

    /// Reads all partitions of `topic` from `start` on.
    pub fn topic(mut self, topic: impl IntoTopicName, start: Position) -> Self {
        self.topics.push((topic.into_topic_name().map_err(Error::from), None, start));
        self
    }

    /// Reads one partition of `topic` from `start` on. Where a partition is named twice, the last
    /// position holds.
    pub fn partition(
        mut self,
        topic: impl IntoTopicName,
        partition: PartitionId,
        start: Position,
    ) -> Self {
        self.topics.push((topic.into_topic_name().map_err(Error::from), Some(partition), start));
        self
    }

    /// Where to stop. Default: nowhere.
    pub fn until(mut self, until: Until) -> Self {
        self.config.until = until;
        self
    }

    /// How many bytes may have been sent and not yet read, of all partitions together. Default 32 MiB;
    /// a partition gets at least 64 KiB of it. Too small costs throughput, too large memory.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.config.buffer_bytes = bytes;
        self
    }

    /// How many bytes a broker collects before it sends, unless 500 ms pass. Default 1: at once.
    /// Larger saves work where latency does not matter. At most 1 MiB.
    pub fn min_bytes(mut self, bytes: u32) -> Self {
        self.config.min_bytes = bytes.min(1 << 20);
        self
    }

    /// How long a partition may be without a leader before that is an error. Default 60 s.
    pub fn unavailable_timeout(mut self, within: Duration) -> Self {
        self.config.unavailable_timeout = within;
        self
    }

    /// The largest size that a compressed batch may inflate to. Default 64 MiB.
    pub fn inflate_bytes_max(mut self, bytes: usize) -> Self {
        self.config.inflate_bytes_max = bytes;
        self
    }

    /// Looks the topics up and begins to read.
    ///
    /// Cancel safe: nothing is left behind.
    ///
    /// # Errors
    /// When a topic or partition does not exist, or no broker answers.
    pub async fn build(self) -> Result<Reader, Error> {
        let Self { cluster, config, topics } = self;
        let mut starts = BTreeMap::new();
        for (topic, partition, start) in topics {
            let topic = topic?;
            let facts = cluster.topic(&topic).await?;
            let partitions = facts.partitions;
            let named = match partition {
                Some(partition) if partition.0 >= partitions => {
                    return Err(Error::UnknownPartition { topic, partition, partitions });
                }
                Some(partition) => partition.0..partition.0 + 1,
                None => 0..partitions,
            };
            for partition in named.map(PartitionId) {
                let name = TopicPartition { topic: topic.clone(), partition };
                starts.insert(name, (start, facts.id.clone()));
            }
        }
        let share = config.buffer_bytes / starts.len().max(1);
        let credit = share.clamp(CREDIT_BYTES_MIN, CREDIT_BYTES_MAX) as u64;
        let shared = Arc::new(Shared { cluster, config, connections: Connections::default() });
        let (chunks_to, chunks) = mpsc::unbounded_channel();
        let mut fetchers = JoinSet::new();
        let mut positions = BTreeMap::new();
        for (name, (start, topic_id)) in starts {
            let high_watermark = Offset::ZERO;
            let position = ReadPosition { partition: name.clone(), next: None, high_watermark };
            positions.insert(name.clone(), position);
            let shared = Arc::clone(&shared);
            let fetcher = Fetcher::new(shared, name, topic_id, start, credit, chunks_to.clone());
            fetchers.spawn(fetcher.run());
        }
        let current = Vec::new().into_iter();
        Ok(Reader { chunks, current, reading: None, positions, _fetchers: fetchers })
    }
}
