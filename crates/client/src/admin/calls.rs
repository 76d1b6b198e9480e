//! Offsets, leaders, Raft groups, cluster and health.

use std::time::Duration;

use futures_util::FutureExt;
use tidelog_proto::v1;
use tidelog_proto::v1::OffsetBound;
use tidelog_proto::v1::log_service_client::LogServiceClient;
use tidelog_types::{BrokerId, Timestamp, TopicPartition};
use tonic::transport::Channel;

use super::facts::offset;
use super::{
    Admin, Answers, ClusterFacts, Health, LeaderFacts, ListedOffset, OffsetAt, PerItem, RaftFacts,
    ScrubFacts, admin,
};
use crate::Error;
use crate::cluster::RESPONSE_BYTES_MAX;
use crate::error::BrokerError;

type DescribedRaft = Option<v1::describe_partition_raft_result::Result>;

impl Admin {
    /// Looks offsets up, each at its partition's leader.
    pub async fn list_offsets(
        &self,
        items: impl IntoIterator<Item = (TopicPartition, OffsetAt)>,
    ) -> PerItem<TopicPartition, ListedOffset> {
        self.look_up(items.into_iter().collect(), self.cluster.request_timeout()).await
    }

    /// As [`Admin::list_offsets`], for at most about `within`.
    pub(crate) async fn look_up(
        &self,
        items: Vec<(TopicPartition, OffsetAt)>,
        within: Duration,
    ) -> PerItem<TopicPartition, ListedOffset> {
        use v1::list_offsets_result::Result as Listed;
        let (partitions, at): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        let call = |channel, items: &[usize]| {
            let items = items.iter().map(|item| v1::ListOffsetsItem {
                topic: partitions[*item].topic.to_string(),
                partition: partitions[*item].partition.0,
                spec: Some(match at[*item] {
                    OffsetAt::Earliest => OffsetBound::Earliest.into(),
                    OffsetAt::Latest => OffsetBound::Latest.into(),
                    OffsetAt::Timestamp(time) => time.into(),
                    OffsetAt::Offset(offset) => offset.into(),
                }),
            });
            let request = v1::ListOffsetsRequest { items: items.collect() };
            let call = async move {
                let client = LogServiceClient::new(channel);
                let mut client = client.max_decoding_message_size(RESPONSE_BYTES_MAX);
                let answer = client.list_offsets(request).await?;
                Ok(answer.map(|a| a.results.into_iter().map(|result| result.result).collect()))
            };
            call.boxed()
        };
        let read = |address: &str, result| match result {
            Some(Listed::Found(found)) => {
                let found: v1::ListedOffset = found;
                Ok(ListedOffset {
                    offset: offset(address, found.offset)?,
                    timestamp: (found.time_ms >= 0).then_some(Timestamp(found.time_ms)),
                })
            }
            Some(Listed::Error(error)) => Err(refused(address, error)),
            None => Err(Error::protocol(address, "no result for an item")),
        };
        let results = self.by_leader(&partitions, within, call, read).await;
        partitions.into_iter().zip(results).collect()
    }

    /// Hands leadership of partitions over: to the given broker, or to a live one of the leader's
    /// choice. Gives the leader after it.
    pub async fn transfer_leaders(
        &self,
        items: impl IntoIterator<Item = (TopicPartition, Option<BrokerId>)>,
    ) -> PerItem<TopicPartition, LeaderFacts> {
        use v1::transfer_leader_result::Result as Transferred;
        let (partitions, to): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        let within = self.cluster.request_timeout();
        let call = |channel, items: &[usize]| {
            let wanted = items.iter().map(|item| v1::TransferLeaderItem {
                topic: partitions[*item].topic.to_string(),
                partition: partitions[*item].partition.0,
                to_broker_id: to[*item].map(|broker| broker.0),
            });
            let timeout_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX).min(60_000);
            let request = v1::TransferLeaderRequest { items: wanted.collect(), timeout_ms };
            let call = async move {
                let answer = admin(channel).transfer_leader(request).await?;
                Ok(answer.map(|a| a.results.into_iter().map(|result| result.result).collect()))
            };
            call.boxed()
        };
        let read = |address: &str, result| match result {
            Some(Transferred::Leader(hint)) => Ok(hint),
            Some(Transferred::Error(error)) => Err(refused(address, error)),
            None => Err(Error::protocol(address, "no result for an item")),
        };
        let results = self.by_leader(&partitions, within, call, read).await;
        let results = partitions.into_iter().zip(results).map(|(partition, leader)| {
            if let Ok(hint) = &leader {
                self.cluster.metadata().learn_leader(&partition, v1::LeaderHint::clone(hint));
            }
            (partition, leader.map(LeaderFacts::from))
        });
        results.collect()
    }

    /// Shows the Raft groups of partitions, as their leaders see them.
    pub async fn describe_rafts(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> PerItem<TopicPartition, RaftFacts> {
        let partitions = partitions.into_iter().collect::<Vec<_>>();
        let call = |channel, items: &[usize]| {
            let asked = items.iter().map(|item| v1::TopicPartition::from(&partitions[*item]));
            describe_rafts(channel, asked.collect())
        };
        let within = self.cluster.request_timeout();
        let results = self.by_leader(&partitions, within, call, read_raft).await;
        partitions.into_iter().zip(results).collect()
    }

    /// Shows the Raft groups of partitions as the broker at `address` sees them: a leader knows how far
    /// each replica is, another replica speaks for itself.
    ///
    /// # Errors
    /// When that broker does not answer.
    pub async fn describe_rafts_at(
        &self,
        address: &str,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<PerItem<TopicPartition, RaftFacts>, Error> {
        let partitions = partitions.into_iter().collect::<Vec<_>>();
        let asked = partitions.iter().map(v1::TopicPartition::from).collect();
        let ask = |channel| describe_rafts(channel, asked);
        let answers = self.cluster.ask(address, self.cluster.request_timeout(), ask).await?;
        let answers = answers.into_iter().map(|answer| read_raft(address, answer));
        Ok(partitions.into_iter().zip(answers).collect())
    }

    /// Has the broker at `address` read all of its replica of a partition again, at most
    /// `bytes_per_second` (0: as fast as it can), and mend what is damaged. Takes as long as that takes,
    /// `within` at most.
    ///
    /// # Errors
    /// When that broker does not answer, or hosts no replica that takes part in its group.
    pub async fn scrub_at(
        &self,
        address: &str,
        partition: &TopicPartition,
        bytes_per_second: u64,
        within: Duration,
    ) -> Result<ScrubFacts, Error> {
        let partition = Some(v1::TopicPartition::from(partition));
        let request = v1::ScrubPartitionRequest { partition, bytes_per_second };
        let ask = |channel| async move { admin(channel).scrub_partition(request).await };
        self.cluster.ask(address, within, ask).await.map(ScrubFacts::from)
    }

    /// Describes the cluster, as whichever broker answers first sees it.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn cluster(&self) -> Result<ClusterFacts, Error> {
        self.cluster.describe(self.cluster.request_timeout()).await.map(ClusterFacts::from)
    }

    /// Tells whether the cluster is well, as whichever broker answers first sees it.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn health(&self) -> Result<Health, Error> {
        let ask = |channel| async move {
            admin(channel).cluster_health(v1::ClusterHealthRequest {}).await
        };
        let answer = self.cluster.ask_any(self.cluster.request_timeout(), ask).await?;
        Health::read("any", answer)
    }

    /// Shows the configuration that the broker at `address` runs with, in TOML; secrets are hidden.
    ///
    /// # Errors
    /// When that broker does not answer, or is of a version that does not know the call.
    pub async fn configuration_at(&self, address: &str) -> Result<String, Error> {
        let request = v1::DescribeConfigurationRequest {};
        let ask = |channel| async move { admin(channel).describe_configuration(request).await };
        let answer = self.cluster.ask(address, self.cluster.request_timeout(), ask).await?;
        Ok(answer.toml)
    }

    /// Changes what the broker at `address` logs, until it stops. Gives what it logged before.
    ///
    /// # Errors
    /// When the filter is malformed, or that broker does not answer.
    pub async fn set_log_level(&self, address: &str, filter: &str) -> Result<String, Error> {
        let request = v1::SetLogLevelRequest { filter: filter.to_owned() };
        let ask = |channel| async move { admin(channel).set_log_level(request).await };
        let answer = self.cluster.ask(address, self.cluster.request_timeout(), ask).await?;
        Ok(answer.previous_filter)
    }
}

fn describe_rafts(channel: Channel, partitions: Vec<v1::TopicPartition>) -> Answers<DescribedRaft> {
    let request = v1::DescribePartitionRaftRequest { partitions };
    let call = async move {
        let answer = admin(channel).describe_partition_raft(request).await?;
        Ok(answer.map(|a| a.results.into_iter().map(|result| result.result).collect()))
    };
    call.boxed()
}

fn read_raft(address: &str, result: DescribedRaft) -> Result<RaftFacts, Error> {
    use v1::describe_partition_raft_result::Result as Described;
    match result {
        Some(Described::Raft(raft)) => RaftFacts::read(address, raft),
        Some(Described::Error(error)) => Err(refused(address, error)),
        None => Err(Error::protocol(address, "no result for an item")),
    }
}

fn refused(address: &str, error: v1::Error) -> Error {
    BrokerError::new(address, error).into()
}
