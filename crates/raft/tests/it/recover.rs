//! A majority is lost for good, and what one replica holds goes on.

use std::collections::BTreeSet;
use std::time::Duration;

use tidelog_raft::Node;
use tidelog_types::{NodeId, Offset, Term};

use crate::cluster::{Cluster, until};

fn node(broker: u32) -> NodeId {
    NodeId::new(broker, 1)
}

fn nodes(brokers: &[u32]) -> BTreeSet<NodeId> {
    brokers.iter().map(|broker| node(*broker)).collect()
}

fn text(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// Waits until a node takes others for dead.
async fn misses(node: &Node, dead: &[u32]) {
    let dead = nodes(dead);
    until("the dead are missed", || node.live().is_disjoint(&dead)).await;
}

const HELD: Duration = Duration::from_secs(60);

/// Records in five, of which the last two brokers and the first are up.
async fn two_of_five(cluster: &mut Cluster) {
    cluster.produce(0, &text(&["acked by all"])).await;
    for broker in [3, 4, 5] {
        cluster.kill(node(broker)).await;
    }
    for broker in [1, 2] {
        misses(&cluster.running[&node(broker)].node, &[3, 4, 5]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_goes_on_with_all_that_it_holds() {
    let mut cluster = Cluster::reserved(3).await;
    for (broker, founding) in [
        (1, tidelog_raft::Founding::Leads),
        (2, tidelog_raft::Founding::Follows),
        (3, tidelog_raft::Founding::Follows),
    ] {
        cluster.open(node(broker), founding).await;
    }
    cluster.produce(0, &text(&["a", "b"])).await;
    cluster.read(node(1), Offset(2)).await;
    cluster.kill(node(2)).await;
    cluster.kill(node(3)).await;
    let (survivor, group) = (cluster.running[&node(1)].node.clone(), cluster.group);
    misses(&survivor, &[2, 3]).await;
    let before = survivor.standing(group).unwrap();

    let refused = survivor.recover(group, Term(0)).await.unwrap_err();
    assert_eq!(refused.to_string(), "the group has its majority", "nobody was declared lost");
    survivor.shut_out(&nodes(&[2, 3])).await.unwrap();
    let at = survivor.recover(group, Term(0)).await.unwrap();
    assert_eq!(at.index, before.last.unwrap().index.next());
    assert!(at.term > before.term);

    cluster.produce(2, &text(&["c"])).await;
    assert_eq!(cluster.read(node(1), Offset(3)).await, ["a", "b", "c"]);
    assert_eq!(cluster.partition(node(1)).raft_status().voters, [node(1)]);

    // It comes back as it was, and still nobody is let in.
    cluster.kill(node(1)).await;
    cluster.restart(node(1)).await;
    cluster.produce(3, &text(&["d"])).await;
    assert_eq!(cluster.read(node(1), Offset(4)).await, ["a", "b", "c", "d"]);
    assert_eq!(cluster.running[&node(1)].node.lost(), nodes(&[2, 3]));
}

/// They are a majority of the old members, and would elect one of theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_lost_and_comes_back_is_told_and_changes_nothing() {
    let mut cluster = Cluster::start(3, tidelog_raft::PartitionConfig::default()).await;
    cluster.produce(0, &text(&["a"])).await;
    cluster.read(node(1), Offset(1)).await;
    cluster.kill(node(2)).await;
    cluster.kill(node(3)).await;
    let (survivor, group) = (cluster.running[&node(1)].node.clone(), cluster.group);
    misses(&survivor, &[2, 3]).await;
    survivor.shut_out(&nodes(&[2, 3])).await.unwrap();
    survivor.recover(group, Term(0)).await.unwrap();
    cluster.produce(1, &text(&["after the loss"])).await;
    let term = cluster.partition(node(1)).raft_status().leadership.term;

    for broker in [2, 3] {
        cluster.restart(node(broker)).await;
    }
    for broker in [2, 3] {
        let mut told = cluster.running[&node(broker)].node.cast_out();
        let told = told.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert!(told.contains("was declared lost for good"), "{told}");
    }
    // What they make of it among themselves reaches nobody else.
    cluster.kill(node(2)).await;
    cluster.kill(node(3)).await;
    cluster.produce(2, &text(&["and on"])).await;
    assert_eq!(cluster.read(node(1), Offset(3)).await, ["a", "after the loss", "and on"]);
    assert_eq!(cluster.partition(node(1)).raft_status().leadership.term, term, "led all the time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_that_are_left_learn_from_the_one_that_goes_on() {
    let mut cluster = Cluster::start(5, tidelog_raft::PartitionConfig::default()).await;
    two_of_five(&mut cluster).await;
    let (first, group) = (cluster.running[&node(1)].node.clone(), cluster.group);
    let lost = nodes(&[3, 4, 5]);
    first.shut_out(&lost).await.unwrap();
    let other = first.survey(node(2), &lost, Some(HELD), &[group]).await.unwrap()[&group];
    assert_eq!(cluster.running[&node(2)].node.lost(), lost, "the other shuts them out too");
    let ahead = other.last > first.standing(group).unwrap().last;
    let (goes_on, above) = if ahead { (2, Term(0)) } else { (1, other.term) };
    let survivor = cluster.running[&node(goes_on)].node.clone();
    survivor.recover(group, above).await.unwrap();
    cluster.produce(1, &text(&["alone"])).await;
    cluster.move_to(&[1, 2]).await;
    cluster.produce(2, &text(&["in two"])).await;
    for broker in [1, 2] {
        let read = cluster.read(node(broker), Offset(3)).await;
        assert_eq!(read, ["acked by all", "alone", "in two"]);
    }
}

/// With equal logs each would find that it may, and both would take writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_could_go_on_one_does() {
    let mut cluster = Cluster::start(5, tidelog_raft::PartitionConfig::default()).await;
    two_of_five(&mut cluster).await;
    let lost = nodes(&[3, 4, 5]);
    let of = |broker| cluster.running[&node(broker)].node.clone();
    let (first, second) = (of(1), of(2));
    let turn = first.take_turn(HELD).unwrap();
    assert!(first.take_turn(HELD).unwrap_err().to_string().contains("at it already"));
    first.survey(node(2), &lost, Some(HELD), &[]).await.unwrap();
    let busy = "broker 1 goes on with groups at the moment: one broker after the other";
    assert_eq!(second.take_turn(HELD).unwrap_err().to_string(), busy);
    assert_eq!(second.survey(node(1), &lost, Some(HELD), &[]).await.unwrap_err().to_string(), busy);
    drop(turn);
    first.survey(node(2), &lost, Some(Duration::ZERO), &[]).await.unwrap();
    drop(second.take_turn(HELD).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_answers_is_lost() {
    let cluster = Cluster::start(3, tidelog_raft::PartitionConfig::default()).await;
    let first = &cluster.running[&node(1)].node;
    let refused = first.shut_out(&nodes(&[2, 3])).await.unwrap_err();
    assert_eq!(refused.to_string(), "broker 2 answers broker 1: it is not lost; stop it first");
    let refused =
        first.survey(node(2), &nodes(&[3]), Some(HELD), &[cluster.group]).await.unwrap_err();
    assert_eq!(refused.to_string(), "broker 3 answers broker 2: it is not lost; stop it first");
    for id in cluster.ids() {
        assert!(cluster.running[&id].node.lost().is_empty(), "nothing was written down");
    }
}
