//! How long a producer on the command line tries.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::command::tidelog;
use crate::stage::{PATIENCE, Stage, TOPIC};

/// What the record may take, as the command line says.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Far below the two minutes that hold when nothing is said.
const LONG: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn produce_gives_up_after_the_timeout_that_it_was_given() {
    let mut stage = Stage::ready().await;
    let bootstrap = stage.cluster.bootstrap().join(",");
    let mut command =
        tidelog(&["produce", TOPIC, "-p", "0", "--timeout", "3s", "-o", "jsonl", "-b", &bootstrap]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut acks = BufReader::new(child.stdout.take().unwrap()).lines();
    input.write_all(b"before\n").unwrap();
    assert!(acks.next().unwrap().unwrap().contains("\"offset\":0"));

    // No majority, no ack: the next record can only wait.
    stage.cluster.kill_many(&[2, 3]).unwrap();
    let began = Instant::now();
    input.write_all(b"after\n").unwrap();
    drop(input);
    let ended = child.wait_with_output().unwrap();
    let took = began.elapsed();
    assert_eq!(ended.status.code(), Some(3), "one acked, one not: {ended:?}");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("line 2") && said.contains("cluster health"), "{said}");
    assert!(took >= TIMEOUT - Duration::from_millis(100) && took < LONG, "{took:?}");

    stage.start_all().await;
    stage.cluster.ready(PATIENCE).await.unwrap();
}
