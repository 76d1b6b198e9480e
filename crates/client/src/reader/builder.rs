//! Sets a reader up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidelog_types::{Offset, PartitionId, TopicName, TopicPartition};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Position, ReadPosition, Reader, Until};
use crate::cluster::Cluster;
use crate::fetch::{Credit, FetchConfig, Fetcher, Source};
use crate::{Error, IntoTopicName};

/// How many bytes may have been sent and not yet read, unless told otherwise.
const BUFFER_BYTES: usize = 32 << 20;

/// Sets a [`Reader`] up.
#[derive(Debug)]
#[must_use]
pub struct ReaderBuilder {
    cluster: Arc<Cluster>,
    config: FetchConfig,
    buffer_bytes: usize,
    topics: Vec<(Result<TopicName, Error>, Option<PartitionId>, Position)>,
}

impl ReaderBuilder {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        let config = FetchConfig::default();
        Self { cluster, config, buffer_bytes: BUFFER_BYTES, topics: Vec::new() }
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
        self.buffer_bytes = bytes;
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
        let Self { cluster, config, buffer_bytes, topics } = self;
        let mut starts = BTreeMap::new();
        for (topic, partition, start) in topics {
            let topic = topic?;
            if let Some(partition) = partition {
                let name = TopicPartition { topic, partition };
                let facts = cluster.topic_of(&name).await?;
                starts.insert(name, (start, facts.id));
                continue;
            }
            let facts = cluster.topic(&topic).await?;
            for partition in (0..facts.partitions).map(PartitionId) {
                let name = TopicPartition { topic: topic.clone(), partition };
                starts.insert(name, (start, facts.id.clone()));
            }
        }
        let credit = Credit::share(buffer_bytes, starts.len());
        let source = Arc::new(Source::new(cluster, config));
        let (chunks_to, chunks) = mpsc::unbounded_channel();
        let mut fetchers = JoinSet::new();
        let mut positions = BTreeMap::new();
        for (name, (start, topic_id)) in starts {
            let high_watermark = Offset::ZERO;
            let position = ReadPosition { partition: name.clone(), next: None, high_watermark };
            positions.insert(name.clone(), position);
            let (source, credit, chunks) = (Arc::clone(&source), credit.clone(), chunks_to.clone());
            let fetcher = Fetcher::new(source, name, topic_id, start, credit, chunks);
            fetchers.spawn(fetcher.run());
        }
        let current = Vec::new().into_iter();
        Ok(Reader { chunks, current, reading: None, positions, _fetchers: fetchers })
    }
}
