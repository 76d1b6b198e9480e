//! What counts as a quorum, and what a leader does without one.

use futures_util::FutureExt;
use tidelog_raft::{ProposeError, Role};
use tidelog_types::{LogIndex, NodeId};
use tokio::time::timeout;

use crate::cluster::{Cluster, PATIENCE, Timings, until};

/// Hazard H1, the sequence of openraft#1802: an engine that keeps its voters' progress sorted and
/// forgets to sort a voter that moves on above the quorum takes two of five for a majority.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entry_on_two_of_five_disks_is_not_committed_in_whatever_order_they_sync() {
    let cluster = Cluster::simulated(5, Timings::Patient).await;
    let leader = cluster.leader().await;
    cluster.produce(0, &["record 0".to_owned()]).await;
    let status = || cluster.partition(leader).raft_status();
    let base = status().last.unwrap().index;
    let at = |entries| Some(base.plus(entries));
    let matched = |id: NodeId| status().matched.get(&id).copied().flatten();
    until("all five have synced the first record", || {
        cluster.ids().iter().all(|id| *id == leader || matched(*id) == at(0))
    })
    .await;
    cluster.ids().iter().for_each(|id| cluster.valve(*id).hold());

    let followers: Vec<NodeId> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let (first, second, third) = (followers[0], followers[1], followers[2]);
    // Lets a follower sync all it has been sent, once that reaches as far as `entries`.
    let sync = async |id: NodeId, entries: u64| {
        let last = || cluster.partition(id).raft_status().last.map(|last| last.index);
        until("the entry is in the follower's memory", || last() == at(entries)).await;
        until("the leader knows that it is synced", || {
            cluster.valve(id).let_through();
            matched(id) == at(entries)
        })
        .await;
    };
    let mut pending = Vec::new();
    for sequence in 1..=3 {
        pending.push(cluster.enqueue(leader, sequence).await);
    }
    sync(first, 3).await;
    sync(second, 3).await;
    for sequence in 4..=6 {
        pending.push(cluster.enqueue(leader, sequence).await);
    }
    // Unsorted, the second now stands behind the first, which has less.
    sync(second, 6).await;
    assert_eq!(status().committed.map(|at| at.index), at(0), "two of five are no quorum");
    sync(third, 6).await;

    let mut acks = pending.into_iter();
    for ack in acks.by_ref().take(3) {
        timeout(PATIENCE, ack).await.unwrap().unwrap();
    }
    assert_eq!(status().committed.map(|at| at.index), at(3), "three of five have synced so far");
    let mut unacked: Vec<_> = acks.collect();
    assert!(unacked.iter_mut().all(|ack| ack.now_or_never().is_none()));

    // The third disk of five makes the rest a quorum's.
    sync(first, 6).await;
    for ack in unacked {
        timeout(PATIENCE, ack).await.unwrap().unwrap();
    }
    cluster.ids().iter().for_each(|id| cluster.valve(*id).release());
}

/// Hazards H4 and H15: a leader never steps down by itself on losing its quorum, and others may have
/// elected another one meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_without_a_quorum_confirms_no_read_and_ceases_to_serve() {
    let mut cluster = Cluster::simulated(3, Timings::Usual).await;
    let leader = cluster.leader().await;
    cluster.produce(0, &["record 0".to_owned()]).await;
    cluster.partition(leader).linearize().await.unwrap();
    for id in cluster.ids() {
        if id != leader {
            cluster.kill(id).await;
        }
    }
    // At once, well within any lease.
    let partition = cluster.partition(leader);
    let read = timeout(PATIENCE, partition.linearize()).await.unwrap();
    assert!(matches!(read, Err(ProposeError::NotLeader { .. })), "{read:?}");

    let mut leadership = partition.leadership();
    let silent = timeout(PATIENCE, leadership.wait_for(|now| !now.ready)).await;
    let now = *silent.expect("it ceases to serve").unwrap();
    assert_eq!(now.role, Role::Leader, "the engine itself has not stepped down");
}

/// Hazard H3: what failed to reach the disk is never counted, and never tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_whose_fsync_failed_stops_and_is_no_part_of_a_quorum() {
    use tidelog_log::sim::{Action, Fault};
    let mut cluster = Cluster::simulated(3, Timings::Patient).await;
    let leader = cluster.leader().await;
    cluster.produce(0, &["record 0".to_owned()]).await;
    let followers: Vec<NodeId> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let (broken, well) = (followers[0], followers[1]);
    let disk = cluster.worlds[&broken].sim.clone().unwrap();
    disk.fail(Fault { action: Action::Sync, path: ".log".to_owned(), after: 0, times: 1 });

    cluster.produce(1, &["record 1".to_owned()]).await;
    until("the replica has stopped", || cluster.partition(broken).raft_status().stopped.is_some())
        .await;
    cluster.kill(well).await;
    let end = cluster.partition(leader).raft_status().last.unwrap().index;
    let pending = cluster.enqueue(leader, 2).await;
    // By then it would have been acked many times over.
    let mut leadership = cluster.partition(leader).leadership();
    timeout(PATIENCE, leadership.wait_for(|now| !now.ready)).await.unwrap().unwrap();
    assert!(pending.now_or_never().is_none(), "acked by one disk of three");
    let committed = cluster.partition(leader).raft_status().committed.unwrap().index;
    assert!(committed <= end && committed > LogIndex::ZERO, "{committed:?}");
}
