//! Partitions move to other brokers while they are written to and read, and while brokers die.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use tidelog_client::Client;
use tidelog_client::admin::PartitionFacts;

use crate::command::{Ended, run};
use crate::stage::{PARTITIONS, Stage, TOPIC, acks_go_on, rounds, until};
use crate::witness::Witness;

const BROKERS: u32 = 5;

fn move_to(stage: &Stage, moves: &[String], more: &[&str]) -> Ended {
    let list = stage.cluster.bootstrap().join(",");
    let mut args = vec!["partition", "move", "-b", &list];
    args.extend(moves.iter().map(String::as_str));
    run(&[&args[..], more].concat())
}

async fn partitions(client: &Client) -> Vec<PartitionFacts> {
    client.admin().describe_topic(&TOPIC.parse().unwrap()).await.unwrap().partitions
}

async fn all_are_settled(client: &Client) {
    until("all replicas are where they should be", async || {
        partitions(client).await.iter().all(PartitionFacts::is_settled)
    })
    .await;
}

/// The replicas of the topic on a broker's disk.
fn on_disk(stage: &Stage, id: u32, topic: &str) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for entry in stage.cluster.broker(id).data_dir().read_dir().unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let number = name.strip_prefix(topic).and_then(|rest| rest.strip_prefix('-'));
        found.extend(number.map(|number| number.parse::<u32>().unwrap()));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_move_while_brokers_die_and_nothing_is_lost() {
    let mut stage = Stage::with(BROKERS, |_| ()).await;
    stage.start_all().await;
    stage.create_topic().await;
    let client = stage.client().await;
    let (load, acks) = stage.load_at((40, Duration::from_millis(1))).await;
    let witness = Witness::start(&stage.cluster.bootstrap()).await;
    acks_go_on(&load, 20).await;

    for round in 0..rounds(6) {
        let mut brokers: Vec<u32> = (1..=BROKERS).collect();
        let mut moves = Vec::new();
        for partition in 0..PARTITIONS {
            brokers.shuffle(&mut stage.rng);
            let count = stage.rng.random_range(1..=4);
            let ids: Vec<String> = brokers[..count].iter().map(ToString::to_string).collect();
            moves.push(format!("{TOPIC}/{partition}:{}", ids.join(",")));
        }
        move_to(&stage, &moves, &[]).succeeded();
        if round % 2 == 1 {
            // A partition of one replica has no acks while its broker is down.
            let victim = *brokers.choose(&mut stage.rng).unwrap();
            stage.cluster.broker_mut(victim).kill().unwrap();
            stage.start_all().await;
        }
        if round % 3 == 2 {
            // Told something else on the way.
            continue;
        }
        move_to(&stage, &moves, &["--wait", "60s"]).succeeded();
        acks_go_on(&load, 20).await;
    }
    all_are_settled(&client).await;

    let topic =
        client.admin().describe_topic(&TOPIC.parse().unwrap()).await.unwrap().id.to_string();
    let partitions = partitions(&client).await;
    for id in 1..=BROKERS {
        let expected = partitions.iter().filter(|p| p.replicas.iter().any(|broker| broker.0 == id));
        let expected: BTreeSet<u32> = expected.map(|partition| partition.partition.0).collect();
        assert_eq!(on_disk(&stage, id, &topic), expected, "on broker {id}: {partitions:?}");
    }
    acks_go_on(&load, 20).await;
    stage.audit_with(load, &acks, witness).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_that_cannot_be_are_refused_and_nothing_moves() {
    let stage = Stage::ready().await;
    let client = stage.client().await;
    let before = partitions(&client).await;
    let first = |rest: &str| [format!("{TOPIC}/0:{rest}")];
    move_to(&stage, &first("1,9"), &[]).refused(1, &["INVALID_REPLICA_ASSIGNMENT", "no broker 9"]);
    move_to(&stage, &first("1,2,1"), &[]).refused(1, &["broker 1 is named twice"]);
    let both = [format!("{TOPIC}/0:1,2"), format!("{TOPIC}/99:1,2")];
    move_to(&stage, &both, &[]).refused(1, &["3 partitions"]);
    let twice = [format!("{TOPIC}/0:1,2"), format!("{TOPIC}/0:2,3")];
    move_to(&stage, &twice, &[]).refused(1, &["named twice"]);
    move_to(&stage, &["nosuch/0:1".to_owned()], &[]).refused(1, &["nosuch"]);
    let told = move_to(&stage, &first(""), &[]);
    assert!(told.code == 2 && told.stderr.contains("is no broker id"), "{told:?}");
    let told = move_to(&stage, &first("1"), &["--dry-run"]).succeeded();
    assert!(told.stdout.contains("1 partition would move"), "{told:?}");
    assert_eq!(partitions(&client).await, before);
}
