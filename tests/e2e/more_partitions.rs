//! A topic gets more partitions while it is written to and read: producers and members of groups take
//! them up by themselves.

use std::collections::BTreeSet;
use std::time::Duration;

use tidelog_client::{Client, PartitionId, Record, StartPolicy};

use crate::command::run;
use crate::stage::{PARTITIONS, Stage, TOPIC, until, within};

const TOTAL: u32 = PARTITIONS + 2;

#[tokio::test(flavor = "multi_thread")]
async fn new_partitions_are_written_to_and_read_by_who_is_at_work() {
    let stage = Stage::ready().await;
    let bootstrap = stage.cluster.bootstrap();
    let client = Client::builder(&bootstrap).metadata_age(Duration::from_millis(200));
    let client = client.connect().await.unwrap();
    let consumer = client.consumer("billing").topics([TOPIC]).start(StartPolicy::Earliest);
    let mut consumer = consumer.build().await.unwrap();
    let producer = client.producer().build().await.unwrap();
    let named = |partition| Record::to(TOPIC).value("named").partition(PartitionId(partition));
    let early = producer.send(named(TOTAL - 1)).await.unwrap_err();
    assert!(early.to_string().contains(&format!("{PARTITIONS} partitions")), "{early}");
    producer.send(Record::to(TOPIC).value("first")).await.unwrap();

    let list = bootstrap.join(",");
    let add = |total: u32, more: &[&str]| {
        let total = total.to_string();
        let args = ["topic", "add-partitions", TOPIC, "--total", &total, "-b", &list];
        run(&[&args[..], more].concat())
    };
    add(TOTAL, &[]).refused(2, &["adds 2 partitions", "records of a key", "pass -y"]);
    add(PARTITIONS - 1, &["-y"]).refused(1, &["INVALID_PARTITIONS", "none is ever taken away"]);
    add(TOTAL, &["-y"]).succeeded();
    // It is so already.
    add(TOTAL, &["-y"]).succeeded();

    // A record that names one has the topic looked up at once.
    let written = within("a new partition is written to", producer.send(named(TOTAL - 1))).await;
    assert_eq!(written.unwrap().offset.0, 0);
    let mut used = BTreeSet::new();
    until("records without a key go everywhere", async || {
        let written = producer.send(Record::to(TOPIC).value("anywhere")).await.unwrap();
        used.insert(written.partition.0);
        used.len() == TOTAL as usize
    })
    .await;

    let mut read = BTreeSet::new();
    until("the group reads all partitions", async || {
        let records = consumer.recv_batch(100, Duration::from_millis(100)).await.unwrap();
        read.extend(records.unwrap_or_default().iter().map(|record| record.partition.0));
        read.len() == TOTAL as usize
    })
    .await;
    consumer.close().await.unwrap();
}
