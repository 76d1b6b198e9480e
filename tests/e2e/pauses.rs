//! How long a partition takes no writes when its leader dies or freezes, as a producer sees it.

use std::time::Duration;

use tidelog::demo::leader_now;

use crate::stage::{PARTITIONS, PATIENCE, Stage, TOPIC, acks_go_on, leader, until};

const ROUNDS: u32 = 10;
/// About 500 sends a second and producer, so more than 200 on each partition.
const PACE: (usize, Duration) = (1_000, Duration::from_millis(1));

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Freeze,
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_leader_pauses_its_partition_for_less_than_a_second() {
    let median = median_pause(Fault::Kill).await;
    assert!(median <= Duration::from_millis(700), "{median:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_leader_pauses_its_partition_for_two_seconds_at_most() {
    let median = median_pause(Fault::Freeze).await;
    assert!(median <= Duration::from_secs(2), "{median:?}");
}

/// The longest time between two acks of the partition in each of ten rounds; their median.
async fn median_pause(fault: Fault) -> Duration {
    let mut stage = Stage::alone().await;
    let (load, acks) = stage.load_at(PACE).await;
    let client = stage.client().await;
    let mut pauses = Vec::new();
    for round in 0..ROUNDS {
        acks_go_on(&load, 200).await;
        let partition = round % PARTITIONS;
        let victim = leader(&client, partition).await;
        load.tide().watch(partition);
        match fault {
            Fault::Kill => stage.cluster.broker_mut(victim).kill().unwrap(),
            Fault::Freeze => stage.cluster.broker_mut(victim).pause().unwrap(),
        }
        until("another broker leads", async || {
            matches!(leader_now(&client, TOPIC, partition).await, Ok(Some(id)) if id != victim)
        })
        .await;
        acks_go_on(&load, 50).await;
        pauses.push(load.tide().longest_pause(partition));
        match fault {
            Fault::Kill => stage.start_all().await,
            Fault::Freeze => stage.cluster.broker_mut(victim).resume().unwrap(),
        }
        stage.cluster.ready(PATIENCE).await.unwrap();
    }
    println!("{fault:?}: longest pauses {pauses:?}");
    stage.audit(load, &acks).await;
    pauses.sort_unstable();
    pauses[pauses.len() / 2]
}
