//! Damage to a disk is found, and mended with what the other replicas hold, while acks go on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidelog_log::disk::Disk;
use tidelog_log::flusher::InlineFlusher;
use tidelog_log::sim::SimDisk;
use tidelog_log::{Vote, VotesLog};
use tidelog_types::{NodeId, Offset, Term};
use tokio::time::{sleep, timeout};

use crate::cluster::{Cluster, PATIENCE, until};

/// Records that a test begins with, at least.
const RECORDS_MIN: usize = 50;

/// The last segment holds several entries by then: damage in the midst of it is no torn write.
const LAST_BYTES_MIN: u64 = 2_000;

/// Bytes a second that a test reads again.
const FAST: u64 = u64::MAX;

fn record(n: usize) -> String {
    format!("record {n} {}", "x".repeat(300))
}

fn records(n: usize) -> Vec<String> {
    (0..n).map(record).collect()
}

/// A cluster whose replicas hold several segments, all of them on disk everywhere, and the records.
async fn written() -> (Cluster, usize) {
    let cluster = Cluster::of_small_segments().await;
    let last_bytes = |id| {
        let file = segments(&cluster, id).pop().unwrap();
        disk(&cluster, id).file_len(&file).unwrap()
    };
    let mut count = 0;
    while count < RECORDS_MIN || cluster.ids().into_iter().any(|id| last_bytes(id) < LAST_BYTES_MIN)
    {
        cluster.produce(count as i32, &[record(count)]).await;
        count += 1;
        for id in cluster.ids() {
            cluster.read(id, Offset(count as u64)).await;
        }
    }
    for id in cluster.ids() {
        assert!(segments(&cluster, id).len() >= 4);
    }
    (cluster, count)
}

fn disk(cluster: &Cluster, id: NodeId) -> SimDisk {
    cluster.worlds[&id].sim.clone().unwrap()
}

/// The segment files of a node, oldest first.
fn segments(cluster: &Cluster, id: NodeId) -> Vec<PathBuf> {
    let dir = cluster.data(id).join(cluster.group.to_string());
    let names = disk(cluster, id).list(&dir).unwrap();
    names.iter().filter(|name| name.ends_with(".log")).map(|name| dir.join(name)).collect()
}

/// Flips a bit in the middle of a file.
fn flip(cluster: &Cluster, id: NodeId, file: &Path) {
    let disk = disk(cluster, id);
    let bytes = disk.file_len(file).unwrap();
    disk.flip(file, bytes / 2 * 8).unwrap();
}

async fn scrub(cluster: &Cluster, id: NodeId) -> tidelog_raft::ScrubReport {
    cluster.running[&id].node.scrub(cluster.group, FAST).await.unwrap()
}

/// Writes one more record, and reads all on every node.
async fn goes_on(cluster: &Cluster, sequence: usize) {
    cluster.produce(sequence as i32, &[record(sequence)]).await;
    for id in cluster.ids() {
        let all = cluster.read(id, Offset(sequence as u64 + 1)).await;
        assert_eq!(all, records(sequence + 1), "on node {id}");
        let report = scrub(cluster, id).await;
        assert!(report.mended.is_empty() && report.stepped_out.is_empty(), "{id}: {report:?}");
        assert!(report.left.is_empty() && report.bytes > 0, "{id}: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rot_in_closed_segments_is_mended_while_the_group_goes_on() {
    let (cluster, count) = written().await;
    let leader = cluster.leader().await;
    for id in cluster.ids() {
        // Another one on each node: at most one copy of anything is damaged.
        let nth = id.broker.0 as usize - 1;
        flip(&cluster, id, &segments(&cluster, id)[nth]);
    }
    for id in cluster.ids() {
        let report = scrub(&cluster, id).await;
        assert_eq!(report.mended.len(), 1, "{id}: {report:?}");
        assert!(report.left.is_empty() && report.stepped_out.is_empty(), "{id}: {report:?}");
        let stats = cluster.running[&id].node.stats();
        assert_eq!((stats.damage_found, stats.damage_repaired), (1, 1));
    }
    assert_eq!(cluster.leader().await, leader, "nobody had to step down for it");
    goes_on(&cluster, count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_reader_meets_is_mended_at_once() {
    let (mut cluster, count) = written().await;
    // With nothing in memory, readers go to the disk.
    let id = cluster.leader().await;
    cluster.kill(id).await;
    cluster.restart(id).await;
    flip(&cluster, id, &segments(&cluster, id)[1]);
    let node = || cluster.running[&id].node.stats();
    let mut from = Offset::ZERO;
    while node().damage_found == 0 && from < Offset(count as u64) {
        match cluster.partition(id).read(from, 1024).await {
            Ok(read) if read.next > from => from = read.next,
            Ok(_) | Err(_) => sleep(std::time::Duration::from_millis(5)).await,
        }
    }
    until("it is mended", || node().damage_repaired == 1).await;
    goes_on(&cluster, count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_last_segment_rots_steps_out_and_comes_back() {
    let (mut cluster, count) = written().await;
    for id in cluster.ids() {
        let file = segments(&cluster, id).pop().unwrap();
        flip(&cluster, id, &file);
        let mut outs = cluster.running[&id].node.stepping_out().unwrap();
        let report = scrub(&cluster, id).await;
        assert_eq!(report.stepped_out.len(), 1, "{id}: {report:?}");
        let out = timeout(PATIENCE, outs.recv()).await.unwrap().unwrap();
        assert_eq!(out.group, cluster.group);
        let refilled = cluster.step_out(id).await;
        assert!(refilled.entries > 0, "{id}: {refilled:?}");
        let all = cluster.read(id, Offset(count as u64)).await;
        assert_eq!(all, records(count), "on node {id}");
    }
    goes_on(&cluster, count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_recovery_refuses_is_filled_up_from_its_leader() {
    let (mut cluster, count) = written().await;
    let mut sequence = count;
    for id in cluster.ids() {
        let all = segments(&cluster, id);
        cluster.cut_power(id).await;
        // The head of an early segment, entries of the last one, and a head without which nothing is left.
        match id.broker.0 {
            1 => disk(&cluster, id).flip(&all[1], 400).unwrap(),
            2 => flip(&cluster, id, &all[all.len() - 1]),
            _ => disk(&cluster, id).flip(&all[0], 400).unwrap(),
        }
        cluster.produce(sequence as i32, &[record(sequence)]).await;
        sequence += 1;
        let refilled = cluster.restart_damaged(id).await;
        assert!(refilled.entries > 0, "{id}: {refilled:?}");
        let seen = cluster.read(id, Offset(sequence as u64)).await;
        assert_eq!(seen, records(sequence), "on node {id}");
    }
    goes_on(&cluster, sequence).await;
}

/// Two of three replicas acked; one of the two loses it to rot while the leader is away. The third, which
/// never had it, must not be elected by the one that has forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_replica_elects_nobody_who_lacks_what_it_acked() {
    let (mut cluster, count) = written().await;
    let leader = cluster.leader().await;
    let others: Vec<NodeId> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let (behind, damaged) = (others[0], others[1]);
    cluster.kill(behind).await;
    cluster.produce(count as i32, &[record(count)]).await;
    cluster.kill(leader).await;
    let file = segments(&cluster, damaged).pop().unwrap();
    cluster.cut_power(damaged).await;
    flip(&cluster, damaged, &file);

    // The damaged one finds no leader to be filled up from, so it stays out, and so there is none.
    cluster.restart(behind).await;
    let out = cluster.stays_out(damaged).await;
    assert!(out.contains("no other replica can help"), "{out}");
    assert!(!cluster.partition(behind).leadership().borrow().ready);

    cluster.restart(leader).await;
    cluster.restart_damaged(damaged).await;
    goes_on(&cluster, count + 1).await;
}

/// A candidate that nobody heard of has voted for itself in a term that the others do not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_voted_for_a_later_term_is_filled_up_too() {
    let (mut cluster, count) = written().await;
    let leader = cluster.leader().await;
    let id = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let file = segments(&cluster, id).pop().unwrap();
    cluster.cut_power(id).await;
    flip(&cluster, id, &file);
    let votes = cluster.data(id).join("votes.log");
    let flusher = Arc::new(InlineFlusher::default());
    let votes = VotesLog::open(Arc::new(disk(&cluster, id)), votes, flusher, id).unwrap();
    let held = votes.get(cluster.group).unwrap().vote.unwrap();
    let later = Vote { term: Term(held.term.0 + 5), node: Some(id), committed: false };
    votes.save_vote(cluster.group, later, Box::new(|saved| saved.unwrap()));
    drop(votes);

    let refilled = cluster.restart_damaged(id).await;
    assert!(refilled.entries > 0, "{refilled:?}");
    goes_on(&cluster, count).await;
    let leads = cluster.partition(cluster.leader().await).leadership().borrow().term;
    assert!(leads > later.term, "a promise that was made stands: {leads:?}");
}

/// Recovery reads from the newest start point on, the engine looks at entries here and there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_that_only_the_engine_meets_takes_the_replica_out_too() {
    let (mut cluster, count) = written().await;
    let id = *cluster.ids().first().unwrap();
    let all = segments(&cluster, id);
    for file in &all[..all.len() - 1] {
        cluster.kill(id).await;
        flip(&cluster, id, file);
        cluster.restart_or_refill(id).await;
        scrub(&cluster, id).await;
        // By the refill, by this pass, or by a reader that came before it.
        let repaired = || cluster.running[&id].node.stats().damage_repaired;
        until("it is mended", || repaired() == 1).await;
        assert_eq!(cluster.read(id, Offset(count as u64)).await, records(count));
        let again = scrub(&cluster, id).await;
        assert!(again.mended.is_empty() && again.left.is_empty(), "{again:?}");
    }
    goes_on(&cluster, count).await;
}
