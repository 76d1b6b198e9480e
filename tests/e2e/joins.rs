//! Brokers join a cluster that is there, take replicas, and vote on the metadata.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::command::run;
use crate::stage::{PARTITIONS, PATIENCE, Stage, TOPIC, acks_go_on, until};
use crate::witness::Witness;

/// Whether a broker's log says that these, and no others, vote on the metadata.
fn voters_told(stage: &Stage, brokers: &[u32]) -> bool {
    let ids = brokers.iter().map(|id| format!("{id}.1")).collect::<Vec<_>>().join(",");
    let said = format!("voters={ids} ");
    stage.cluster.brokers().iter().any(|broker| {
        let log = std::fs::read_to_string(broker.log()).unwrap();
        log.lines()
            .any(|line| line.contains("metadata group has its members") && line.contains(&said))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_join_take_over_and_outlive_those_that_were_first() {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load_at((40, Duration::from_millis(1))).await;
    let witness = Witness::start(&stage.cluster.bootstrap()).await;
    acks_go_on(&load, 20).await;
    for expected in [4, 5] {
        assert_eq!(stage.cluster.join().unwrap(), expected);
        stage.start_all().await;
    }
    let list = stage.cluster.bootstrap().join(",");
    until("five brokers vote on the metadata", async || voters_told(&stage, &[1, 2, 3, 4, 5]))
        .await;

    let moves: Vec<String> = (0..PARTITIONS).map(|p| format!("{TOPIC}/{p}:4,5,1")).collect();
    let mut args = vec!["partition", "move", "-b", &list, "--wait", "60s"];
    args.extend(moves.iter().map(String::as_str));
    run(&args).succeeded();
    acks_go_on(&load, 20).await;

    // Two of those that formed the cluster go; with three of five voters it goes on, and they come back.
    stage.cluster.kill_many(&[2, 3]).unwrap();
    acks_go_on(&load, 20).await;
    let create = |name: &str| {
        let created = run(&["topic", "create", name, "-p", "2", "-r", "3", "-b", &list]);
        created.code == 0
    };
    until("a topic is created by the new majority", async || create("more")).await;
    stage.start_all().await;

    // All at once: those that joined find the others again by themselves.
    stage.cluster.kill_all().unwrap();
    stage.start_all().await;
    acks_go_on(&load, 20).await;
    stage.audit_with(load, &acks, witness).await;
}

/// The cluster's brokers, alive or not, with where they listen.
fn brokers(stage: &Stage) -> BTreeMap<u64, String> {
    let list = stage.cluster.bootstrap()[..3].join(",");
    let told = run(&["cluster", "brokers", "-o", "json", "-b", &list]).succeeded();
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    let all = told["items"].as_array().unwrap().iter();
    all.map(|one| (one["broker"].as_u64().unwrap(), one["addresses"].to_string())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_without_an_id_are_given_one_each_and_keep_it() {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load_at((40, Duration::from_millis(1))).await;
    for id in [4, 5] {
        assert_eq!(stage.cluster.join().unwrap(), id);
        let broker = stage.cluster.broker(id);
        let config = std::fs::read_to_string(broker.config()).unwrap();
        let without = config.replace(&format!("broker_id = {id}\n"), "");
        assert_ne!(config, without);
        std::fs::write(broker.config(), without).unwrap();
    }
    // Both at once, killed and started again as they ask: each is given its own, and no other is used up.
    for _ in 0..3 {
        for id in [4, 5] {
            stage.cluster.broker_mut(id).start().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        stage.cluster.kill_many(&[4, 5]).unwrap();
    }
    stage.start_all().await;
    let before = brokers(&stage);
    assert!(before.keys().eq(&[1, 2, 3, 4, 5]), "{before:?}");
    acks_go_on(&load, 20).await;

    stage.cluster.kill_all().unwrap();
    stage.start_all().await;
    acks_go_on(&load, 20).await;
    until("all are back", async || brokers(&stage) == before).await;
    stage.audit(load, &acks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_its_disk_or_has_an_id_that_is_taken_does_not_join() {
    let mut stage = Stage::ready().await;
    let id = stage.cluster.join().unwrap();
    stage.start_all().await;
    let broker = stage.cluster.broker_mut(id);
    broker.kill().unwrap();
    std::fs::remove_dir_all(broker.data_dir()).unwrap();
    broker.start().unwrap();
    broker.exited(PATIENCE).await.unwrap();
    let said = stage.cluster.broker(id).log_tail();
    assert!(said.contains("its disk was wiped or is not mounted"), "{said}");

    let broker = stage.cluster.broker(id);
    let config = std::fs::read_to_string(broker.config()).unwrap();
    let taken = config.replace("broker_id = 4", "broker_id = 2");
    std::fs::write(broker.config(), taken).unwrap();
    let broker = stage.cluster.broker_mut(id);
    broker.start().unwrap();
    broker.exited(PATIENCE).await.unwrap();
    let said = stage.cluster.broker(id).log_tail();
    assert!(said.contains("give this one another id"), "{said}");
}
