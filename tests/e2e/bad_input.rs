//! What users get wrong: one clear line, a non-zero exit code, nothing half-done.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use crate::command::{run, run_with};
use crate::stage::{Stage, TOPIC};

const FAILED: i32 = 1;
const USAGE: i32 = 2;

#[test]
fn wrong_words_are_refused_with_usage() {
    for args in [
        &["topic", "create", "orders", "--colour", "red"][..],
        &["produce", "no/such/name"],
        &["consume", "orders", "--from", "yesterday"],
        &["topic", "create", "orders", "--partitions", "0"],
        &["dance"],
        &["demo", "--producers", "0"],
    ] {
        let ended = run(args);
        assert_eq!(ended.code, USAGE, "{args:?} {ended:#?}");
        assert!(ended.stderr.starts_with("error") && ended.stdout.is_empty(), "{ended:#?}");
    }
}

#[test]
fn dead_bootstrap_names_every_address_within_five_seconds() {
    let began = std::time::Instant::now();
    let ports = tidelog::local::free_ports(2).unwrap();
    let addresses: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let ended = run(&["topic", "list", "-b", &addresses.join(",")]);
    ended.refused(FAILED, &[&addresses[0], &addresses[1]]);
    assert!(began.elapsed().as_secs_f64() < 5.0, "{:?}", began.elapsed());
}

/// A node's file below `dir`, and `change` made to it.
fn config(dir: &Path, change: impl FnOnce(String) -> String) -> String {
    let ports = tidelog::local::free_ports(3).unwrap();
    let (client, internal, http) = (ports[0], ports[1], ports[2]);
    let text = format!(
        "broker_id = 1\n\
         data_dir = {:?}\n\
         initial_brokers = [\"1@127.0.0.1:{internal}\"]\n\
         [listener.client]\nbind = \"127.0.0.1:{client}\"\n\
         [listener.internal]\nbind = \"127.0.0.1:{internal}\"\n\
         [listener.http]\nbind = \"127.0.0.1:{http}\"\n",
        dir.join("data").display()
    );
    let path = dir.join("node.toml");
    fs::write(&path, change(text)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// How a good file is spoilt.
type Spoil = fn(String) -> String;

#[test]
fn wrong_configurations_are_refused_with_the_key() {
    let cases: [(Spoil, &[&str]); 5] = [
        (|text| format!("{text}[listener]\nfoo = 1\n"), &["node.toml"]),
        (|text| format!("colour = 3\n{text}"), &["colour"]),
        (|text| text.replace("broker_id = 1", "broker_id = \"one\""), &["broker_id", "one"]),
        (|text| text.replace("broker_id = 1", "broker_id = 2"), &["initial_brokers", "2"]),
        (|text| format!("{text}[raft]\nheartbeat = \"3 parsecs\"\n"), &["raft.heartbeat"]),
    ];
    for (change, words) in cases {
        let dir = tempfile::tempdir().unwrap();
        let path = config(dir.path(), change);
        for args in [&["server", "-c", &path][..], &["server", "--check", "-c", &path]] {
            let ended = run(args);
            assert_ne!(ended.code, 0, "{ended:#?}");
            ended.refused(ended.code, words);
            assert!(!dir.path().join("data").exists(), "nothing is half-created");
        }
    }
    let missing = run(&["server", "-c", "/nowhere/node.toml"]);
    missing.refused(missing.code, &["/nowhere/node.toml"]);
    assert_ne!(missing.code, 0);
}

#[test]
fn taken_port_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), |text| {
        let client = text.lines().skip_while(|line| *line != "[listener.client]").nth(1).unwrap();
        text.replace(client, &format!("bind = \"{address}\""))
    });
    let ended = run(&["server", "-c", &path]);
    assert_ne!(ended.code, 0, "{ended:#?}");
    assert!(last_line(&ended.stderr).contains(&address), "{ended:#?}");
    assert!(last_line(&ended.stderr).contains("in use"), "{ended:#?}");
}

#[test]
fn unusable_data_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    // A file where the directory should be refuses root as well.
    let path = config(dir.path(), |text| text);
    fs::write(dir.path().join("data"), "not a directory").unwrap();
    let ended = run(&["server", "-c", &path]);
    assert_ne!(ended.code, 0, "{ended:#?}");
    let named = dir.path().join("data");
    assert!(last_line(&ended.stderr).contains(named.to_str().unwrap()), "{ended:#?}");
}

/// The server logs before it fails; what it fails with stands last.
fn last_line(stderr: &str) -> &str {
    stderr.lines().last().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_to_a_good_cluster_are_refused() {
    let stage = Stage::ready().await;
    let bootstrap = stage.cluster.bootstrap().join(",");
    let with = |args: &[&str], input: &[u8]| run_with(&[args, &["-b", &bootstrap]].concat(), input);
    with(&["produce", "nobody"], b"hello\n")
        .refused(FAILED, &["nobody", "tidelog topic create nobody"]);
    with(&["consume", "nobody", "--until", "end"], b"").refused(FAILED, &["nobody"]);
    with(&["topic", "create", TOPIC], b"").refused(FAILED, &[TOPIC, "exists"]);
    with(&["topic", "describe", "nobody"], b"").refused(FAILED, &["nobody"]);
    with(&["topic", "create", "big", "-r", "9"], b"").refused(FAILED, &["9"]);
    with(&["topic", "create", "odd", "-c", "retention.ms=soon"], b"")
        .refused(FAILED, &["retention.ms", "soon"]);
    let mut long = vec![b'x'; 3 << 20];
    long.push(b'\n');
    with(&["produce", TOPIC], &long).refused(FAILED, &["line 1", "at most 1048576"]);
    with(&["produce", TOPIC, "--json"], b"{\"value\":\n").refused(FAILED, &["line 1"]);
    // Nothing of all that was stored or created.
    let stored = with(&["consume", TOPIC, "--until", "end"], b"").succeeded();
    assert_eq!(stored.stdout, "");
    let topics = with(&["topic", "list", "-o", "json"], b"").succeeded();
    assert!(!topics.stdout.contains("big") && !topics.stdout.contains("odd"), "{topics:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_not_utf8_come_back_byte_for_byte() {
    let stage = Stage::ready().await;
    let bootstrap = stage.cluster.bootstrap().join(",");
    let lines = b"\xff\xfe\x00binary\nplain\n";
    run_with(&["produce", TOPIC, "-p", "0", "-b", &bootstrap], lines).succeeded();
    let output = crate::command::tidelog(&["consume", TOPIC, "--until", "end", "-b", &bootstrap])
        .output()
        .unwrap();
    assert_eq!(output.stdout, lines);
}
