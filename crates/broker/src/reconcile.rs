//! Makes what this broker hosts follow the metadata: opens and creates replicas, follows configs,
//! deletes what a committed command deleted.
//!
//! Invariants:
//! - A replica is deleted only because its topic is *deleting* or its partition has *released* this
//!   node, never because the metadata does not seem to know it.
//! - A replica is created, and one of a released node deleted, only by news that are newer than this
//!   broker's start: what it did in an earlier life must not be done again. Those that are there are
//!   opened without.
//! - A broker that came back as a new incarnation never pretends to be the one that voted: it is
//!   another node, which learns first.
//! - Whoever finds damage steps out and stays out until all that it has lost is back; see `repair`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tidelog_raft::{Error as RaftError, Founding, PartitionConfig, with_sources};
use tidelog_state::metadata::{Command, Machine, Partition, TopicState};
use tidelog_types::{GroupId, LogIndex, NodeId, PartitionId, TopicId, TopicName, canary};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use crate::budget::Budget;
use crate::cluster::{CATCH_UP_TIMEOUT, Cluster};
use crate::config::Config;
use crate::hosted::{Replica, ReplicaState, Takes};
use crate::repair;

/// Replicas opened or deleted at a time.
const AT_A_TIME: usize = 16;

/// Pause before what failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long a report may take.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Follows the metadata until the node stops.
pub(crate) async fn follow(cluster: Arc<Cluster>, config: Config) {
    let mut changes = cluster.machine_changes();
    let mut is_fresh = false;
    loop {
        let mut machine = Arc::clone(&changes.borrow_and_update());
        if !is_fresh && needs_news(&cluster, &machine) {
            let news = cluster.catch_up(Instant::now() + CATCH_UP_TIMEOUT).await;
            is_fresh = news.is_ok();
            machine = cluster.machine();
        }
        let done = reconcile(&cluster, &config, &machine, is_fresh).await;
        if !done {
            sleep(AGAIN_AFTER).await;
            continue;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = cluster.reopen.notified() => {}
        }
    }
}

/// One replica that should be open here.
struct Wanted {
    group: GroupId,
    topic: TopicName,
    voters: Vec<NodeId>,
    config: PartitionConfig,
    takes: Takes,
    founding: Founding,
}

/// Tells whether everything is as it should be; `false`: try again.
async fn reconcile(
    cluster: &Arc<Cluster>,
    config: &Config,
    machine: &Machine,
    is_fresh: bool,
) -> bool {
    let share = config.limits.in_flight_bytes_per_partition.bytes();
    let mut wanted = wanted(cluster, machine);
    let left = if is_fresh {
        leave(cluster, released(cluster, machine)).await
    } else {
        wanted.retain(|wanted| cluster.node.holds(wanted.group));
        !needs_news(cluster, machine)
    };
    let opened = stream::iter(wanted)
        .map(|wanted| open(cluster, wanted, share))
        .buffer_unordered(AT_A_TIME)
        .fold(true, |all, one| async move { all && one });
    let opened = opened.await;
    let deleted = delete(cluster, machine).await;
    opened && deleted && left
}

/// Whether a replica is to be created, or deleted that its partition has released.
fn needs_news(cluster: &Cluster, machine: &Machine) -> bool {
    let me = cluster.me;
    machine.live_partitions().any(|(group, partition)| {
        partition.has_released(me)
            || machine.belongs_on(me, partition) && !cluster.node.holds(group)
    })
}

fn wanted(cluster: &Cluster, machine: &Machine) -> Vec<Wanted> {
    let mut all = Vec::new();
    let belongs =
        |(_, partition): &(GroupId, &Partition)| machine.belongs_on(cluster.me, partition);
    for (group, partition) in machine.live_partitions().filter(belongs) {
        let topic = machine.topic(group.topic).expect("a live partition is of a known topic");
        let config = machine.topic_config(group.topic).expect("a known topic has a config");
        all.push(Wanted {
            group,
            topic: topic.name.clone(),
            voters: partition.voters.clone(),
            config: PartitionConfig {
                segment_bytes: config.segment_bytes,
                retention: config.retention,
                retention_bytes: config.retention_bytes,
                segment_age: config.segment_age,
                compaction: config.compaction,
                is_settled: is_settled(partition),
            },
            takes: Takes {
                batch_bytes_max: config.batch_bytes_max as usize,
                needs_keys: config.compaction.is_some(),
            },
            founding: founding(partition, cluster.me),
        });
    }
    all
}

/// Whether all who hold a replica are members of the group: those that should be, and nobody that has
/// left it and may come back.
fn is_settled(partition: &Partition) -> bool {
    let voters: BTreeSet<_> = partition.voters.iter().map(|node| node.broker).collect();
    let target: BTreeSet<_> = partition.replicas.iter().copied().collect();
    voters == target && partition.leaving.iter().all(|leaving| leaving.released)
}

fn founding(partition: &Partition, me: NodeId) -> Founding {
    match partition.is_creating() {
        false => Founding::Over,
        true if partition.initializer == me => Founding::Leads,
        true => Founding::Follows,
    }
}

async fn open(cluster: &Arc<Cluster>, wanted: Wanted, share: usize) -> bool {
    let Wanted { group, topic, voters, config, takes, founding } = wanted;
    if let Some(replica) = cluster.hosted.find(group) {
        replica.set_takes(takes);
        if let Some(partition) = replica.partition() {
            partition.set_config(config);
        }
        return true;
    }
    let opened = if group.topic == TopicId::CONSUMER_GROUPS {
        let coordinator = cluster.node.open_coordinator(group, &voters, founding).await;
        coordinator.map(ReplicaState::Coordinator)
    } else {
        let partition = cluster.node.open_partition(group, &voters, config, founding).await;
        partition.map(ReplicaState::Open)
    };
    let state = match opened {
        Ok(state) => {
            info!(%topic, partition = %group.partition, id = %group.topic, "opened a replica");
            state
        }
        Err(err @ (RaftError::Quarantined { .. } | RaftError::Log { .. })) => {
            let reason = with_sources(&err);
            error!(%topic, partition = %group.partition, err = reason, "a replica steps out");
            if matches!(err, RaftError::Quarantined { is_repairable: true, .. }) {
                tokio::spawn(repair::bring_back(Arc::clone(cluster), group, voters));
            }
            ReplicaState::Out(reason)
        }
        Err(err) => {
            let err = with_sources(&err);
            warn!(%topic, partition = %group.partition, err, "a replica does not open");
            return false;
        }
    };
    let share = Budget::new(share);
    cluster.hosted.put(Arc::new(Replica::new(group, topic, state, share, takes)));
    true
}

/// Partitions that have done without this node's replica, and the membership by which they have.
fn released(cluster: &Cluster, machine: &Machine) -> Vec<(GroupId, LogIndex)> {
    let has_released = |(_, partition): &(GroupId, &Partition)| {
        partition.has_released(cluster.me)
            || canary!(LeavesUnreleased) && partition.may_need(cluster.me)
    };
    let at = |partition: &Partition| partition.voters_at.map_or(LogIndex::ZERO, |at| at.index);
    let released = machine.live_partitions().filter(has_released);
    released.map(|(group, partition)| (group, at(partition))).collect()
}

/// Deletes the replicas that partitions have released, and reports it.
async fn leave(cluster: &Arc<Cluster>, groups: Vec<(GroupId, LogIndex)>) -> bool {
    if groups.is_empty() {
        return true;
    }
    let count = groups.len();
    let gone: Vec<GroupId> = stream::iter(groups)
        .map(|(group, released)| async move {
            delete_replica(cluster, group, released).await.then_some(group)
        })
        .buffer_unordered(AT_A_TIME)
        .filter_map(|gone| async move { gone })
        .collect()
        .await;
    let all = gone.len() == count;
    info!(replicas = gone.len(), "deleted the replicas of partitions that have moved away");
    let report = Command::ReportLeft { node: cluster.me, groups: gone };
    let reported = cluster.propose(&report, Instant::now() + REPORT_TIMEOUT).await;
    if let Err(err) = &reported {
        warn!(%err, "deleted replicas are not reported yet");
    }
    reported.is_ok() && all
}

/// Deletes a replica that nobody needs, by the membership at `released` if its group goes on.
async fn delete_replica(cluster: &Cluster, group: GroupId, released: LogIndex) -> bool {
    cluster.hosted.remove(group);
    match cluster.node.give_up(group, released).await {
        Ok(()) => true,
        Err(err) => {
            let err = with_sources(&err);
            warn!(%group, err, "a replica is not deleted yet");
            false
        }
    }
}

/// Deletes what deleted topics have left here, and reports it.
async fn delete(cluster: &Arc<Cluster>, machine: &Machine) -> bool {
    let deleting: Vec<_> = machine
        .topics()
        .filter(|topic| topic.state == TopicState::Deleting)
        .filter(|topic| topic.deleting_on().contains(&cluster.me))
        .map(|topic| (topic.id, topic.partitions.len() as u32))
        .collect();
    if deleting.is_empty() {
        return true;
    }
    let mut groups = Vec::new();
    for (topic, partitions) in &deleting {
        groups.extend((0..*partitions).map(|number| GroupId::new(*topic, PartitionId(number))));
    }
    let failed: BTreeSet<TopicId> = stream::iter(groups)
        .map(|group| async move {
            let deleted = delete_replica(cluster, group, LogIndex::ZERO).await;
            (!deleted).then_some(group.topic)
        })
        .buffer_unordered(AT_A_TIME)
        .filter_map(|failed| async move { failed })
        .collect()
        .await;
    let topics: Vec<_> =
        deleting.into_iter().map(|(topic, _)| topic).filter(|id| !failed.contains(id)).collect();
    for topic in &topics {
        info!(id = %topic, "deleted the replicas of a topic");
    }
    let report = Command::ReportDeleted { node: cluster.me, topics };
    let reported = cluster.propose(&report, Instant::now() + REPORT_TIMEOUT).await;
    if let Err(err) = &reported {
        warn!(%err, "deletion is not reported yet");
    }
    reported.is_ok() && failed.is_empty()
}
