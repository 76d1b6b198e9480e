//! Brokers are emptied under load, leave the cluster, and are not missed.

use std::time::Duration;

use serde_json::Value;

use crate::command::{Ended, run};
use crate::latencies::Latencies;
use crate::stage::{PARTITIONS, PATIENCE, Stage, acks_go_on, until};
use crate::witness::Witness;

/// Acks of each partition before anything changes, to compare with.
const CALM_ACKS: u64 = 1_000;

fn cluster(stage: &Stage, args: &[&str]) -> Ended {
    let list = stage.cluster.bootstrap().join(",");
    run(&[&["cluster", args[0], "-b", &list], &args[1..]].concat())
}

/// Status and number of replicas of a broker; `None` when the cluster does not list it.
fn broker(stage: &Stage, id: u32) -> Option<(String, u64)> {
    let told = cluster(stage, &["brokers", "-o", "json"]).items();
    let found = told.into_iter().find(|one| one["broker"] == id)?;
    let draining = found["draining"] == true;
    let status = if draining { "draining" } else { "stays" };
    Some((status.to_owned(), found["replicas"].as_u64().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_brokers_are_replaced_under_load() {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load_at((40, Duration::from_millis(1))).await;
    let witness = Witness::start(&stage.cluster.bootstrap()).await;
    acks_go_on(&load, 20).await;
    let calm_us = load.tide().now_us();
    acks_go_on(&load, CALM_ACKS).await;
    let change_us = load.tide().now_us();
    (0..PARTITIONS).for_each(|partition| load.tide().watch(partition));
    for expected in [4, 5] {
        assert_eq!(stage.cluster.join().unwrap(), expected);
        stage.start_all().await;
    }

    // Told to stop on the way, it keeps what it has; told again, it goes on.
    cluster(&stage, &["drain", "1", "--detach"]).succeeded();
    let kept = cluster(&stage, &["drain", "1", "--cancel", "-o", "json"]).item();
    assert_eq!((&kept["draining"], &kept["drained"]), (&false.into(), &false.into()), "{kept}");
    cluster(&stage, &["remove", "1", "-y"]).refused(1, &["drain it first"]);
    for id in ["1", "2"] {
        let told = cluster(&stage, &["drain", id, "--wait", "60s", "-o", "json"]).item();
        assert_eq!((&told["drained"], &told["replicas"]), (&true.into(), &0.into()), "{told}");
    }
    acks_go_on(&load, 20).await;

    // It takes nothing new, and whoever is left has too few brokers to lose another.
    let list = stage.cluster.bootstrap().join(",");
    run(&["topic", "create", "late", "-p", "6", "-r", "3", "-b", &list]).succeeded();
    until("it has none of it", async || broker(&stage, 1) == Some(("draining".to_owned(), 0)))
        .await;
    cluster(&stage, &["drain", "3"]).refused(1, &["INVALID_REPLICA_ASSIGNMENT", "3 replicas"]);

    for id in [1, 2] {
        cluster(&stage, &["remove", &id.to_string()]).refused(2, &["for good", "pass -y"]);
        cluster(&stage, &["remove", &id.to_string(), "-y"]).succeeded();
        until("it is listed no more", async || broker(&stage, id).is_none()).await;
        stage.cluster.broker_mut(id).exited(PATIENCE).await.unwrap();
        let said = stage.cluster.broker(id).log_tail();
        assert!(said.contains("was removed from the cluster"), "{said}");
    }
    acks_go_on(&load, 20).await;

    // Nobody misses them: the others are restarted in turn, and all at once.
    for id in [3, 4, 5] {
        cluster(&stage, &["can-stop", &id.to_string(), "--wait", "60s"]).succeeded();
        let broker = stage.cluster.broker_mut(id);
        broker.stop(PATIENCE).await.unwrap();
        broker.start().unwrap();
        broker.ready(PATIENCE).await.unwrap();
    }
    acks_go_on(&load, 20).await;
    let pauses = (0..PARTITIONS).map(|partition| load.tide().longest_pause(partition));
    println!("figure longest pause of a partition: {:?}", pauses.max().unwrap_or_default());

    // The disk of one that was removed is nobody's any more.
    let gone = stage.cluster.broker_mut(1);
    gone.start().unwrap();
    gone.exited(PATIENCE).await.unwrap();
    let said = stage.cluster.broker(1).log_tail();
    assert!(said.contains("was removed from the cluster"), "{said}");
    stage.audit_with(load, &acks, witness).await;
    let (calm, change) = Latencies::before_and_after(&acks, calm_us, change_us);
    println!("figure sends while nothing changes: {calm}");
    println!("figure sends while brokers come and go: {change}");
    println!("figure p99 of the second over that of the first: {:.1}", change.p99_over(&calm));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_brokers_get_their_share() {
    let mut stage = Stage::ready().await;
    let list = stage.cluster.bootstrap().join(",");
    run(&["topic", "create", "more", "-p", "12", "-r", "3", "-b", &list]).succeeded();
    let (load, acks) = stage.load_at((40, Duration::from_millis(1))).await;
    acks_go_on(&load, 20).await;
    let plan = |stage: &Stage| cluster(stage, &["rebalance", "--dry-run", "-o", "json"]).item();
    // A partition whose first leader was not reported yet is left where it is.
    until("all partitions can be planned", async || {
        let counts = plan(&stage)["brokers"].as_array().unwrap().clone();
        let counts = counts.iter().map(|one| one["replicas"].as_u64().unwrap());
        counts.sum::<u64>() == 3 * (12 + u64::from(PARTITIONS))
    })
    .await;
    assert_eq!(plan(&stage)["moves"], Value::Array(Vec::new()));
    stage.cluster.join().unwrap();
    stage.start_all().await;

    let planned = plan(&stage);
    assert!(!planned["moves"].as_array().unwrap().is_empty(), "{planned}");
    assert_eq!(broker(&stage, 4).unwrap().1, 0, "a dry run moves nothing");
    let told = cluster(&stage, &["rebalance"]).succeeded();
    assert!(told.stdout.contains("partition list --moving"), "{told:?}");
    until("the new broker has its share, and nothing moves", async || {
        let settled = plan(&stage);
        let moving = run(&["partition", "list", "--moving", "-o", "json", "-b", &list]).succeeded();
        let moving: Value = serde_json::from_str(&moving.stdout).unwrap();
        settled["moves"].as_array().unwrap().is_empty()
            && moving["items"].as_array().unwrap().is_empty()
    })
    .await;
    let held: Vec<u64> = (1..=4).map(|id| broker(&stage, id).unwrap().1).collect();
    assert!(held.iter().max().unwrap() - held.iter().min().unwrap() <= 1, "{held:?}");
    acks_go_on(&load, 20).await;
    stage.audit(load, &acks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_gone_is_replaced() {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load_at((40, Duration::from_millis(1))).await;
    acks_go_on(&load, 20).await;
    stage.cluster.broker_mut(3).kill().unwrap();
    let refused = cluster(&stage, &["drain", "3"]);
    refused.refused(1, &["3 replicas", "2 brokers take any"]);
    assert_eq!(stage.join().await, 4);
    cluster(&stage, &["drain", "3", "--wait", "60s"]).succeeded();
    cluster(&stage, &["remove", "3", "-y"]).succeeded();
    until("all is well", async || cluster(&stage, &["health"]).code == 0).await;
    acks_go_on(&load, 20).await;

    // Its disk comes back after all.
    let gone = stage.cluster.broker_mut(3);
    gone.start().unwrap();
    gone.exited(PATIENCE).await.unwrap();
    let said = stage.cluster.broker(3).log_tail();
    assert!(said.contains("was removed from the cluster"), "{said}");
    stage.audit(load, &acks).await;
}

/// What `cluster health` says of a dead broker, once it knows how long it is gone.
async fn outage(stage: &Stage, id: u32) -> (Value, Value) {
    let mut said = (Value::Null, Value::Null);
    until("it is known how long it is gone", async || {
        let told = cluster(stage, &["health", "-o", "json"]);
        let told: Value = serde_json::from_str(&told.stdout).unwrap();
        let item = &told["item"];
        let one = item["outages"].as_array().into_iter().flatten().find(|one| one["broker"] == id);
        said = (one.cloned().unwrap_or_default(), item["rebuild_after_ms"].clone());
        said.0["gone_ms"].is_u64()
    })
    .await;
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_what_becomes_of_a_dead_brokers_replicas() {
    let mut stage = Stage::ready().await;
    stage.cluster.broker_mut(3).kill().unwrap();
    // A partition of which no leader was reported yet is not planned for.
    until("no other broker can have its replicas", async || {
        let (said, after) = outage(&stage, 3).await;
        assert_eq!((&after, &said["rebuild_in_ms"]), (&0.into(), &Value::Null), "{said}");
        assert_eq!(said["replicas"], 3, "{said}");
        said["without_place"] == 3
    })
    .await;
    let shown = cluster(&stage, &["health"]).stdout;
    assert!(shown.contains("3 replicas cannot be made anew: no other broker"), "{shown}");

    // With a broker that has none of them they could go somewhere, but nobody asked for it.
    assert_eq!(stage.join().await, 4);
    until("there is a place for them", async || {
        outage(&stage, 3).await.0["rebuilt_on"] == serde_json::json!([{"broker": 4, "replicas": 3}])
    })
    .await;
    let shown = cluster(&stage, &["health"]).stdout;
    let expected =
        "3 replicas of it would be made anew on broker 4; off: set `replicas.rebuild_after`";
    assert!(shown.contains(expected), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_of_a_broker_that_stays_away_are_made_anew_as_foretold() {
    let settings = "[replicas]\nrebuild_after = \"5s\"\n";
    let mut stage = Stage::with(3, |setup| setup.settings = settings.parse().unwrap()).await;
    stage.start_all().await;
    stage.create_topic().await;
    let gone = stage.cluster.join().unwrap() - 1;
    stage.start_all().await;
    let (load, acks) = stage.load_at((40, Duration::from_millis(1))).await;
    acks_go_on(&load, 20).await;
    stage.cluster.broker_mut(gone).kill().unwrap();
    let (said, after) = outage(&stage, gone).await;
    assert_eq!(after, 5_000, "{said}");
    let left = said["rebuild_in_ms"].as_u64().unwrap();
    assert!(left <= 5_000 && (left == 0 || said["replicas"] == 3), "{said}");
    until("all is well but for the broker", async || {
        let told = outage(&stage, gone).await.0;
        told["replicas"] == 0 && told["moving"] == 0
    })
    .await;
    let shown = cluster(&stage, &["health"]).stdout;
    assert!(
        shown.contains(&format!("it has no replicas: tidelog cluster remove {gone}")),
        "{shown}"
    );
    acks_go_on(&load, 20).await;
    stage.audit(load, &acks).await;
}
