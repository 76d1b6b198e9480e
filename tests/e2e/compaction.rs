//! Compacted topics: the newest record of each key is there, deleted keys are gone, whoever reads from
//! the start reaches the end, and all replicas hold the same; while brokers die.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tidelog_client::admin::NewTopic;
use tidelog_client::{
    BrokerId, Client, PartitionId, Position, Record, TopicName, TopicPartition, Until,
};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::command::{run, run_with};
use crate::stage::{PARTITIONS, PATIENCE, Stage, TOPIC, leader, rounds, until};

/// Keys that are written again and again.
const KEYS: u64 = 60;

/// What is known of the keys: the last value that was acked; `None` is a tombstone.
type Known = BTreeMap<String, Option<String>>;

/// A record as a reader meets it.
type Seen = (u64, Option<String>, Option<String>);

const QUICK: &str = "[storage]\nclean_every = \"150ms\"\n";

async fn create(client: &Client, configs: &[(&str, &str)]) {
    let mut topic = NewTopic::new(TOPIC.parse().unwrap()).partitions(PARTITIONS);
    for (key, value) in [("cleanup.policy", "compact"), ("segment.bytes", "8192")] {
        topic = topic.config(key, value);
    }
    for (key, value) in configs {
        topic = topic.config(*key, *value);
    }
    for (_, created) in client.admin().create_topics([topic]).await.unwrap() {
        created.unwrap();
    }
    for partition in 0..PARTITIONS {
        leader(client, partition).await;
    }
}

/// Writers that go on until they are told to end, each with keys of its own.
struct Writers {
    over: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    known: Arc<Mutex<Known>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    fn start(client: &Client, seed: u64) -> Self {
        let (over, acked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let known = Arc::<Mutex<Known>>::default();
        let tasks = (0..2).map(|writer| {
            let (over, acked, known) = (Arc::clone(&over), Arc::clone(&acked), Arc::clone(&known));
            tokio::spawn(write(client.clone(), writer, seed, over, acked, known))
        });
        Self { tasks: tasks.collect(), over, acked, known }
    }

    async fn go_on(&self, more: u64) {
        let goal = self.acked.load(Ordering::Relaxed) + more;
        until("acks go on", async || self.acked.load(Ordering::Relaxed) >= goal).await;
    }

    async fn end(self) -> Known {
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            timeout(PATIENCE, task).await.expect("every record is acked").unwrap();
        }
        Arc::try_unwrap(self.known).unwrap().into_inner().unwrap()
    }
}

async fn write(
    client: Client,
    writer: u64,
    seed: u64,
    over: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    known: Arc<Mutex<Known>>,
) {
    let producer =
        client.producer().set("compression.type", if writer == 0 { "lz4" } else { "none" });
    let producer = producer.build().await.unwrap();
    let mut rng = StdRng::seed_from_u64(seed ^ writer);
    let mut number = 0_u64;
    while !over.load(Ordering::Relaxed) {
        let mut round = Vec::new();
        let mut values = Known::new();
        for _ in 0..20 {
            let key = format!("{writer}-{}", rng.random_range(0..KEYS));
            let record = Record::to(TOPIC).key(key.clone());
            let value = rng.random_ratio(4, 5).then(|| format!("{number} {}", "v".repeat(80)));
            let record = match &value {
                Some(value) => record.value(value.clone()),
                None => record.tombstone(),
            };
            number += 1;
            values.insert(key, value);
            round.push(producer.enqueue(record).await.unwrap());
        }
        for delivery in round {
            delivery.await.expect("every record is acked");
            acked.fetch_add(1, Ordering::Relaxed);
        }
        known.lock().unwrap().extend(values);
        sleep(Duration::from_millis(2)).await;
    }
}

/// All of a partition, from the start to the end that it has now.
async fn read(client: &Client, partition: u32) -> Vec<Seen> {
    let topic: TopicName = TOPIC.parse().unwrap();
    let reader = client.reader().until(Until::End);
    let reader = reader.partition(topic, PartitionId(partition), Position::Earliest);
    let mut reader = reader.build().await.unwrap();
    let mut all: Vec<Seen> = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    while let Some(record) = timeout(PATIENCE, reader.recv()).await.expect("it ends").unwrap() {
        let offset = record.offset.0;
        assert!(all.last().is_none_or(|last| last.0 < offset), "offset {offset} out of order");
        let (key, value) = (record.key.as_deref().map(text), record.value.as_deref().map(text));
        all.push((offset, key, value));
    }
    all
}

/// The last value of each key; those that were deleted are not among them.
fn view(records: &[Seen]) -> Known {
    let mut view = Known::new();
    for (_, key, value) in records {
        view.insert(key.clone().unwrap(), value.clone());
    }
    view.retain(|_, value| value.is_some());
    view
}

/// What a partition's replicas hold, each read as its leader.
async fn of_each_replica(client: &Client, partition: u32) -> Vec<Vec<Seen>> {
    let mut all = Vec::new();
    for broker in 1..=3 {
        let (topic, partition_id) = (TOPIC.parse().unwrap(), PartitionId(partition));
        let place = TopicPartition { topic, partition: partition_id };
        until("the leadership goes over", async || {
            let to = Some(BrokerId(broker));
            let moved = client.admin().transfer_leaders([(place.clone(), to)]).await;
            drop(moved);
            leader(client, partition).await == broker
        })
        .await;
        all.push(read(client, partition).await);
    }
    all
}

/// One record to each partition, so that segments which are to be closed are.
async fn nudge(client: &Client) {
    let producer = client.producer().build().await.unwrap();
    for partition in 0..PARTITIONS {
        let record = Record::to(TOPIC).key(format!("nudge-{partition}")).value("nudge");
        producer.send(record.partition(PartitionId(partition))).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_record_of_each_key_outlives_every_death() {
    let mut stage = Stage::with(3, |setup| setup.settings = QUICK.parse().unwrap()).await;
    stage.start_all().await;
    let client = stage.client().await;
    create(&client, &[("min.cleanable.dirty.ratio", "0.2"), ("delete.retention.ms", "500")]).await;
    let writers = Writers::start(&client, stage.rng.random());
    let mut read_records = 0;
    for round in 0..rounds(6) {
        writers.go_on(1_000).await;
        let victims: Vec<u32> = match round % 3 {
            0 => vec![*[1, 2, 3].choose(&mut stage.rng).unwrap()],
            1 => vec![1, 2],
            _ => vec![1, 2, 3],
        };
        for id in &victims {
            stage.cluster.broker_mut(*id).kill().unwrap();
        }
        stage.start_all().await;
        for partition in 0..PARTITIONS {
            read_records += read(&client, partition).await.len();
        }
    }
    writers.go_on(200).await;
    let acked = writers.acked.load(Ordering::Relaxed);
    let mut known = writers.end().await;
    let deleted = known.values().filter(|value| value.is_none()).count();
    known.retain(|_, value| value.is_some());

    // Once all replicas have compacted, and the time of tombstones is over, they hold the same.
    let mut left = 0;
    until("all replicas hold the same", async || {
        nudge(&client).await;
        sleep(Duration::from_secs(1)).await;
        let (mut together, mut same) = (Known::new(), true);
        left = 0;
        for partition in 0..PARTITIONS {
            let all = of_each_replica(&client, partition).await;
            for records in &all {
                let mut partial = view(records);
                partial.retain(|key, _| !key.starts_with("nudge"));
                // Whether it is compacted or not, a view is never wrong.
                assert!(partial.iter().all(|(key, value)| known.get(key) == Some(value)));
            }
            together.extend(view(&all[0]));
            left += all[0].len();
            same &= all.iter().all(|records| *records == all[0]);
        }
        together.retain(|key, _| !key.starts_with("nudge"));
        assert_eq!(together, known);
        same
    })
    .await;
    println!(
        "{acked} acked, {deleted} keys deleted, {left} records left, {read_records} read meanwhile"
    );
    println!("figure records acked to compacted topics: {acked}");
    assert!((left as u64) < acked / 3, "{left} of {acked} records are left: compaction is slow");
}

/// A record as `produce --json` takes it.
fn line(key: u32, value: &str) -> String {
    format!("{{\"key\":\"k{key}\",\"value\":\"{value}\"}}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_is_switched_on_and_off_while_a_topic_lives() {
    let mut stage = Stage::with(3, |setup| setup.settings = QUICK.parse().unwrap()).await;
    stage.start_all().await;
    let list = stage.cluster.bootstrap().join(",");
    let tidelog = |args: &[&str]| run(&[args, &["-b", &list]].concat());
    let create = ["topic", "create", TOPIC, "-p", "1", "--config", "segment.bytes=4096"];
    tidelog(&create).succeeded();
    let lines: String = (0..400).map(|n| line(n % 4, &format!("value {n}"))).collect();
    let produce = ["produce", TOPIC, "-b", &list, "--json"];
    let count = || {
        let args = ["consume", TOPIC, "--until", "end", "-f", "%v\\n"];
        tidelog(&args).succeeded().stdout.lines().count()
    };
    run_with(&produce, lines.as_bytes()).succeeded();
    // Without a key, while that is allowed.
    run_with(&["produce", TOPIC, "-b", &list], b"no key\n").succeeded();
    assert_eq!(count(), 401);

    let set = |set: &str| tidelog(&["topic", "config", TOPIC, "--set", set]).succeeded();
    set("cleanup.policy=compact");
    set("min.cleanable.dirty.ratio=0");
    set("segment.ms=1");
    until("old values are gone", async || {
        run_with(&produce, line(0, "again").as_bytes()).succeeded();
        count() < 30
    })
    .await;
    let values = tidelog(&["consume", TOPIC, "--until", "end", "-f", "%v\\n"]).succeeded().stdout;
    for value in ["value 397", "value 398", "value 399", "no key", "again"] {
        assert!(values.lines().any(|line| line == value), "{value} is gone: {values}");
    }
    let refused = run_with(&["produce", TOPIC, "-b", &list], b"no key\n");
    refused.refused(1, &["has no key", "compacted"]);
    let odd = ["topic", "config", TOPIC, "--set", "cleanup.policy=shred"];
    tidelog(&odd).refused(1, &["cleanup.policy", "compact,delete"]);

    set("cleanup.policy=delete");
    let before = count();
    run_with(&produce, lines.as_bytes()).succeeded();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(count(), before + 400, "nothing is compacted any more");
}
