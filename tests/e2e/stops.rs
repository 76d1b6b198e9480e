//! Whether a broker may be stopped, and what is said when it is needed.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::command::{Ended, run};
use crate::stage::{PARTITIONS, Stage, TOPIC};

fn can_stop(stage: &Stage, id: u32, more: &[&str]) -> Ended {
    let (bootstrap, id) = (stage.cluster.bootstrap().join(","), id.to_string());
    run(&[&["cluster", "can-stop", &id, "-b", &bootstrap, "-o", "json"], more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_needed_is_not_to_be_stopped() {
    let mut stage = Stage::ready().await;
    for id in 1..=3 {
        can_stop(&stage, id, &["--wait", "30s"]).succeeded();
    }

    stage.cluster.broker_mut(3).kill().unwrap();
    for id in [1, 2] {
        let told = can_stop(&stage, id, &[]);
        assert_eq!(told.code, 10, "{told:#?}");
        let told: Value = serde_json::from_str(&told.stdout).unwrap();
        let told = &told["item"];
        assert_eq!(told["can_stop"], false, "{told}");
        let risks = told["risks"].as_array().unwrap();
        let named: BTreeSet<&str> =
            risks.iter().map(|risk| risk["partition"].as_str().unwrap()).collect();
        let partitions = (0..PARTITIONS).map(|number| format!("{TOPIC}/{number}"));
        for expected in partitions.chain(["(metadata)".to_owned()]) {
            assert!(named.contains(expected.as_str()), "{expected} in {told}");
        }
        let reason = risks[0]["reason"].as_str().unwrap();
        assert!(reason.contains("2 of its 3 replicas are needed"), "{told}");
    }
    // Nobody relies on the one that is down.
    can_stop(&stage, 3, &["--wait", "30s"]).succeeded();

    stage.start_all().await;
    for id in 1..=3 {
        can_stop(&stage, id, &["--wait", "30s"]).succeeded();
    }
    can_stop(&stage, 9, &[]).refused(1, &["no broker 9", "brokers are 1, 2, 3"]);
}
