//! Looks topics up.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use tidelog_client::admin::{
    Admin, ConfigFacts, ConfigSource, OffsetAt, PartitionFacts, TopicFacts,
};
use tidelog_client::{BrokerId, Client, Error};
use tidelog_types::{Offset, PartitionId, TopicName, TopicPartition};
use tokio::time::timeout;

use super::view::{ConfigView, PartitionView, TopicView};
use crate::Failure;

/// How long the leaders on one broker are asked for offsets. What they do not tell is left out: a
/// description must not wait for a partition that is down.
const OFFSETS_TIMEOUT: Duration = Duration::from_secs(2);

/// What is known about topics, one result per name.
pub(crate) type Described = Vec<(TopicName, Result<TopicView, Failure>)>;

/// All topics if no name is given, without their offsets.
pub(crate) async fn describe(client: &Client, names: &[TopicName]) -> Result<Described, Failure> {
    let admin = client.admin();
    // One name is asked for at several brokers: it may be new, and unknown to one that lags.
    if let [name] = names {
        let topic = admin.describe_topic(name).await;
        return Ok(vec![(name.clone(), topic.map(TopicView::from).map_err(Failure::from))]);
    }
    let names = match names {
        [] => admin.list_topics().await?.into_iter().map(|topic| topic.name).collect(),
        names => names.to_vec(),
    };
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let described = admin.describe_topics(names).await?.into_iter();
    let view = |topic: Result<TopicFacts, _>| topic.map(TopicView::from).map_err(Failure::from);
    Ok(described.map(|(name, topic)| (name, view(topic))).collect())
}

/// The same with the offsets that leaders tell.
pub(crate) async fn describe_with_offsets(
    client: &Client,
    names: &[TopicName],
) -> Result<Described, Failure> {
    let mut described = describe(client, names).await?;
    let mut by_leader: BTreeMap<u32, Vec<TopicPartition>> = BTreeMap::new();
    for (name, topic) in &described {
        for partition in topic.iter().flat_map(|topic| &topic.partitions) {
            if let Some(leader) = partition.leader {
                by_leader.entry(leader).or_default().push(partition.named(name));
            }
        }
    }
    let admin = client.admin();
    let (earliest, latest) = tokio::join!(
        offsets(&admin, &by_leader, OffsetAt::Earliest),
        offsets(&admin, &by_leader, OffsetAt::Latest),
    );
    for (name, topic) in &mut described {
        for partition in topic.iter_mut().flat_map(|topic| &mut topic.partitions) {
            let name = partition.named(name);
            partition.log_start = earliest.get(&name).map(|offset| offset.0);
            partition.high_watermark = latest.get(&name).map(|offset| offset.0);
        }
    }
    Ok(described)
}

/// The offsets that are told in time.
async fn offsets(
    admin: &Admin,
    by_leader: &BTreeMap<u32, Vec<TopicPartition>>,
    at: OffsetAt,
) -> BTreeMap<TopicPartition, Offset> {
    let ask = |partitions: &Vec<TopicPartition>| {
        let items: Vec<_> = partitions.iter().map(|partition| (partition.clone(), at)).collect();
        timeout(OFFSETS_TIMEOUT, admin.list_offsets(items))
    };
    // A partition without an answer is shown without offsets; the reason is its leader's health.
    let told = join_all(by_leader.values().map(ask)).await.into_iter().flatten().flatten();
    told.filter_map(|(name, listed)| Some((name, listed.ok()?.offset))).collect()
}

/// How many partitions the topic has.
pub(crate) async fn partition_count(client: &Client, topic: &TopicName) -> Result<u32, Failure> {
    let described = client.admin().describe_topic(topic).await?;
    Ok(u32::try_from(described.partitions.len()).unwrap_or(u32::MAX))
}

/// The failure of a command on a partition that its topic, with `partitions` of them, does not have.
pub(crate) fn unknown_partition(name: &TopicPartition, partitions: u32) -> Failure {
    let TopicPartition { topic, partition } = name.clone();
    Error::UnknownPartition { topic, partition, partitions }.into()
}

impl PartitionView {
    pub(crate) fn named(&self, topic: &TopicName) -> TopicPartition {
        TopicPartition { topic: topic.clone(), partition: PartitionId(self.partition) }
    }
}

impl From<TopicFacts> for TopicView {
    fn from(topic: TopicFacts) -> Self {
        Self {
            name: topic.name.to_string(),
            id: topic.id.to_string(),
            created_ms: topic.created.0,
            replication_factor: topic.replication_factor(),
            partitions: topic.partitions.into_iter().map(PartitionView::from).collect(),
            configs: topic.configs.into_iter().map(ConfigView::from).collect(),
        }
    }
}

impl From<PartitionFacts> for PartitionView {
    fn from(partition: PartitionFacts) -> Self {
        let ids = |brokers: Vec<BrokerId>| brokers.into_iter().map(|broker| broker.0).collect();
        Self {
            partition: partition.partition.0,
            leader: partition.leader.as_ref().map(|leader| leader.broker.0),
            leader_epoch: partition.leader.map(|leader| leader.epoch),
            replicas: ids(partition.replicas),
            live_replicas: ids(partition.alive_replicas),
            joining: ids(partition.joining_replicas),
            leaving: ids(partition.leaving_replicas),
            log_start: None,
            high_watermark: None,
        }
    }
}

impl From<ConfigFacts> for ConfigView {
    fn from(config: ConfigFacts) -> Self {
        let source = match config.source {
            ConfigSource::Default => "default",
            ConfigSource::Cluster => "cluster",
            ConfigSource::Topic => "topic",
            _ => "unknown",
        };
        Self { key: config.name, value: config.value, source }
    }
}
