//! A group comes to life on a majority of its voters, whichever of them die on the way.

use tidelog_raft::Founding;
use tidelog_types::{NodeId, Offset};

use crate::cluster::Cluster;

/// The voter that stands first is gone before another has opened its replica: the others were
/// asked for nothing and told nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_found_a_group_whose_first_candidate_died() {
    let (first, second, third) = (NodeId::new(1, 1), NodeId::new(2, 1), NodeId::new(3, 1));
    let mut cluster = Cluster::reserved(3).await;
    cluster.open(first, Founding::Leads).await;
    cluster.kill(first).await;

    cluster.open(second, Founding::Follows).await;
    cluster.open(third, Founding::Follows).await;
    cluster.produce(0, &["written without the first".to_owned()]).await;

    cluster.restart(first).await;
    for node in [first, second, third] {
        assert_eq!(cluster.read(node, Offset(1)).await, ["written without the first"]);
    }
}

/// What a voter that was away from the start knows of the creation is old: it founds the group once
/// more, and harms nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_founds_late_joins_what_is_there() {
    let (first, second, third) = (NodeId::new(1, 1), NodeId::new(2, 1), NodeId::new(3, 1));
    let mut cluster = Cluster::reserved(3).await;
    cluster.open(second, Founding::Follows).await;
    cluster.open(third, Founding::Follows).await;
    cluster.produce(0, &["written without the first".to_owned()]).await;
    let led = cluster.leader().await;

    cluster.open(first, Founding::Leads).await;
    assert_eq!(cluster.read(first, Offset(1)).await, ["written without the first"]);
    cluster.produce(1, &["written with it".to_owned()]).await;
    assert_eq!(cluster.leader().await, led, "a late voter deposes nobody");
    for node in [first, second, third] {
        let read = cluster.read(node, Offset(2)).await;
        assert_eq!(read, ["written without the first", "written with it"]);
    }
}
