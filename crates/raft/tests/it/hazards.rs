//! Hazards of the engine that a rule of ours keeps away: see `docs/hazards.md`.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use tidelog_raft::{Founding, PartitionConfig, Role};
use tidelog_types::{GroupId, NodeId, Offset, PartitionId, TopicId};
use tokio::time::timeout;

use crate::cluster::{Cluster, PATIENCE, Timings, until};

/// Hazard H11: followers commit what the leader's own disk has not; a leader that comes back without
/// it must not lead its old term again, where it would give the old position to new bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_that_lost_its_unsynced_tail_does_not_lead_its_old_term_again() {
    let mut cluster = Cluster::simulated(3, Timings::Usual).await;
    let leader = cluster.leader().await;
    let records: Vec<String> = (0..3).map(|n| format!("record {n}")).collect();
    cluster.produce(0, &records[..1]).await;
    cluster.valve(leader).hold();
    cluster.produce(1, &records[1..2]).await;
    assert_eq!(cluster.leader().await, leader, "acked by its followers' disks");
    let term = cluster.partition(leader).leadership().borrow().term;

    // All lose power; the leader is the first to come back, well inside its lease.
    for id in cluster.ids() {
        cluster.cut_power(id).await;
    }
    cluster.restart(leader).await;
    let mut back = cluster.partition(leader).leadership();
    let now = *timeout(PATIENCE, back.wait_for(|now| now.term >= term)).await.unwrap().unwrap();
    assert_ne!(now.role, Role::Leader, "it leads again without its last record");
    let others: BTreeSet<NodeId> = cluster.worlds.keys().copied().collect();
    for id in others {
        if id != leader {
            cluster.restart(id).await;
        }
    }
    cluster.produce(2, &records[2..]).await;
    for id in cluster.ids() {
        assert_eq!(cluster.read(id, Offset(3)).await, records, "on node {id}");
    }
}

/// Hazard H14: the engine waits for ever for a target that is dead, and refuses writes meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfer_to_a_dead_voter_ends_and_writes_go_on() {
    let mut cluster = Cluster::simulated(3, Timings::Patient).await;
    let leader = cluster.leader().await;
    cluster.produce(0, &["record 0".to_owned()]).await;
    let target = *cluster.ids().iter().find(|id| **id != leader).unwrap();
    cluster.kill(target).await;
    let moved = cluster.partition(leader).transfer_leader(target);
    // Refused, or taken by the third one when the target's death was not known yet.
    let moved = timeout(PATIENCE, moved).await.expect("it ends");
    cluster.produce(1, &["record 1".to_owned()]).await;
    let now = cluster.leader().await;
    assert_ne!(now, target);
    assert!(moved.is_ok() || now == leader, "refused, and yet node {now} leads: {moved:?}");
}

/// Hazard H14 once more: the target falls silent after it was seen to be alive and to have the whole
/// log, when nothing but another voter can end the transfer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfer_to_a_voter_that_falls_silent_is_ended_by_another_one() {
    let cluster = Cluster::simulated(3, Timings::Patient).await;
    let leader = cluster.leader().await;
    cluster.produce(0, &["record 0".to_owned()]).await;
    let others: Vec<NodeId> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let (target, third) = (others[0], others[1]);
    let status = || cluster.partition(leader).raft_status();
    until("all followers have the whole log", || {
        let now = status();
        let matched = |id: &NodeId| now.matched.get(id).copied().flatten();
        others.iter().all(|id| matched(id) == now.last.map(|last| last.index))
    })
    .await;

    // Probes are still to be missed for long, so the target counts as alive when it is asked.
    cluster.silence(target);
    let moved = cluster.partition(leader).transfer_leader(target);
    let moved = timeout(PATIENCE, moved).await.expect("it ends");
    cluster.produce(1, &["record 1".to_owned()]).await;
    assert_eq!(cluster.leader().await, third);
    moved.expect("leadership has moved, if not to whom it was meant for");
    for id in [leader, third] {
        assert_eq!(cluster.read(id, Offset(2)).await, ["record 0", "record 1"], "on node {id}");
    }
}

/// Hazard H7: a connection per group and peer would be thousands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_groups_share_one_connection_per_ordered_pair_of_nodes() {
    const GROUPS: u32 = 20;
    let cluster = Cluster::simulated(3, Timings::Usual).await;
    cluster.leader().await;
    let voters: Vec<NodeId> = cluster.ids().into_iter().collect();
    for group in 1..=GROUPS {
        let group = GroupId::new(TopicId(0xfeed << 100), PartitionId(group));
        let mut replicas = Vec::new();
        for (id, running) in cluster.running.iter().rev() {
            let config = PartitionConfig::default();
            let first = *id == voters[0];
            let founding = if first { Founding::Leads } else { Founding::Follows };
            let opened = running.node.open_partition(group, &voters, config, founding);
            replicas.push(opened.await.unwrap());
        }
        until("the group has a leader", || {
            replicas.iter().any(|replica| replica.leadership().borrow().ready)
        })
        .await;
    }
    for (id, world) in &cluster.worlds {
        assert_eq!(world.open.load(Ordering::Relaxed), voters.len() - 1, "of node {id}");
    }
}
