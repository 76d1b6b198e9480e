//! What is done and measured, in this order.

use std::path::Path;
use std::time::Duration;

use tidelog_client::admin::NewTopic;
use tidelog_client::{Client, PartitionId, Producer, Record, TopicName};
use tokio::time::{Instant, sleep};

use super::usage::{Held, idle, resident_mib};
use super::{PartitionsArgs, Report};
use crate::Failure;
use crate::args::Globals;
use crate::bench::latency::Latencies;
use crate::bench::nodes::{self, READY_WITHIN};
use crate::bench::source::failed;
use crate::bench::topic::{self, Topic};
use crate::local::{LocalCluster, Setup};
use crate::progress::Teller;

const REPLICAS: u32 = 3;
/// How long all partitions may take to have leaders, or a broker to come back.
const WITHIN: Duration = Duration::from_secs(900);
/// Sleeping partitions that are written to.
const FIRST_WRITES: u32 = 100;

/// Runs the whole measurement below `dir`.
pub(super) async fn tell(
    globals: &Globals,
    args: &PartitionsArgs,
    dir: &Path,
) -> Result<Report, Failure> {
    let teller = Teller::new();
    let (empty_ready_ms, empty_rss_mib) = empty_broker(&dir.join("empty")).await?;
    teller.say(&format!("starting {} brokers in {}", args.nodes, dir.display()));
    let mut cluster = nodes::start(&dir.join("cluster"), args.nodes).await?;
    let client = nodes::connect(globals, &cluster).await?;
    let writer = Writer::new(&client, args.nodes).await?;
    let before = Held::of(&cluster)?;

    let topic = named("many", args.count);
    let begun = Instant::now();
    create(&client, &topic).await?;
    let create_ms = ms(begun);
    nodes::serving(globals, &cluster, &topic, None, WITHIN).await?;
    let ready_ms = ms(begun);
    teller.say(&format!("{} partitions are ready after {ready_ms:.0} ms", args.count));
    sleep(Duration::from_secs(args.settle.into())).await;
    let brokers = idle(&cluster, Duration::from_secs(args.idle.into())).await?;
    let replicas = u64::from(args.count) * u64::from(REPLICAS);
    let (disk_bytes_per_replica, open_files_per_replica) =
        Held::of(&cluster)?.per_replica(&before, replicas);

    let first = writer.first_writes(&topic).await?;
    teller.say(&format!("first writes to {} partitions are done", first.count));
    let lost = lose_broker(globals, &mut cluster, &client, &topic).await?;
    Ok(Report {
        nodes: args.nodes,
        partitions: args.count,
        replicas_per_partition: REPLICAS,
        settle_s: args.settle,
        idle_s: args.idle,
        empty_ready_ms,
        empty_rss_mib,
        create_ms,
        ready_ms,
        brokers,
        disk_bytes_per_replica,
        open_files_per_replica,
        first_writes: first.count,
        first_write: first.latencies.percentiles(),
        killed_broker: lost.broker,
        leaders_lost: lost.leaders,
        leaders_again_ms: lost.leaders_again_ms,
        in_sync_ms: lost.in_sync_ms,
    })
}

/// A broker alone: how long until it is ready, in milliseconds, and its memory then, in MiB.
async fn empty_broker(dir: &Path) -> Result<(f64, f64), Failure> {
    let setup = Setup::new(dir, 1).map_err(nodes::local)?;
    let mut cluster = LocalCluster::create(&setup).map_err(nodes::local)?;
    let begun = Instant::now();
    cluster.start_all().map_err(nodes::local)?;
    cluster.ready(READY_WITHIN).await.map_err(nodes::local)?;
    let ready_ms = ms(begun);
    let rss_mib = resident_mib(cluster.broker(1))?;
    cluster.stop_all(READY_WITHIN).await.map_err(nodes::local)?;
    Ok((ready_ms, rss_mib))
}

async fn create(client: &Client, topic: &Topic) -> Result<(), Failure> {
    let new = NewTopic::new(topic.name.clone()).partitions(topic.partitions);
    for (_, created) in client.admin().create_topics([new.replication_factor(REPLICAS)]).await? {
        created?;
    }
    Ok(())
}

fn named(name: &str, partitions: u32) -> Topic {
    Topic { name: TopicName::new(name).expect("it is a topic name"), partitions }
}

/// Writes one record at a time.
struct Writer(Producer);

struct FirstWrites {
    count: u32,
    latencies: Latencies,
}

impl Writer {
    /// Has connections to all brokers: it has written to a topic with a partition for each.
    async fn new(client: &Client, nodes: u32) -> Result<Self, Failure> {
        let topic = named("awake", nodes);
        let new = NewTopic::new(topic.name.clone()).partitions(nodes).replication_factor(REPLICAS);
        topic::create(client, new).await?;
        let writer = Self(client.producer().linger(Duration::ZERO).build().await?);
        for partition in 0..nodes {
            writer.write(&topic, partition).await?;
        }
        Ok(writer)
    }

    /// One record to each of some partitions that nobody has written to, all over the topic.
    async fn first_writes(&self, topic: &Topic) -> Result<FirstWrites, Failure> {
        self.0.warm_up(&topic.name).await.map_err(failed)?;
        let mut latencies = Latencies::new();
        let count = topic.partitions.min(FIRST_WRITES);
        for number in 0..count {
            let partition = spread(number, count, topic.partitions);
            latencies.record(self.write(topic, partition).await?);
        }
        Ok(FirstWrites { count, latencies })
    }

    async fn write(&self, topic: &Topic, partition: u32) -> Result<Duration, Failure> {
        let record = Record::to(topic.name.clone()).value("first");
        let begun = Instant::now();
        self.0.send(record.partition(PartitionId(partition))).await.map_err(failed)?;
        Ok(begun.elapsed())
    }
}

/// The place of one of `count` in `whole`, evenly spread.
fn spread(number: u32, count: u32, whole: u32) -> u32 {
    (u64::from(number) * u64::from(whole) / u64::from(count)) as u32
}

struct Lost {
    broker: u32,
    leaders: u32,
    leaders_again_ms: f64,
    in_sync_ms: f64,
}

/// Kills the leader of the first partition, and starts it again once others lead all it led.
async fn lose_broker(
    globals: &Globals,
    cluster: &mut LocalCluster,
    client: &Client,
    topic: &Topic,
) -> Result<Lost, Failure> {
    let broker = nodes::leader(client, topic, 0, WITHIN, |_| true).await?;
    let facts = client.admin().describe_topic(&topic.name).await?;
    let leaders = facts.partitions.iter().filter_map(|partition| partition.leader.as_ref());
    let leaders = leaders.filter(|leader| leader.broker.0 == broker).count() as u32;
    let begun = Instant::now();
    cluster.broker_mut(broker).kill().map_err(nodes::local)?;
    nodes::serving(globals, cluster, topic, Some(broker), WITHIN).await?;
    let leaders_again_ms = ms(begun);
    let begun = Instant::now();
    let back = cluster.broker_mut(broker);
    back.start().map_err(nodes::local)?;
    back.ready(READY_WITHIN).await.map_err(nodes::local)?;
    nodes::caught_up(client, topic, back, WITHIN).await?;
    nodes::in_sync(client, topic, 0, WITHIN).await?;
    Ok(Lost { broker, leaders, leaders_again_ms, in_sync_ms: ms(begun) })
}

fn ms(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn samples_are_distinct_and_all_over() {
        for (count, whole) in [(100, 1_000), (8, 8), (100, 101), (3, 10_000)] {
            let mut all = (0..count).map(|number| spread(number, count, whole)).collect::<Vec<_>>();
            assert!(all.iter().all(|partition| *partition < whole));
            all.dedup();
            assert_eq!(all.len(), count as usize);
        }
        assert_eq!(spread(50, 100, 1_000), 500);
    }
}
