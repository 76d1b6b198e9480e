//! A partition over three nodes: acks, kills, restarts, transfers, snapshots.

use std::time::Duration;

use tidelog_raft::PartitionConfig;
use tidelog_types::Offset;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{Cluster, PATIENCE};

fn text(n: usize) -> String {
    format!("record {n}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acked_records_are_read_on_every_replica_in_order() {
    let cluster = Cluster::start(3, PartitionConfig::default()).await;
    let mut sent = Vec::new();
    for sequence in 0..50 {
        let records: Vec<String> = (0..3).map(|n| text(sequence * 3 + n)).collect();
        let base = cluster.produce(sent.len() as i32, &records).await;
        assert_eq!(base, Offset(sent.len() as u64));
        sent.extend(records);
    }
    for id in cluster.ids() {
        assert_eq!(cluster.read(id, Offset(150)).await, sent);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_leaders_cost_no_acked_record_and_no_duplicate() {
    let mut cluster = Cluster::start(3, PartitionConfig::default()).await;
    let mut sent = Vec::new();
    for round in 0..4 {
        for _ in 0..20 {
            let record = text(sent.len());
            cluster.produce(sent.len() as i32, std::slice::from_ref(&record)).await;
            sent.push(record);
        }
        let leader = cluster.leader().await;
        let killed = Instant::now();
        cluster.kill(leader).await;
        let record = text(sent.len());
        cluster.produce(sent.len() as i32, std::slice::from_ref(&record)).await;
        sent.push(record);
        eprintln!("round {round}: first ack {:?} after the kill", killed.elapsed());
        cluster.restart(leader).await;
    }
    let end = Offset(sent.len() as u64);
    for id in cluster.ids() {
        assert_eq!(cluster.read(id, end).await, sent);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acked_survives_a_stop_of_all_nodes() {
    let mut cluster = Cluster::start(3, PartitionConfig::default()).await;
    let sent: Vec<String> = (0..40).map(text).collect();
    for (n, record) in sent.iter().enumerate() {
        cluster.produce(n as i32, std::slice::from_ref(record)).await;
    }
    let ids = cluster.ids();
    for id in &ids {
        cluster.kill(*id).await;
    }
    for id in &ids {
        cluster.restart(*id).await;
    }
    cluster.leader().await;
    let record = text(40);
    let base = cluster.produce(40, std::slice::from_ref(&record)).await;
    assert_eq!(base, Offset(40), "the producer's sequence is known after the restart");
    for id in ids {
        assert_eq!(cluster.read(id, Offset(41)).await.len(), 41);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_on_request_and_writes_go_on() {
    let cluster = Cluster::start(3, PartitionConfig::default()).await;
    let mut sequence = 0;
    for _ in 0..3 {
        let leader = cluster.leader().await;
        let to = *cluster.ids().iter().find(|id| **id != leader).unwrap();
        cluster.produce(sequence, &[text(sequence as usize)]).await;
        sequence += 1;
        let moved = cluster.running[&leader].partition.transfer_leader(to);
        timeout(PATIENCE, moved).await.unwrap().unwrap();
        cluster.produce(sequence, &[text(sequence as usize)]).await;
        sequence += 1;
    }
    for id in cluster.ids() {
        assert_eq!(cluster.read(id, Offset(6)).await.len(), 6);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_not_handed_to_a_dead_node_and_writes_do_not_stop() {
    let mut cluster = Cluster::start(3, PartitionConfig::default()).await;
    cluster.produce(0, &[text(0)]).await;
    let leader = cluster.leader().await;
    let dead = *cluster.ids().iter().find(|id| **id != leader).unwrap();
    cluster.kill(dead).await;
    let deadline = Instant::now() + PATIENCE;
    while cluster.running[&leader].node.live().contains(&dead) {
        assert!(Instant::now() < deadline, "nobody noticed");
        sleep(Duration::from_millis(5)).await;
    }
    let partition = cluster.running[&leader].partition.clone();
    let before = *partition.leadership().borrow();
    let refused = timeout(PATIENCE, partition.transfer_leader(dead)).await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("not alive"), "{refused}");
    // The first try is taken: the engine never began to refuse writes.
    let batch = crate::cluster::batch(1, &[text(1)]);
    let info = tidelog_types::batch::Info::read(&batch).unwrap();
    timeout(PATIENCE, partition.produce(batch, info)).await.unwrap().unwrap();
    let now = *partition.leadership().borrow();
    assert_eq!((now.term, now.leader), (before.term, Some(leader)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_behind_a_lost_quorum_is_told_to_try_elsewhere() {
    let mut cluster = Cluster::start(3, PartitionConfig::default()).await;
    cluster.produce(0, &[text(0)]).await;
    let leader = cluster.leader().await;
    for id in cluster.ids().into_iter().filter(|id| *id != leader) {
        cluster.kill(id).await;
    }
    let partition = cluster.running[&leader].partition.clone();
    // Large enough to be an entry each: more of them than may be on their way.
    let big = "x".repeat(600 * 1024);
    let mut pending = Vec::new();
    for sequence in 1..40 {
        let batch = crate::cluster::batch(sequence, std::slice::from_ref(&big));
        let info = tidelog_types::batch::Info::read(&batch).unwrap();
        pending.push(partition.enqueue(batch, info).unwrap());
    }
    let queued = pending.split_off(20);
    for outcome in queued {
        let outcome = timeout(PATIENCE, outcome).await.expect("it is answered").unwrap_err();
        assert_eq!(outcome, tidelog_raft::ProposeError::Retry);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follower_behind_the_log_start_gets_a_start_point_and_what_is_retained() {
    let config = PartitionConfig { segment_bytes: 16 * 1024, ..PartitionConfig::default() };
    let mut cluster = Cluster::start(3, config).await;
    let leader = cluster.leader().await;
    let behind = *cluster.ids().iter().find(|id| **id != leader).unwrap();
    cluster.kill(behind).await;
    let big = "x".repeat(1000);
    for sequence in 0..200 {
        cluster.produce(sequence, std::slice::from_ref(&big)).await;
    }
    let leader = cluster.leader().await;
    let partition = cluster.running[&leader].partition.clone();
    partition.trim(Offset(150)).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while partition.raft_status().purged.is_none() {
        assert!(Instant::now() < deadline, "nothing was purged");
        cluster.running[&leader].node.clean_now().await;
        sleep(Duration::from_millis(20)).await;
    }
    cluster.restart(behind).await;
    let mut view = cluster.running[&behind].partition.view();
    let caught_up = view.wait_for(|view| view.readable >= Offset(200));
    timeout(PATIENCE, caught_up).await.unwrap().unwrap();
    let read = cluster.running[&behind].partition.read(Offset(150), 1 << 20).await.unwrap();
    assert_eq!(read.next, Offset(200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolled_segments_stay_until_something_is_trimmed() {
    let config = PartitionConfig { segment_bytes: 16 * 1024, ..PartitionConfig::default() };
    let cluster = Cluster::start(3, config).await;
    let big = "x".repeat(1000);
    for sequence in 0..100 {
        cluster.produce(sequence, std::slice::from_ref(&big)).await;
    }
    for id in cluster.ids() {
        cluster.read(id, Offset(100)).await;
        for _ in 0..3 {
            cluster.running[&id].node.clean_now().await;
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(cluster.running[&id].partition.raft_status().purged, None);
        assert_eq!(cluster.read(id, Offset(100)).await.len(), 100);
    }
}
