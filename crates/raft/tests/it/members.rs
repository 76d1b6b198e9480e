//! A group's members change while records are written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidelog_raft::{Founding, MemberError, MemberStep, PartitionConfig, Role, Target};
use tidelog_types::{GroupId, LogIndex, NodeId, Offset, PartitionId, Term, TopicId};
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, until};

fn node(broker: u32) -> NodeId {
    NodeId::new(broker, 1)
}

fn records(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("record {n}")).collect()
}

/// Has the members change while one record after the other is written; how many they are then.
async fn move_under_load(cluster: &Cluster, first: usize, to: &[u32]) -> usize {
    let stop = Arc::new(AtomicBool::new(false));
    let write = async {
        let mut count = first;
        // One more than must be: something is written to the new members.
        let mut more = true;
        while more {
            more = !stop.load(Ordering::Relaxed);
            let at = cluster.produce(count as i32, &[format!("record {count}")]).await;
            assert_eq!(at, Offset(count as u64), "nothing is lost or written twice");
            count += 1;
        }
        count
    };
    let moved = async {
        cluster.move_to(to).await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(write, moved).0
}

async fn all_hold(cluster: &Cluster, brokers: &[u32], count: usize) {
    for broker in brokers {
        let read = cluster.read(node(*broker), Offset(count as u64)).await;
        assert_eq!(read, records(count), "on node {broker}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_move_one_by_one_and_all_at_once_under_load() {
    let mut cluster = Cluster::with_spares(5).await;
    let mut count = move_under_load(&cluster, 0, &[1, 2, 4]).await;
    all_hold(&cluster, &[1, 2, 4], count).await;
    cluster.give_up(node(3)).await;
    // The leader goes, too.
    count = move_under_load(&cluster, count, &[4, 5]).await;
    all_hold(&cluster, &[4, 5], count).await;
    for gone in [1, 2] {
        cluster.give_up(node(gone)).await;
    }
    // To one alone, and back to those that had given theirs up.
    count = move_under_load(&cluster, count, &[5]).await;
    cluster.give_up(node(4)).await;
    for back in [1, 3] {
        cluster.take_up(node(back), Founding::Over).await;
    }
    count = move_under_load(&cluster, count, &[1, 3, 5]).await;
    all_hold(&cluster, &[1, 3, 5], count).await;
    // They vote: the two that came back go on without the third.
    cluster.kill(node(5)).await;
    cluster.produce(count as i32, &[format!("record {count}")]).await;
    all_hold(&cluster, &[1, 3], count + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_is_sent_no_more_than_the_rate_allows() {
    const RATE: u64 = 4 << 20;
    const ENTRIES: usize = 3_000;
    let cluster = Cluster::with_a_spare_at(RATE).await;
    let value = "x".repeat(4 << 10);
    for n in 0..ENTRIES {
        cluster.produce(n as i32, std::slice::from_ref(&value)).await;
    }
    let began = Instant::now();
    cluster.move_to(&[1, 2, 4]).await;
    // 12 MiB, less the last thousand entries and what was sent before the rate was felt: it takes a
    // second for each 4 MiB, however fast the machine is.
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    let read = cluster.read(node(4), Offset(ENTRIES as u64)).await;
    assert!(read.len() == ENTRIES && read.iter().all(|one| *one == value));
}

/// After a restart a node may be told for a moment what was so long ago.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gave_a_replica_up_is_no_founder_any_more() {
    let mut cluster = Cluster::with_spares(5).await;
    cluster.produce(0, &records(1)).await;
    cluster.move_to(&[1, 4, 5]).await;
    for gone in [2, 3] {
        cluster.give_up(node(gone)).await;
    }
    // A majority of those that founded the group.
    cluster.take_up(node(2), Founding::Leads).await;
    cluster.take_up(node(3), Founding::Follows).await;
    // Longer than their first election takes, and than an election timeout.
    sleep(Duration::from_secs(2)).await;
    for gone in [2, 3] {
        let status = cluster.partition(node(gone)).raft_status();
        assert_eq!(status.leadership.role, Role::Learner, "node {gone}: {status:?}");
        assert_eq!(status.last, None, "node {gone}: {status:?}");
    }
    cluster.produce(1, &["record 1".to_owned()]).await;
    all_hold(&cluster, &[1, 4, 5], 2).await;
}

/// Seed 405 of the simulation once: a voter was down while another left and came back empty. By the
/// members that it knew the two were a majority, and led without what had been acked since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_empty_elects_nobody_who_missed_that_it_left() {
    let mut cluster = Cluster::with_spares(4).await;
    cluster.produce(0, &records(1)).await;
    let leader = cluster.leader().await;
    let mut others = [1, 2, 3].into_iter().filter(|id| node(*id) != leader);
    let (behind, leaves) = (others.next().unwrap(), others.next().unwrap());
    cluster.kill(node(behind)).await;
    cluster.move_to(&[leader.broker.0, behind, 4]).await;
    cluster.produce(1, &["record 1".to_owned()]).await;
    cluster.give_up(node(leaves)).await;
    cluster.take_up(node(leaves), Founding::Over).await;

    cluster.kill(leader).await;
    cluster.kill(node(4)).await;
    cluster.restart(node(behind)).await;
    // Longer than several elections take.
    sleep(Duration::from_secs(5)).await;
    for id in [behind, leaves] {
        let status = cluster.partition(node(id)).raft_status();
        assert_ne!(status.leadership.role, Role::Leader, "node {id}: {status:?}");
    }

    cluster.restart(leader).await;
    cluster.restart(node(4)).await;
    cluster.produce(2, &["record 2".to_owned()]).await;
    all_hold(&cluster, &[leader.broker.0, behind, 4], 3).await;
    // It may be a voter again, and then its vote counts.
    cluster.move_to(&[leaves, behind, 4]).await;
    cluster.kill(node(4)).await;
    cluster.produce(3, &["record 3".to_owned()]).await;
    all_hold(&cluster, &[leaves, behind], 4).await;
}

/// A node that was to have a replica, and was told something else before it came to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giving_up_what_was_never_there_is_no_error() {
    let cluster = Cluster::start(1, PartitionConfig::default()).await;
    let never = GroupId::new(TopicId(0xbeef << 100), PartitionId(7));
    for _ in 0..2 {
        cluster.running[&node(1)].node.give_up(never, LogIndex(7)).await.unwrap();
    }
    assert!(!cluster.running[&node(1)].node.holds(never));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_is_taken_only_by_the_leader_of_the_term_it_was_decided_in() {
    let cluster = Cluster::with_spares(4).await;
    let target = Target { voters: [node(1), node(2), node(4)].into(), ..Target::default() };
    let leader = cluster.leader().await;
    let term = cluster.partition(leader).leadership().borrow().term;
    for other in cluster.ids().into_iter().filter(|id| *id != leader) {
        let refused = cluster.partition(other).step_towards(term, &target).await;
        assert_eq!(refused, Err(MemberError::NotLeader), "node {other}");
    }
    let earlier = Term(term.0 - 1);
    let refused = cluster.partition(leader).step_towards(earlier, &target).await;
    assert_eq!(refused, Err(MemberError::NotLeader));
    let members = cluster.partition(leader).raft_status();
    assert!(members.learners.is_empty(), "{members:?}");
    let took = cluster.partition(leader).step_towards(term, &target).await;
    assert_eq!(took, Ok(MemberStep::Changed));
    until("the new one learns", || cluster.partition(leader).raft_status().learners == [node(4)])
        .await;
}
