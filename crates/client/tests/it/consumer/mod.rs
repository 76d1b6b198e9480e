//! Consumers of a group: what they hand out, commit, give up and lose.

mod commits;
mod errors;
mod fences;
mod flow;
mod rebalance;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidelog_client::{
    Client, Consumer, ConsumerBuilder, ConsumerRecord, Listening, PartitionId, RebalanceListener,
    StartPolicy, TopicName, TopicPartition,
};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::fake::{Cluster, Group, PATIENCE, World, fill};

const TOPIC: &str = "orders";
const GROUP: &str = "billing";

/// A cluster whose topic has partitions of so many records each, in batches of three.
fn cluster(brokers: u32, partitions: u32, records: usize) -> Cluster {
    let cluster = Cluster::start(brokers);
    cluster.world.create(TOPIC, partitions);
    for partition in 0..partitions as usize {
        grow(&cluster.world, partition, 0..records);
    }
    cluster
}

/// Records whose values are their offsets.
fn grow(world: &World, partition: usize, offsets: std::ops::Range<usize>) {
    let values = offsets.map(|offset| offset.to_string()).collect::<Vec<_>>();
    for batch in values.chunks(3) {
        let records = batch.iter().map(|value| (value.as_str(), 100)).collect::<Vec<_>>();
        fill(world, TOPIC, partition, &records);
    }
}

fn place(partition: u32) -> TopicPartition {
    let topic = TopicName::new(TOPIC).unwrap();
    TopicPartition { topic, partition: PartitionId(partition) }
}

async fn client(cluster: &Cluster) -> Client {
    cluster.client().connect().await.unwrap()
}

async fn builder(cluster: &Cluster) -> ConsumerBuilder {
    let consumer = client(cluster).await.consumer(GROUP).topics([TOPIC]);
    consumer.start(StartPolicy::Earliest).manual_commit()
}

async fn next(consumer: &mut Consumer) -> ConsumerRecord {
    timeout(PATIENCE, consumer.recv()).await.unwrap().unwrap().unwrap()
}

/// The next records; each partition's in order and without a gap.
async fn take(consumer: &mut Consumer, count: usize) -> Vec<ConsumerRecord> {
    let mut records = Vec::<ConsumerRecord>::new();
    while records.len() < count {
        let record = next(consumer).await;
        assert_eq!(record.value.as_ref().unwrap(), &record.offset.to_string());
        let before = records.iter().rev().find(|before| before.partition == record.partition);
        assert!(before.is_none_or(|before| before.offset.next() == record.offset));
        records.push(record);
    }
    records
}

async fn group_is(cluster: &Cluster, wanted: impl Fn(&Group) -> bool) {
    let wait = cluster.world.wait(|state| state.groups.get(GROUP).is_some_and(&wanted));
    if timeout(PATIENCE, wait).await.is_err() {
        panic!("not in time: {:?}", cluster.world.state().groups[GROUP].journal);
    }
}

fn committed(cluster: &Cluster, partition: u32) -> Option<i64> {
    cluster.world.state().group(GROUP).committed(TOPIC, partition)
}

/// Waits until the consumer holds so many partitions.
async fn holds(cluster: &Cluster, consumer: &Consumer, partitions: usize) {
    let held = async {
        while consumer.assignment().len() != partitions {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let groups = || cluster.world.state().groups[GROUP].journal.clone();
    timeout(PATIENCE, held).await.unwrap_or_else(|_| panic!("{:?}", groups()));
}

/// Writes down what it is told, and may be busy when partitions are revoked.
#[derive(Clone, Default)]
struct Witness {
    told: Arc<Mutex<Vec<String>>>,
    busy: Option<Arc<Busy>>,
}

/// Keeps a listener.
#[derive(Default)]
struct Busy {
    entered: Notify,
    let_go: Notify,
}

impl Witness {
    /// One that is busy with every revocation until it is let go.
    fn busy() -> (Self, Arc<Busy>) {
        let busy = Arc::new(Busy::default());
        (Self { busy: Some(Arc::clone(&busy)), ..Self::default() }, busy)
    }

    fn tell(&self, what: &str, partitions: &[TopicPartition]) -> Listening<'_> {
        let names = partitions.iter().map(|p| p.partition.to_string()).collect::<Vec<_>>();
        self.told.lock().unwrap().push(format!("{what} {}", names.join(" ")));
        Box::pin(std::future::ready(()))
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

impl RebalanceListener for Witness {
    fn assigned<'a>(&'a self, partitions: &'a [TopicPartition]) -> Listening<'a> {
        self.tell("assigned", partitions)
    }

    fn revoked<'a>(&'a self, partitions: &'a [TopicPartition]) -> Listening<'a> {
        let told = self.tell("revoked", partitions);
        Box::pin(async move {
            told.await;
            if let Some(busy) = &self.busy {
                busy.entered.notify_one();
                busy.let_go.notified().await;
            }
        })
    }

    fn lost<'a>(&'a self, partitions: &'a [TopicPartition]) -> Listening<'a> {
        self.tell("lost", partitions)
    }
}
