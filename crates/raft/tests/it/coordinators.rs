//! Coordinators: commands take effect on all nodes, and one that is too large harms nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_raft::{CommandError, Coordinator, Founding, PartitionConfig, Role};
use tidelog_state::group::{Command, OffsetChange, Outcome};
use tidelog_types::{
    ErrorCode, GroupId, GroupName, NodeId, Offset, PartitionId, TopicId, TopicName,
};
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, PATIENCE};

async fn coordinators(cluster: &Cluster) -> BTreeMap<NodeId, Coordinator> {
    let id = GroupId::new(TopicId::CONSUMER_GROUPS, PartitionId(0));
    let voters: Vec<NodeId> = cluster.running.keys().copied().collect();
    let mut open = BTreeMap::new();
    for (node, running) in &cluster.running {
        let founding = if *node == voters[0] { Founding::Leads } else { Founding::Follows };
        let coordinator = running.node.open_coordinator(id, &voters, founding).await.unwrap();
        open.insert(*node, coordinator);
    }
    open
}

async fn leader(coordinators: &BTreeMap<NodeId, Coordinator>) -> Coordinator {
    let begun = Instant::now();
    loop {
        let leads = |coordinator: &&Coordinator| {
            let now = *coordinator.leadership().borrow();
            now.role == Role::Leader && now.ready
        };
        if let Some(leader) = coordinators.values().find(leads) {
            return leader.clone();
        }
        assert!(begun.elapsed() < PATIENCE, "no leader");
        sleep(Duration::from_millis(5)).await;
    }
}

fn commit(partitions: u32, metadata: usize) -> Command {
    let change = |partition| OffsetChange {
        topic: TopicId(7 << 100),
        name: TopicName::new("orders").unwrap(),
        partition: PartitionId(partition),
        offset: Offset(3),
        leader_epoch: None,
        metadata: "m".repeat(metadata),
    };
    let group = GroupName::new("billing").unwrap();
    Command::Commit { group, committer: None, offsets: (0..partitions).map(change).collect() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_too_large_is_refused_and_harms_no_replica() {
    let cluster = Cluster::start(3, PartitionConfig::default()).await;
    let coordinators = coordinators(&cluster).await;
    let leader = leader(&coordinators).await;
    // Above what an entry of the log may hold: a log that refuses it stops its engine.
    let refused = leader.propose(&commit(5_000, 4_096)).await;
    assert!(
        matches!(&refused, Err(CommandError::Refused(refusal)) if refusal.code == ErrorCode::MessageTooLarge),
        "{refused:?}"
    );
    for coordinator in coordinators.values() {
        assert_eq!(coordinator.raft_status().stopped, None);
        assert!(coordinator.groups().is_empty());
    }
    let done = leader.propose(&commit(1, 10)).await.unwrap();
    assert!(matches!(&done, Outcome::Committed(kept) if kept[0].is_ok()), "{done:?}");
    for coordinator in coordinators.values() {
        let begun = Instant::now();
        while coordinator.group("billing").is_none() {
            assert!(begun.elapsed() < PATIENCE, "the command does not show on every node");
            sleep(Duration::from_millis(5)).await;
        }
    }
}
