//! A topic goes into a file and comes back: every record as it was, groups at the same ones, under
//! another name and in another cluster. A file that is damaged changes nothing, and an import that was
//! killed is gone on with.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tidelog_client::admin::OffsetAt;
use tidelog_client::{
    Client, Offset, OffsetCommit, PartitionId, Position, ReadRecord, Record, StartPolicy,
    Timestamp, TopicName, TopicPartition, Until,
};

use crate::command::{Ended, run, run_with, tidelog};
use crate::stage::{PARTITIONS, Stage, TOPIC, until};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
/// Records in each of the partitions that have any.
const RECORDS: u64 = 120;
/// Where the first partition begins after it was trimmed.
const TRIMMED: u64 = 37;

struct Shell {
    bootstrap: String,
}

impl Shell {
    fn new(stage: &Stage) -> Self {
        Self { bootstrap: stage.cluster.bootstrap().join(",") }
    }

    fn run(&self, line: &str) -> Ended {
        run(&line.split(' ').chain(["-b", &self.bootstrap]).collect::<Vec<_>>())
    }

    #[track_caller]
    fn json(&self, line: &str) -> Value {
        let ended = self.run(&format!("{line} -o json")).succeeded();
        serde_json::from_str(&ended.stdout).unwrap()
    }

    fn topics(&self) -> Vec<String> {
        let listed = self.run("topic list").succeeded();
        listed.stdout.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    }
}

fn at(topic: &str, partition: u32) -> TopicPartition {
    TopicPartition { topic: TopicName::new(topic).unwrap(), partition: PartitionId(partition) }
}

/// A record of the shape that its number stands for: nulls, empty ones, binary ones, large ones.
fn awkward(partition: u32, number: u64) -> Record {
    let record = Record::to(TOPIC).partition(PartitionId(partition));
    // Times neither rise nor begin with the records.
    let record = record.timestamp(Timestamp(1_600_000_000_000 - 7 * number as i64));
    match number % 6 {
        0 => record,
        1 => record.key("").value(""),
        2 => record.key(vec![0xff, 0, number as u8]).value(vec![0x80; 300]),
        3 => record.value("gr\u{f6}\u{df}e\n\"\\\u{0}").header("b", "1").header("a", vec![0xfe]),
        4 => record.key("k").header("twice", "1").null_header("twice").header("", ""),
        _ => record.value("x".repeat(9_000)),
    }
}

async fn write(client: &Client) {
    let producer = client.producer().build().await.unwrap();
    for partition in 0..PARTITIONS - 1 {
        let records = (0..RECORDS).map(|number| awkward(partition, number));
        for written in producer.send_all(records).await {
            written.unwrap();
        }
    }
}

/// All records of a partition.
async fn read(client: &Client, topic: &str, partition: u32) -> Vec<ReadRecord> {
    let reader = client.reader().until(Until::End);
    let reader = reader.partition(topic, PartitionId(partition), Position::Earliest);
    let mut reader = reader.build().await.unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.recv().await.unwrap() {
        records.push(record);
    }
    records
}

async fn read_all(client: &Client, topic: &str) -> Vec<Vec<ReadRecord>> {
    let mut all = Vec::new();
    for partition in 0..PARTITIONS {
        all.push(read(client, topic, partition).await);
    }
    all
}

/// The records are those of `before`, at offsets from 0 on.
#[track_caller]
fn same(before: &[Vec<ReadRecord>], after: &[Vec<ReadRecord>]) {
    for (before, after) in before.iter().zip(after) {
        assert_eq!(before.len(), after.len());
        for ((offset, after), before) in (0..).zip(after).zip(before) {
            assert_eq!(after.offset, Offset(offset));
            let parts = |record: &ReadRecord| {
                let ReadRecord { timestamp, key, value, headers, .. } = record.clone();
                (timestamp, key, value, headers)
            };
            assert_eq!(parts(before), parts(after), "offset {}", before.offset);
        }
    }
}

/// What a group has committed for a topic: partition, offset, metadata.
async fn committed(client: &Client, group: &str, topic: &str) -> Vec<(u32, u64, String)> {
    let facts = client.admin().describe_group(group).await.unwrap();
    let of_topic = facts.partitions.into_iter().filter(|p| p.partition.topic.as_str() == topic);
    let one = |p: tidelog_client::admin::GroupPartition| {
        let committed = p.committed?;
        Some((p.partition.partition.0, committed.offset.0, committed.metadata))
    };
    of_topic.filter_map(one).collect()
}

async fn commit(client: &Client, group: &str, offsets: &[(u32, u64, &str)]) {
    let commits = offsets.iter().map(|(partition, offset, metadata)| {
        (at(TOPIC, *partition), OffsetCommit::new(Offset(*offset)).metadata(*metadata))
    });
    for (_, result) in client.admin().commit_group_offsets(group, commits).await.unwrap() {
        result.unwrap();
    }
}

/// The topic with awkward records, trimmed, with a config of its own, and two groups in it.
async fn set_up(shell: &Shell, client: &Client) -> Vec<Vec<ReadRecord>> {
    write(client).await;
    let trim = format!("topic trim {TOPIC} --before {TRIMMED} -p 0 -y");
    shell.run(&trim).succeeded();
    shell.run(&format!("topic config {TOPIC} --set retention.ms=2000000")).succeeded();
    commit(client, "billing", &[(0, 50, "night"), (1, 0, "")]).await;
    commit(client, "audit", &[(0, RECORDS, ""), (1, RECORDS, "")]).await;
    read_all(client, TOPIC).await
}

async fn check(shell: &Shell, client: &Client, topic: &str, before: &[Vec<ReadRecord>]) {
    same(before, &read_all(client, topic).await);
    let billing = [(0, 50 - TRIMMED, "night".to_owned()), (1, 0, String::new())];
    assert_eq!(committed(client, "billing", topic).await, billing);
    let audit = [(0, RECORDS - TRIMMED, String::new()), (1, RECORDS, String::new())];
    assert_eq!(committed(client, "audit", topic).await, audit);
    until("the topic has its own configs, and no others", async || {
        let configs = shell.run(&format!("topic config {topic}")).succeeded();
        let own: Vec<_> = configs.stdout.lines().filter(|line| line.ends_with("topic")).collect();
        own == ["retention.ms\t2000000\ttopic"]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_comes_back_under_another_name_and_in_another_cluster() {
    let kept = tempfile::tempdir().unwrap();
    let file = kept.path().join("orders.jsonl").display().to_string();
    let stage = Stage::ready().await;
    let (shell, client) = (Shell::new(&stage), stage.client().await);
    let before = set_up(&shell, &client).await;
    let exported = shell.json(&format!("topic export {TOPIC} --to {file} --groups"));
    let item = &exported["items"][0];
    let records = 2 * RECORDS - TRIMMED;
    assert_eq!((&item["records"], &item["groups"]), (&json!(records), &json!(4)), "{exported}");
    let ranges = [[TRIMMED, RECORDS], [0, RECORDS], [0, 0]];
    for (partition, [start, end]) in item["partitions"].as_array().unwrap().iter().zip(ranges) {
        assert_eq!((&partition["start"], &partition["end"]), (&json!(start), &json!(end)));
    }
    assert_eq!(fs::read_dir(kept.path()).unwrap().count(), 1, "nothing but the file");
    // What comes later is not in it.
    run_with(&["produce", TOPIC, "-p", "0", "-b", &shell.bootstrap], b"later\n").succeeded();
    let again = shell.run(&format!("topic export {TOPIC} --to {file}"));
    again.refused(USAGE, &["orders.jsonl is there already", "nothing was exported"]);

    shell.run(&format!("topic import {file}")).refused(FAILED, &["topic orders exists", "--into"]);
    let imported = shell.json(&format!("topic import {file} --into copy"));
    assert_eq!((&imported["kind"], &imported["version"]), (&json!("topic.import"), &json!(1)));
    assert_eq!(imported["item"]["records"], records);
    let moved = json!({"group": "billing", "partition": 0, "from": 50, "to": 50 - TRIMMED});
    assert!(imported["item"]["groups"].as_array().unwrap().contains(&moved), "{imported}");
    check(&shell, &client, "copy", &before).await;

    // The group goes on with the record that it had not done.
    let next = shell.run("consume copy -g billing -p 0 --until end --json");
    assert_eq!(next.code, USAGE, "a member takes what it is given: {next:#?}");
    let next = shell.run("consume copy -g billing --until end --json").succeeded();
    let lines = next.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let first = lines.into_iter().find(|line| line["partition"] == 0).unwrap();
    assert_eq!(first["offset"], 50 - TRIMMED);
    let time = before[0].iter().find(|record| record.offset == Offset(50)).unwrap().timestamp;
    assert_eq!(first["timestamp"], tidelog::Zone::Utc.show(time));

    // After a loss: the topic is gone, and comes back with its groups.
    shell.run(&format!("topic delete {TOPIC} -y")).succeeded();
    shell.run(&format!("topic import {file}")).succeeded();
    // Another client: the old one knows the topic that is gone.
    check(&shell, &stage.client().await, TOPIC, &before).await;
    drop((shell, client, stage));

    let mut other = Stage::with(1, |_| ()).await;
    other.start_all().await;
    let (shell, client) = (Shell::new(&other), other.client().await);
    let refused = shell.run(&format!("topic import {file}"));
    refused.refused(FAILED, &["topic orders: ", "replica", "nothing was written", "-r"]);
    assert!(shell.topics().is_empty());
    shell.run(&format!("topic import {file} -r 1 -z zstd")).succeeded();
    check(&shell, &client, TOPIC, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_and_a_busy_group_are_refused_before_anything_is_written() {
    let stage = Stage::ready().await;
    let (shell, client) = (Shell::new(&stage), stage.client().await);
    set_up(&shell, &client).await;
    let dir = stage.dir().join("backups");
    shell.run("topic create empty").succeeded();
    let to = dir.display();
    let exported = shell.json(&format!("topic export {TOPIC} empty {TOPIC} --to {to} --groups"));
    assert_eq!(exported["items"].as_array().map(Vec::len), Some(2), "{exported}");
    shell.run(&format!("topic export nobody --to {to}")).refused(FAILED, &["nobody"]);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
    let good = dir.join(format!("{TOPIC}.backup.jsonl"));
    let topics = shell.topics();

    let bytes = fs::read(&good).unwrap();
    let spoilt = dir.join("spoilt");
    let refused = |bytes: &[u8], words: &[&str]| {
        fs::write(&spoilt, bytes).unwrap();
        let ended = shell.run(&format!("topic import {} --into copy", spoilt.display()));
        ended.refused(FAILED, &[words, &["spoilt", "nothing was written"]].concat());
    };
    for at in [bytes.len() / 3, bytes.len() / 2, bytes.len() - 3] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        refused(&flipped, &["is damaged at line "]);
    }
    refused(&bytes[..bytes.len() / 2], &["is cut off at line ", "end mark"]);
    refused(b"hello\n", &["is no backup of a topic"]);
    refused(&[&bytes[..], b"more\n"].concat(), &["behind the end mark"]);
    shell.run("topic import /nowhere/x").refused(FAILED, &["/nowhere/x"]);
    shell.run("topic import /dev/null").refused(USAGE, &["/dev/null is no regular file"]);

    let consumer = client.consumer("billing").topics([TOPIC]).start(StartPolicy::Earliest);
    let mut consumer = consumer.build().await.unwrap();
    until("the group has a member", async || {
        // What comes is of no interest, only that it is a member.
        let _ = consumer.recv_batch(1, std::time::Duration::from_millis(20)).await;
        !client.admin().describe_group("billing").await.unwrap().members.is_empty()
    })
    .await;
    let busy = format!("topic import {} --into copy", good.display());
    shell.run(&busy).refused(FAILED, &["group billing has members", "--no-groups"]);
    assert_eq!(shell.topics(), topics, "none was made");
    shell.run(&format!("{busy} --no-groups")).succeeded();
    assert!(committed(&client, "audit", "copy").await.is_empty());
    consumer.close().await.unwrap();

    // Groups that have begun with the copy are not moved unseen.
    let begun = [(at("copy", 0), Offset(1))];
    client.admin().commit_group_offsets("audit", begun).await.unwrap().remove(0).1.unwrap();
    let again = format!("{busy} --resume");
    shell.run(&again).refused(FAILED, &["group audit has offsets of copy", "--overwrite-groups"]);
    shell.run(&format!("{again} --overwrite-groups")).succeeded();
    let wanted = [(0, RECORDS - TRIMMED, String::new()), (1, RECORDS, String::new())];
    assert_eq!(committed(&client, "audit", "copy").await, wanted);

    // Resuming into what is something else changes nothing of it.
    run_with(&["produce", "copy", "-p", "2", "-b", &shell.bootstrap], b"mine\n").succeeded();
    shell.run(&again).refused(FAILED, &["copy is not what", "partition 2 holds 1 records"]);
    shell
        .run(&format!("topic import {} --into empty --resume", good.display()))
        .refused(FAILED, &["empty is not what", "1 partitions"]);
}

/// Lines enough that an import takes a while.
const MANY: usize = 120_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_is_gone_on_with() {
    let stage = Stage::ready().await;
    let (shell, client) = (Shell::new(&stage), stage.client().await);
    let lines: String = (0..MANY).map(|number| format!("{number:0>60}\n")).collect();
    let produce = ["produce", TOPIC, "-k", "one", "-b", &shell.bootstrap];
    run_with(&produce, lines.as_bytes()).succeeded();
    commit(&client, "billing", &[(0, 0, "")]).await;
    let file = stage.dir().join("many");
    shell.run(&format!("topic export {TOPIC} --groups --to {}", file.display())).succeeded();

    for (name, signal) in [("killed", Signal::KILL), ("interrupted", Signal::INT)] {
        let stderr = loop {
            // A client of its own each time: it must not know a topic that was deleted.
            let client = stage.client().await;
            match interrupted(&shell, &client, &file, name, signal).await {
                Some(stderr) => break stderr,
                // It was done before it was told to end.
                None => shell.run(&format!("topic delete {name} -y")).succeeded(),
            };
        };
        let client = stage.client().await;
        let said = stderr.contains("is half-made: interrupted") && stderr.contains("--resume");
        assert!(said || signal == Signal::KILL, "{stderr}");
        assert!(committed(&client, "billing", name).await.is_empty(), "groups come last");
        let import = format!("topic import {} --into {name}", file.display());
        shell.run(&import).refused(FAILED, &[name, "exists already", "--resume"]);
        let resumed = shell.json(&format!("{import} --resume"));
        let count = resumed["item"]["resumed"].as_u64().unwrap();
        // All, if it was interrupted while it compared.
        assert!(count > 0 && count <= MANY as u64, "{resumed}");
        println!("{name} after {count} of {MANY} records");
        same(&read_all(&client, TOPIC).await, &read_all(&client, name).await);
        assert_eq!(committed(&client, "billing", name).await, [(0, 0, String::new())]);
    }
}

/// Ends an import as soon as it has written something, and gives what it said; `None` when it was done.
async fn interrupted(
    shell: &Shell,
    client: &Client,
    file: &Path,
    name: &str,
    signal: Signal,
) -> Option<String> {
    let file = file.to_str().unwrap();
    let args = ["topic", "import", file, "--into", name, "-b", &shell.bootstrap];
    let mut command = tidelog(&args);
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    until("some records are there", async || {
        let partitions = (0..PARTITIONS).map(|partition| (at(name, partition), OffsetAt::Latest));
        let listed = client.admin().list_offsets(partitions).await;
        listed.iter().any(|(_, listed)| listed.as_ref().is_ok_and(|end| end.offset > Offset(0)))
    })
    .await;
    kill_process(Pid::from_child(&child), signal).unwrap();
    let output = child.wait_with_output().unwrap();
    (!output.status.success()).then(|| String::from_utf8(output.stderr).unwrap())
}
