//! Groups in which nothing happens sleep, and wake in time for whatever does.

use std::collections::BTreeSet;
use std::time::Duration;

use tidelog_raft::Role;
use tidelog_types::{NodeId, Offset};
use tokio::time::{sleep, timeout};

use crate::cluster::{Cluster, PATIENCE, until};

/// Longer than any lease and any election timeout of these clusters.
const LONG: Duration = Duration::from_secs(4);

async fn sleeps(cluster: &Cluster) {
    let asleep = || cluster.running.values().all(|one| one.node.stats().groups_asleep == 1);
    until("all replicas sleep", asleep).await;
}

fn terms(cluster: &Cluster) -> BTreeSet<u64> {
    let term = |id: &NodeId| cluster.partition(*id).leadership().borrow().term.0;
    cluster.ids().iter().map(term).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_group_sleeps_under_its_leader_and_takes_the_next_write_at_once() {
    let cluster = Cluster::of_light_sleep(3).await;
    cluster.produce(0, &["record 0".to_owned()]).await;
    let (leader, term) = (cluster.leader().await, terms(&cluster));
    sleeps(&cluster).await;
    // No lease holds for so long, and nobody stands for election.
    sleep(LONG).await;
    sleeps(&cluster).await;
    assert_eq!(terms(&cluster), term);
    let status = cluster.partition(leader).raft_status();
    assert!(status.leadership.ready);
    assert_eq!(status.silent.len(), 2, "{status:?}");
    assert!(status.silent.values().all(|silent| *silent < Duration::from_secs(2)), "{status:?}");

    // The first try is taken: nothing says that the lease has expired.
    let pending = cluster.enqueue(leader, 1).await;
    timeout(PATIENCE, pending).await.unwrap().unwrap();
    assert_eq!(terms(&cluster), term);
    for id in cluster.ids() {
        assert_eq!(cluster.read(id, Offset(2)).await, ["record 0", "record 1"]);
    }
    sleeps(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_need_a_quorum_get_one_of_a_sleeping_group() {
    let cluster = Cluster::of_light_sleep(3).await;
    let leader = cluster.leader().await;
    sleeps(&cluster).await;
    sleep(LONG).await;
    cluster.partition(leader).linearize().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sleeping_group_has_a_new_leader_as_soon_as_its_own_dies() {
    let mut cluster = Cluster::of_light_sleep(3).await;
    cluster.produce(0, &["record 0".to_owned()]).await;
    let leader = cluster.leader().await;
    sleeps(&cluster).await;
    sleep(LONG).await;
    cluster.kill(leader).await;
    assert_ne!(cluster.leader().await, leader);
    assert_eq!(cluster.produce(1, &["record 1".to_owned()]).await, Offset(1));
    // With one of three gone it does not fall asleep; once it is back, it does.
    cluster.restart(leader).await;
    sleeps(&cluster).await;
    assert_eq!(cluster.read(leader, Offset(2)).await, ["record 0", "record 1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_comes_back_wakes_its_group_and_deposes_nobody() {
    let mut cluster = Cluster::of_light_sleep(3).await;
    cluster.produce(0, &["record 0".to_owned()]).await;
    let leader = cluster.leader().await;
    let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    sleeps(&cluster).await;
    let term = terms(&cluster);
    cluster.kill(follower).await;
    sleep(LONG).await;
    let now = *cluster.partition(leader).leadership().borrow();
    assert!(now.ready, "two of three are a quorum, asleep or not: {now:?}");
    cluster.restart(follower).await;
    sleeps(&cluster).await;
    assert_eq!(terms(&cluster), term);
    assert_eq!(cluster.read(follower, Offset(1)).await, ["record 0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sleeping_leader_that_is_cut_off_ceases_to_serve_and_another_leads() {
    let cluster = Cluster::of_light_sleep(3).await;
    cluster.produce(0, &["record 0".to_owned()]).await;
    let leader = cluster.leader().await;
    sleeps(&cluster).await;
    sleep(LONG).await;
    cluster.silence(leader);
    let mut leadership = cluster.partition(leader).leadership();
    let unready = timeout(PATIENCE, leadership.wait_for(|now| !now.ready)).await;
    let now = *unready.expect("it ceases to serve").unwrap();
    assert_eq!(now.role, Role::Leader, "the engine itself has not stepped down");
    until("another one leads", || {
        let mut others = cluster.ids().into_iter().filter(|id| *id != leader);
        others.any(|id| cluster.partition(id).leadership().borrow().ready)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sleeping_group_can_be_handed_over_and_moved() {
    let cluster = Cluster::of_light_sleep(4).await;
    cluster.produce(0, &["record 0".to_owned()]).await;
    let leader = cluster.leader().await;
    let members: Vec<NodeId> = cluster.ids().into_iter().filter(|id| id.broker.0 <= 3).collect();
    let asleep =
        |ids: &[NodeId]| ids.iter().all(|id| cluster.running[id].node.stats().groups_asleep == 1);
    until("all members sleep", || asleep(&members)).await;
    sleep(LONG).await;
    let heir = *members.iter().find(|id| **id != leader).unwrap();
    cluster.partition(leader).transfer_leader(heir).await.unwrap();
    until("the heir leads", || cluster.partition(heir).leadership().borrow().ready).await;
    until("all members sleep again", || asleep(&members)).await;

    cluster.move_to(&[2, 3, 4]).await;
    assert_eq!(cluster.produce(1, &["record 1".to_owned()]).await, Offset(1));
    let members: Vec<NodeId> = (2..=4).map(|broker| NodeId::new(broker, 1)).collect();
    until("the new members sleep", || asleep(&members)).await;
    let read = cluster.read(NodeId::new(4, 1), Offset(2)).await;
    assert_eq!(read, ["record 0", "record 1"]);
}
