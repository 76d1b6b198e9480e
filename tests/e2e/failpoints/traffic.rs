//! What a cluster has to do beside the load: topics that come and go, one that forgets what is old, and
//! a group that commits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidelog_client::admin::NewTopic;
use tidelog_client::{Client, Offset, PartitionId, Producer, Record, TopicName, TopicPartition};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::stage::{PARTITIONS, PATIENCE, TOPIC, until, within};

const FORGETFUL: &str = "forgetful";
const GROUP: &str = "storm";
const PAUSE: Duration = Duration::from_millis(5);
const SCRUB_EVERY: Duration = Duration::from_millis(200);
const SCRUB_WITHIN: Duration = Duration::from_secs(5);

/// Clients at work, until [`Traffic::finish`].
pub(super) struct Traffic {
    client: Client,
    stop: Arc<AtomicBool>,
    commits: JoinHandle<Commits>,
    topics: JoinHandle<u32>,
    scrubs: JoinHandle<u32>,
}

/// What became of the commits, each higher than the one before.
#[derive(Default)]
struct Commits {
    accepted: Option<Offset>,
    /// Above the accepted one, or with an outcome that nobody knows.
    possible: BTreeSet<Offset>,
    count: u32,
}

impl Traffic {
    /// `rotting` is where the broker listens whose replicas are read again and again.
    pub(super) async fn start(client: Client, rotting: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let topic = NewTopic::new(FORGETFUL.parse().unwrap()).partitions(1);
        let topic = topic.config("segment.bytes", "4096").config("retention.bytes", "8192");
        let created = within("a topic is created", client.admin().create_topics([topic])).await;
        for (_, created) in created.unwrap() {
            created.unwrap();
        }
        let producer = client.producer().build().await.unwrap();
        let commits = tokio::spawn(commit(client.clone(), producer, Arc::clone(&stop)));
        let topics = tokio::spawn(come_and_go(client.clone(), Arc::clone(&stop)));
        let scrubs = tokio::spawn(scrub(client.clone(), rotting, Arc::clone(&stop)));
        Self { client, stop, commits, topics, scrubs }
    }

    /// Ends it in a cluster that is well, and compares what is there with what was accepted.
    pub(super) async fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        let commits = within("commits end", self.commits).await.unwrap();
        let gone = within("topics come and go", self.topics).await.unwrap();
        let read = within("scrubs end", self.scrubs).await.unwrap();
        let Commits { count, .. } = commits;
        println!("{count} commits accepted, {gone} topics came and went, {read} replicas scrubbed");
        let accepted = commits.accepted.expect("a commit was accepted");
        let group = self.client.admin().describe_group(GROUP).await.unwrap();
        let committed = group.partitions[0].committed.as_ref().expect("it was accepted").offset;
        assert!(
            committed == accepted || commits.possible.contains(&committed),
            "{committed} is committed, but {accepted} was accepted last"
        );
        assert!(gone > 0, "no topic came and went");
        until("deleted topics are gone", async || {
            let topics = self.client.admin().list_topics().await.unwrap();
            !topics.iter().any(|topic| is_passing(&topic.name))
        })
        .await;
    }
}

/// Produces to the forgetful topic, and commits what was acked.
async fn commit(client: Client, producer: Producer, stop: Arc<AtomicBool>) -> Commits {
    let mut commits = Commits::default();
    let partition = TopicPartition { topic: FORGETFUL.parse().unwrap(), partition: PartitionId(0) };
    while !stop.load(Ordering::Relaxed) {
        sleep(PAUSE).await;
        let record = Record::to(FORGETFUL).value(vec![b'f'; 300]);
        let written = producer.send(record).await.unwrap();
        let next = Offset(written.offset.0 + 1);
        commits.possible.insert(next);
        let offsets = [(partition.clone(), next)];
        // What is not accepted may have happened all the same, and is tried no more.
        let Ok(results) = client.admin().commit_group_offsets(GROUP, offsets).await else {
            continue;
        };
        if results.into_iter().all(|(_, result)| result.is_ok()) {
            commits.accepted = Some(next);
            commits.count += 1;
        }
    }
    commits
}

/// Has a broker read its replicas of the topic again, whenever it is there; how many it has read.
async fn scrub(client: Client, at: String, stop: Arc<AtomicBool>) -> u32 {
    let mut read = 0;
    while !stop.load(Ordering::Relaxed) {
        for number in 0..PARTITIONS {
            let topic = TOPIC.parse().unwrap();
            let partition = TopicPartition { topic, partition: PartitionId(number) };
            // A broker that is down, or about to end, reads nothing.
            let scrubbed = client.admin().scrub_at(&at, &partition, 0, SCRUB_WITHIN).await;
            read += u32::from(scrubbed.is_ok());
        }
        sleep(SCRUB_EVERY).await;
    }
    read
}

fn passing(number: u32) -> TopicName {
    format!("passing-{number}").parse().unwrap()
}

fn is_passing(name: &TopicName) -> bool {
    name.as_str().starts_with("passing-")
}

/// Creates and deletes topics; how many.
async fn come_and_go(client: Client, stop: Arc<AtomicBool>) -> u32 {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let name = passing(number);
        let deadline = Instant::now() + PATIENCE;
        while !is_created(&client, &name).await {
            assert!(Instant::now() < deadline, "{name} is not created");
        }
        while !is_deleted(&client, &name).await {
            assert!(Instant::now() < deadline, "{name} is not deleted");
        }
    }
    number
}

/// Creates a topic. An outcome that nobody knows is settled by asking once more.
async fn is_created(client: &Client, name: &TopicName) -> bool {
    let topic = NewTopic::new(name.clone()).partitions(1);
    let created = client.admin().create_topics([topic]).await;
    let created = created.is_ok_and(|all| all.iter().all(|(_, one)| one.is_ok()));
    sleep(PAUSE).await;
    created || client.admin().describe_topic(name).await.is_ok()
}

/// Deletes a topic, in the same way.
async fn is_deleted(client: &Client, name: &TopicName) -> bool {
    let deleted = client.admin().delete_topics([name.clone()]).await;
    let deleted = deleted.is_ok_and(|all| all.iter().all(|(_, one)| one.is_ok()));
    sleep(PAUSE).await;
    let topics = client.admin().list_topics().await;
    deleted || topics.is_ok_and(|topics| topics.iter().all(|topic| topic.name != *name))
}
