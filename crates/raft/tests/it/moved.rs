//! A node that comes back at another address.

use tidelog_raft::Founding;
use tidelog_types::{NodeId, Offset};

use crate::cluster::{Cluster, until};

/// The leader has nothing but the address of before. Nobody else could tell it a better one: the broker
/// registers its new address with the leader, which it hears of from the leader alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_moved_is_found_by_those_that_it_calls() {
    let mut cluster = Cluster::reserved(3).await;
    let nodes = [1, 2, 3].map(|broker| NodeId::new(broker, 1));
    for node in nodes {
        let founding = if node == nodes[0] { Founding::Leads } else { Founding::Follows };
        cluster.open(node, founding).await;
    }
    let leader = cluster.leader().await;
    let moved = *nodes.iter().find(|node| **node != leader).unwrap();
    cluster.kill(moved).await;
    cluster.produce(0, &["written meanwhile".to_owned()]).await;

    cluster.restart_elsewhere(moved).await;
    until("the leader reaches it", || cluster.running[&leader].node.live().contains(&moved)).await;
    assert_eq!(cluster.read(moved, Offset(1)).await, ["written meanwhile"]);
}
