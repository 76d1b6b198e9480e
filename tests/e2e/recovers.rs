//! The worst day: two of three brokers are lost for good, with their disks, and the third goes on.

use std::time::Duration;

use serde_json::Value;

use crate::command::{Ended, run};
use crate::stage::{PARTITIONS, PATIENCE, Stage, TOPIC, acks_go_on, until};

fn tidelog(stage: &Stage, args: &[&str]) -> Ended {
    let list = stage.cluster.bootstrap().join(",");
    run(&[args, &["-b", &list]].concat())
}

/// Whether all replicas of the topic have the same last entry.
fn is_even(stage: &Stage) -> bool {
    (0..PARTITIONS).all(|partition| {
        let name = format!("{TOPIC}/{partition}");
        let told = tidelog(stage, &["partition", "raft", &name, "-o", "json"]).item();
        let replicas = told["replicas"].as_array().unwrap();
        replicas.iter().all(|replica| {
            replica["last_index"].is_u64() && replica["last_index"] == replicas[0]["last_index"]
        })
    })
}

/// What a group has committed, in the order of the partitions.
fn committed(stage: &Stage, group: &str) -> Vec<Value> {
    let told = tidelog(stage, &["group", "describe", group, "--lag", "-o", "json"]);
    if told.code != 0 {
        return Vec::new();
    }
    told.items().iter().map(|one| one["committed"].clone()).collect()
}

/// Whether a broker is being drained, and nothing is left of it.
fn is_drained(stage: &Stage, id: u32) -> bool {
    let told = tidelog(stage, &["cluster", "brokers", "-o", "json"]).items();
    let found = told.iter().find(|one| one["broker"] == id).unwrap();
    found["draining"] == true && found["replicas"] == 0
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broker_goes_on_when_two_of_three_are_lost_for_good() {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load_at((1_000, Duration::from_millis(1))).await;
    acks_go_on(&load, 100).await;
    stage.finish(load).await;
    tidelog(&stage, &["consume", TOPIC, "-g", "billing", "-n", "50"]).succeeded();
    tidelog(&stage, &["group", "seek", "billing", "--topic", TOPIC, "--to", "end", "-y"])
        .succeeded();
    let offsets = committed(&stage, "billing");
    assert_eq!(offsets.len(), PARTITIONS as usize);
    until("all replicas have all", async || is_even(&stage)).await;

    let recover = |stage: &Stage, args: &[&str]| {
        tidelog(stage, &[&["partition", "unsafe-recover", "--from", "1"], args].concat())
    };
    recover(&stage, &["--all", "--lost", "2", "-y"]).refused(1, &["broker 2 is alive", "stop it"]);
    recover(&stage, &["--all", "--dry-run"]).refused(1, &["none is lost"]);
    stage.cluster.kill_many(&[2, 3]).unwrap();
    until("they are missed", async || {
        recover(&stage, &["--all", "--lost", "2,3", "--dry-run"]).code == 0
    })
    .await;
    recover(&stage, &["orders/0", "--lost", "2,3", "-y"])
        .refused(1, &["the metadata have lost their majority", "in one go"]);
    recover(&stage, &["--all", "-y"]).refused(2, &["which brokers are lost", "--lost 2,3"]);
    recover(&stage, &["--all", "--lost", "2,9", "-y"]).refused(1, &["there is no broker 9"]);
    recover(&stage, &["--all", "--lost", "2,3"]).refused(2, &["are shut out for good", "pass -y"]);

    let plan = recover(&stage, &["--all", "--dry-run", "-o", "json"]).item();
    assert_eq!(plan["lost"], serde_json::json!([2, 3]));
    let of = |plan: &Value, name: &str| {
        let groups = plan["groups"].as_array().unwrap();
        groups.iter().find(|group| group["partition"] == name).cloned().unwrap()
    };
    assert_eq!(of(&plan, "metadata")["refusal"], Value::Null);
    assert!(of(&plan, "orders/0")["end_offset"].as_u64().unwrap() > 0, "{plan}");
    let done = recover(&stage, &["--all", "--lost", "2,3", "-y", "-o", "json"]).item();
    for group in done["groups"].as_array().unwrap() {
        assert!(group["recovered_at"].is_u64() && group["refusal"].is_null(), "{group}");
        let planned = of(&plan, group["partition"].as_str().unwrap());
        assert_eq!(group["end_offset"], planned["end_offset"], "what was shown is what goes on");
    }

    // All that was acked had reached it, and is there; so is what the group had committed.
    stage.audit_acks(&acks).await;
    until("the group is led", async || committed(&stage, "billing") == offsets).await;
    recover(&stage, &["--all", "--lost", "2,3", "-y"]).refused(1, &["can go on with nothing"]);

    // Their disks turn up: together they would be a majority of what was.
    for id in [2, 3] {
        stage.cluster.broker_mut(id).start().unwrap();
    }
    for id in [2, 3] {
        stage.cluster.broker_mut(id).exited(PATIENCE).await.unwrap();
        let said = stage.cluster.broker(id).log_tail();
        assert!(said.contains("was declared lost for good"), "{said}");
    }

    // Others take their place, and the survivor is an ordinary broker again.
    for expected in [4, 5] {
        assert_eq!(stage.join().await, expected);
    }
    for id in [2, 3] {
        until("it has nothing any more", async || is_drained(&stage, id)).await;
        tidelog(&stage, &["cluster", "remove", &id.to_string(), "-y"]).succeeded();
    }
    let well = ["cluster", "health", "--exit-when-healthy", "--timeout", "60s"];
    tidelog(&stage, &well).succeeded();
    stage.cluster.broker_mut(1).kill().unwrap();
    stage.audit_acks(&acks).await;
    until("and the group", async || committed(&stage, "billing") == offsets).await;
}
