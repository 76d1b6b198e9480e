//! Processes that are no brokers, treated as brokers are.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Error, LocalCluster, Setup};

const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster of one whose binary is a shell script.
///
/// Another process writes the script: what this one has open for writing, another test's child can
/// hold a moment longer, and the kernel runs no file that is.
fn cluster(dir: &Path, script: &str) -> LocalCluster {
    let binary = dir.join("broker.sh");
    let text = format!("#!/bin/sh\n{script}\n");
    let mut write = Command::new("/bin/sh");
    write.args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""]).arg(&binary).arg(text);
    assert!(write.status().unwrap().success());
    let mut setup = Setup::new(dir, 1).unwrap();
    setup.binary = binary;
    LocalCluster::create(&setup).unwrap()
}

#[tokio::test]
async fn broker_that_ends_by_itself_is_reported_with_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = cluster(dir.path(), "echo port in use; exit 7");
    cluster.start_all().unwrap();
    let error = cluster.ready(PATIENCE).await.unwrap_err();
    let Error::Exited { broker: 1, status, tail, .. } = &error else { panic!("{error}") };
    assert_eq!((status.code(), tail.as_str()), (Some(7), "port in use"));
}

#[tokio::test]
async fn broker_that_never_answers_is_not_ready_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = cluster(dir.path(), "read line");
    cluster.start_all().unwrap();
    let error = cluster.ready(Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { broker: 1, .. }), "{error}");
}

#[tokio::test]
async fn broker_is_killed_stopped_and_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap 'echo stopped; exit 0' TERM; echo started; read line";
    let mut cluster = cluster(dir.path(), script);
    let broker = cluster.broker_mut(1);
    assert!(!broker.is_running());
    broker.start().unwrap();
    assert!(broker.is_running() && broker.resident_bytes().is_some());
    broker.pause().unwrap();
    broker.resume().unwrap();
    broker.kill().unwrap();
    assert!(!broker.is_running() && broker.pid().is_none());
    // What does not run is killed without effect, and not stopped.
    broker.kill().unwrap();
    assert!(broker.stop(PATIENCE).await.is_err());

    let lives = || fs::read_to_string(dir.path().join("node1.log")).unwrap();
    fs::write(dir.path().join("node1.log"), "").unwrap();
    broker.start().unwrap();
    while !lives().contains("started") {
        tokio::task::yield_now().await;
    }
    broker.stop(PATIENCE).await.unwrap();
    assert_eq!(lives(), "started\nstopped\n");
}

#[tokio::test]
async fn brokers_see_their_input_close_and_end_when_the_cluster_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = cluster(dir.path(), "read line");
    cluster.start_all().unwrap();
    let pid = cluster.broker(1).pid().unwrap();
    drop(cluster);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn servers_are_told_their_file_and_whom_to_follow() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = cluster(dir.path(), "echo \"$*\"; exit 0");
    cluster.start_all().unwrap();
    let broker = cluster.broker_mut(1);
    assert!(broker.exited(PATIENCE).await.unwrap().success());
    let config = dir.path().join("node1.toml");
    assert_eq!(broker.log_tail(), format!("server -c {} --exit-with-parent", config.display()));
}
