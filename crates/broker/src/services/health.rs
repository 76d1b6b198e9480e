//! Whether the cluster is well, as this broker sees it.

use std::collections::BTreeSet;

use tidelog_proto::v1::{ClusterHealthResponse, HealthStatus, TopicPartition};
use tidelog_raft::Role;
use tidelog_state::metadata::Partition;
use tidelog_types::{BrokerId, GroupId, PartitionId};

use super::Api;
use crate::cluster::Cluster;
use crate::core::Phase;
use crate::limits;

/// Entries that a follower may lack before it counts as far behind.
const LAG_ENTRIES_MAX: u64 = 10_000;

/// Partitions of one kind: all counted, some named.
#[derive(Default)]
struct Found {
    count: u32,
    named: Vec<TopicPartition>,
}

impl Found {
    fn add(&mut self, topic: &str, partition: u32) {
        self.count += 1;
        if self.named.len() < limits::HEALTH_NAMED_MAX {
            self.named.push(TopicPartition { topic: topic.to_owned(), partition });
        }
    }
}

impl Api {
    pub(super) async fn health(&self) -> ClusterHealthResponse {
        let phase = self.core.phase.borrow().clone();
        let broker_id = self.core.config.broker().0;
        let unavailable = |summary: String| ClusterHealthResponse {
            status: HealthStatus::Unavailable.into(),
            summary,
            broker_id,
            ..ClusterHealthResponse::default()
        };
        match phase {
            Phase::Waiting(reason) => unavailable(format!(
                "the cluster has not formed, broker {broker_id} waits for {reason}"
            )),
            Phase::Running(cluster) if cluster.machine().cluster().is_none() => {
                unavailable("the cluster is forming".to_owned())
            }
            Phase::Running(cluster) => {
                let health = health_of(&cluster);
                self.with_outages(&cluster, health).await
            }
        }
    }
}

fn health_of(cluster: &Cluster) -> ClusterHealthResponse {
    let machine = cluster.machine();
    let live = cluster.live_brokers();
    let dead: Vec<_> =
        machine.brokers().filter(|broker| !live.contains(&broker.id)).map(|b| b.id.0).collect();
    let (mut partitions, mut leaderless, mut under) = (0, Found::default(), Found::default());
    for topic in machine.live_topics() {
        for (number, partition) in topic.partitions.iter().enumerate() {
            partitions += 1;
            let number = number as u32;
            let group = GroupId::new(topic.id, PartitionId(number));
            if !has_leader(cluster, &live, group) {
                leaderless.add(topic.name.as_str(), number);
            }
            if is_under_replicated(cluster, &live, group, partition) {
                under.add(topic.name.as_str(), number);
            }
        }
    }
    let low: Vec<_> = cluster.node.low_on_space().iter().map(|node| node.broker.0).collect();
    let controller = cluster.controller().filter(|node| live.contains(&node.broker));
    let status = if controller.is_none() || leaderless.count > 0 {
        HealthStatus::Unavailable
    } else if !dead.is_empty() || !low.is_empty() || under.count > 0 {
        HealthStatus::Degraded
    } else {
        HealthStatus::Healthy
    };
    let brokers = machine.brokers().len();
    ClusterHealthResponse {
        status: status.into(),
        summary: format!(
            "{} of {brokers} brokers are alive; of {partitions} partitions {} have no leader and {} \
             miss a replica{}{}",
            brokers - dead.len(),
            leaderless.count,
            under.count,
            match low.len() {
                0 => String::new(),
                1 => "; 1 broker has a disk that is nearly full".to_owned(),
                low => format!("; {low} brokers have disks that are nearly full"),
            },
            if controller.is_none() { "; the metadata group has no leader" } else { "" }
        ),
        broker_id: cluster.me.broker.0,
        controller_id: controller.map(|node| node.broker.0),
        dead_broker_ids: dead,
        partitions,
        leaderless_count: leaderless.count,
        leaderless: leaderless.named,
        under_replicated_count: under.count,
        under_replicated: under.named,
        low_on_space_broker_ids: low,
        ..ClusterHealthResponse::default()
    }
}

fn has_leader(cluster: &Cluster, live: &BTreeSet<BrokerId>, group: GroupId) -> bool {
    let here = cluster.hosted.find(group).and_then(|replica| replica.leadership());
    // A leader here knows whether it still has its quorum.
    if let Some(now) = here.filter(|now| now.role == Role::Leader) {
        return now.ready;
    }
    cluster.leader_of(group).is_some_and(|(leader, _)| live.contains(&leader.broker))
}

fn is_under_replicated(
    cluster: &Cluster,
    live: &BTreeSet<BrokerId>,
    group: GroupId,
    partition: &Partition,
) -> bool {
    if partition.replicas.iter().any(|id| !live.contains(id)) {
        return true;
    }
    let Some(replica) = cluster.hosted.find(group) else { return false };
    let Some(status) = replica.raft_status() else { return true };
    if !replica.leads() {
        return false;
    }
    let last = status.last.map_or(0, |last| last.index.0);
    let behind = |node: &tidelog_types::NodeId| {
        let matched = status.matched.get(node).copied().flatten().map_or(0, |index| index.0);
        *node != cluster.me && last.saturating_sub(matched) > LAG_ENTRIES_MAX
    };
    status.voters.iter().any(behind)
}
