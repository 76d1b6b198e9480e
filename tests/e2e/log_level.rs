//! What brokers log is changed while they run.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};

use serde_json::Value;

use crate::command::run;
use crate::stage::{Stage, until};

#[tokio::test(flavor = "multi_thread")]
async fn log_level_changes_while_brokers_run() {
    let stage = Stage::ready().await;
    let bootstrap = stage.cluster.bootstrap().join(",");
    let level = |args: &[&str]| {
        run(&[&["cluster", "log-level"][..], args, &["-b", &bootstrap, "-o", "json"]].concat())
    };
    let quiet = |id: u32| {
        let log = std::fs::read_to_string(stage.cluster.broker(id).log()).unwrap();
        !log.contains("DEBUG")
    };
    assert!((1..=3).all(quiet));

    let changed = level(&["info,tidelog_broker=debug", "--broker", "2"]).succeeded();
    let changed: Value = serde_json::from_str(&changed.stdout).unwrap();
    let items = changed["items"].as_array().unwrap();
    assert_eq!((items.len(), &items[0]["broker"]), (1, &2.into()), "{changed}");
    assert!(items[0]["previous"].as_str().unwrap().contains("info"), "{changed}");
    // What is no HTTP is worth a line at that level only.
    let http = stage.cluster.broker(2).ports().http;
    until("broker 2 talks more", async || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, http)).unwrap();
        stream.write_all(&[0xff; 64]).unwrap();
        !quiet(2)
    })
    .await;
    assert!(quiet(1) && quiet(3));

    let changed = level(&["warn"]).succeeded();
    let changed: Value = serde_json::from_str(&changed.stdout).unwrap();
    assert_eq!(changed["items"].as_array().unwrap().len(), 3, "{changed}");

    let refused = level(&["info,,=loud="]);
    assert_eq!(refused.code, 1, "{refused:#?}");
    assert_eq!(refused.stderr.lines().count(), 3, "one line for each broker: {refused:#?}");
    level(&["info", "--broker", "9"]).refused(2, &["no broker 9", "cluster brokers"]);
}
