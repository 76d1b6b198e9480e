//! Three brokers and a client that writes, then reads everything back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidelog_broker::Broker;
use tidelog_broker::config::{Config, HostPort, InitialBroker};
use tidelog_client::admin::NewTopic;
use tidelog_client::{Client, Position, Producer, Record, RecordMetadata, TopicName, Until};
use tidelog_types::BrokerId;
use turmoil::Sim;

use crate::disk::TracedDisk;
use crate::network::HostNetwork;
use crate::surroundings;
use crate::trace::Trace;

/// Brokers of the cluster.
const BROKERS: u32 = 3;

/// Partitions of the topic.
const PARTITIONS: u32 = 3;

/// Records in one round of the client.
const ROUND: usize = 20;

/// Pause between two rounds.
const PAUSE: Duration = Duration::from_millis(100);

/// Beyond this a run hangs.
const SIMULATED_MAX: Duration = Duration::from_secs(120);

const TOPIC: &str = "orders";

type Failure = Box<dyn std::error::Error>;

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    /// Records that were acked, and read back.
    pub(crate) acked: usize,
}

/// Runs a cluster for `length` of simulated time and checks that what was acked is read.
pub(crate) fn run(seed: u64, length: Duration, trace: &Trace) -> Result<Report, Failure> {
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(length + SIMULATED_MAX)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(5))
        .build();
    for id in 1..=BROKERS {
        add_broker(&mut sim, seed, id, trace);
    }
    let report = Arc::new(Mutex::new(Report::default()));
    let (told, trace) = (Arc::clone(&report), trace.clone());
    sim.client("client", async move {
        let acked = write_and_read(seed, length, trace).await?;
        told.lock().unwrap_or_else(PoisonError::into_inner).acked = acked;
        Ok(())
    });
    sim.run()?;
    let report = *report.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(report)
}

fn host(id: u32) -> String {
    format!("broker-{id}")
}

fn config(id: u32) -> Config {
    let at = |host: &str, port| HostPort { host: host.to_owned(), port };
    let initial = |id| InitialBroker { id: BrokerId(id), address: at(&host(id), 7171) };
    let mut config = Config {
        broker_id: id,
        data_dir: PathBuf::from("/data"),
        initial_brokers: (1..=BROKERS).map(initial).collect(),
        ..Config::default()
    };
    let listener = &mut config.listener;
    for (listener, port) in
        [(&mut listener.client, 7071), (&mut listener.internal, 7171), (&mut listener.http, 8071)]
    {
        listener.bind = at("0.0.0.0", port);
        listener.advertised = Some(at(&host(id), port));
    }
    config
}

fn add_broker(sim: &mut Sim<'_>, seed: u64, id: u32, trace: &Trace) {
    let disk = TracedDisk::new(&host(id), trace.clone());
    let network = HostNetwork::new(&host(id), trace.clone());
    sim.host(host(id), move || {
        let env =
            surroundings::of_broker(seed ^ u64::from(id) << 32, disk.clone(), network.clone());
        async move {
            let broker = Broker::start(config(id), env).await?;
            Ok(broker.wait().await?)
        }
    });
}

async fn write_and_read(seed: u64, length: Duration, trace: Trace) -> Result<usize, Failure> {
    let network = HostNetwork::new("client", trace.clone());
    let client = Client::builder((1..=BROKERS).map(|id| format!("{}:7071", host(id))))
        .environment(surroundings::of_client(seed ^ 0xc11e47, network))
        .connect()
        .await?;
    let topic: TopicName = TOPIC.parse()?;
    let created = client.admin().create_topics([NewTopic::new(topic).partitions(PARTITIONS)]).await;
    for (_, outcome) in created? {
        outcome?;
    }
    let producer = client.producer().build().await?;
    let mut acked = BTreeMap::new();
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < length {
        for (value, at) in write_round(&producer, acked.len()).await? {
            trace.line(format_args!("client acked {value} at {}/{}", at.partition, at.offset));
            acked.insert((at.partition, at.offset), value);
        }
        tokio::time::sleep(PAUSE).await;
    }
    let read = read_all(&client).await?;
    trace.line(format_args!("client read {} records", read.len()));
    if read != acked {
        return Err(format!("acked {} records, read others: {}", acked.len(), read.len()).into());
    }
    Ok(read.len())
}

async fn write_round(
    producer: &Producer,
    first: usize,
) -> Result<Vec<(String, RecordMetadata)>, Failure> {
    let values: Vec<_> = (first..first + ROUND).map(|n| format!("order {n}")).collect();
    let record = |value: &String| Record::to(TOPIC).key(value.clone()).value(value.clone());
    let outcomes = producer.send_all(values.iter().map(record)).await;
    let mut written = Vec::new();
    for (value, outcome) in values.into_iter().zip(outcomes) {
        written.push((value, outcome?));
    }
    Ok(written)
}

async fn read_all(
    client: &Client,
) -> Result<BTreeMap<(tidelog_client::PartitionId, tidelog_client::Offset), String>, Failure> {
    let reader = client.reader().topic(TOPIC, Position::Earliest).until(Until::End);
    let mut reader = reader.build().await?;
    let mut read = BTreeMap::new();
    while let Some(record) = reader.recv().await? {
        let value = String::from_utf8(record.value.unwrap_or_default().to_vec())?;
        let at = (record.partition, record.offset);
        if read.insert(at, value).is_some() {
            return Err(format!("{}/{} was read twice", at.0, at.1).into());
        }
    }
    Ok(read)
}
