//! `tidelog bench produce`: acked records per second, and how long acks take.
//!
//! Without a rate each client sends as fast as its buffer empties: the records per second are what the
//! cluster can do, and the latencies are mostly time in that buffer. With a rate every record has a
//! moment at which it is due, and its latency counts from then on, so that a cluster that stalls is not
//! asked less (no coordinated omission).

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use rand::RngCore;
use serde::Serialize;
use tidelog_client::admin::NewTopic;
use tidelog_client::{Client, PartitionId, Producer, Record, TopicName};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::Failure;
use crate::args::Globals;
use crate::connect::connect;
use crate::output::Page;
use crate::topic::partition_count;

/// Different payloads, so that nothing compresses across records of a batch.
const PAYLOADS: usize = 64;

/// The longest latency that is told apart.
const LATENCY_MAX: Duration = Duration::from_secs(120);

/// Records are due in heaps of this length: a timer per record would measure the timer.
const HEAP: Duration = Duration::from_millis(1);

/// Arguments of `tidelog bench produce`.
#[derive(Args, Debug)]
pub(crate) struct ProduceArgs {
    /// Topic to write to; else one is created, and deleted at the end
    #[arg(long)]
    topic: Option<TopicName>,
    /// Partitions of the topic that is created
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    partitions: u32,
    /// Bytes of each value, random
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    size: u32,
    /// Records to write, of all clients together
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Producers, each with connections of its own
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    clients: u32,
    /// Records per second of all clients together; else as fast as acks come
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Measured {
    topic: String,
    partitions: u32,
    clients: u32,
    value_bytes: u32,
    records: u64,
    seconds: f64,
    records_per_s: f64,
    mb_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
}

/// Measures, and takes away what it created.
pub(crate) async fn run(globals: &Globals, args: ProduceArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let (topic, created) = match &args.topic {
        Some(topic) => (topic.clone(), false),
        None => (create(&client, args.partitions).await?, true),
    };
    let measured = measure(globals, &client, &topic, &args).await;
    if created {
        for (_, deleted) in client.admin().delete_topics([topic]).await? {
            deleted?;
        }
    }
    let measured = measured?;
    globals.output().item("bench", &measured, |_| page(&measured))?;
    Ok(ExitCode::SUCCESS)
}

async fn create(client: &Client, partitions: u32) -> Result<TopicName, Failure> {
    let name = format!("bench-{:016x}", rand::rng().next_u64());
    let name = TopicName::new(&name).expect("hexadecimal digits make a topic name");
    let topic = NewTopic::new(name.clone()).partitions(partitions);
    for (_, created) in client.admin().create_topics([topic]).await? {
        created?;
    }
    Ok(name)
}

async fn measure(
    globals: &Globals,
    client: &Client,
    topic: &TopicName,
    args: &ProduceArgs,
) -> Result<Measured, Failure> {
    let partitions = partition_count(client, topic).await?;
    let mut producers = Vec::new();
    for _ in 0..args.clients {
        producers.push(connect(globals).await?.producer().build().await?);
    }
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, producer) in (0u64..).zip(producers) {
        let clients = u64::from(args.clients);
        let share = args.records / clients + u64::from(number < args.records % clients);
        let source = Source {
            producer,
            topic: topic.clone(),
            partitions,
            payloads: payloads(args.size as usize),
            records: share,
            per_heap: args.rate.map(|rate| rate as f64 * HEAP.as_secs_f64() / clients as f64),
        };
        tasks.spawn(source.run());
    }
    let mut latencies = histogram();
    while let Some(done) = tasks.join_next().await {
        let own = done.map_err(|err| Failure::new(format!("a producer panicked: {err}")))??;
        latencies.add(own).expect("both have the same bounds");
    }
    let seconds = begun.elapsed().as_secs_f64();
    let ms = |quantile| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
    let records = latencies.len();
    Ok(Measured {
        topic: topic.to_string(),
        partitions,
        clients: args.clients,
        value_bytes: args.size,
        records,
        seconds,
        records_per_s: records as f64 / seconds,
        mb_per_s: records as f64 * f64::from(args.size) / seconds / 1e6,
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
        p999_ms: ms(0.999),
        max_ms: latencies.max() as f64 / 1_000.0,
    })
}

fn page(measured: &Measured) -> Page {
    Page::new().facts(vec![
        ("records", measured.records.to_string()),
        ("seconds", format!("{:.2}", measured.seconds)),
        ("records/s", format!("{:.0}", measured.records_per_s)),
        ("MB/s", format!("{:.1}", measured.mb_per_s)),
        ("p50 ms", format!("{:.2}", measured.p50_ms)),
        ("p99 ms", format!("{:.2}", measured.p99_ms)),
        ("p99.9 ms", format!("{:.2}", measured.p999_ms)),
        ("max ms", format!("{:.2}", measured.max_ms)),
    ])
}

/// Microseconds, to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX.as_micros() as u64, 3).expect("the bounds make sense")
}

/// Random bytes do not compress.
fn payloads(bytes: usize) -> Vec<bytes::Bytes> {
    let mut random = rand::rng();
    let mut payload = || {
        let mut payload = vec![0; bytes];
        random.fill_bytes(&mut payload);
        payload.into()
    };
    (0..PAYLOADS).map(|_| payload()).collect()
}

/// One producer's work.
struct Source {
    producer: Producer,
    topic: TopicName,
    partitions: u32,
    payloads: Vec<bytes::Bytes>,
    records: u64,
    /// Records that are due with each heap; `None` as fast as acks come.
    per_heap: Option<f64>,
}

impl Source {
    /// Sends and waits for every ack; gives the latencies in microseconds.
    async fn run(self) -> Result<Histogram<u64>, Failure> {
        let mut latencies = histogram();
        let mut acks = FuturesUnordered::new();
        let begun = Instant::now();
        let mut sent = 0;
        while sent < self.records {
            let due = self.due(begun, sent);
            // Acks are taken while nothing is due: they must not wait for the next record.
            while due > Instant::now() {
                tokio::select! {
                    biased;
                    Some(acked) = acks.next() => note(&mut latencies, acked)?,
                    () = sleep_until(due) => {}
                }
            }
            let partition = PartitionId((sent % u64::from(self.partitions)) as u32);
            let payload = self.payloads[sent as usize % PAYLOADS].clone();
            let record = Record::to(self.topic.clone()).value(payload).partition(partition);
            let from = if self.per_heap.is_some() { due } else { Instant::now() };
            let delivery = loop {
                tokio::select! {
                    biased;
                    delivery = self.producer.enqueue(record.clone()) => break delivery.map_err(failed)?,
                    Some(acked) = acks.next() => note(&mut latencies, acked)?,
                }
            };
            acks.push(async move { (from, delivery.await) });
            sent += 1;
        }
        while let Some(acked) = acks.next().await {
            note(&mut latencies, acked)?;
        }
        Ok(latencies)
    }

    /// When a record should be sent.
    fn due(&self, begun: Instant, sent: u64) -> Instant {
        match self.per_heap {
            Some(per_heap) => begun + HEAP.mul_f64((sent as f64 / per_heap).floor()),
            None => begun,
        }
    }
}

type Acked = (Instant, Result<tidelog_client::RecordMetadata, tidelog_client::ProduceError>);

fn note(latencies: &mut Histogram<u64>, (from, acked): Acked) -> Result<(), Failure> {
    acked.map_err(failed)?;
    latencies.saturating_record(from.elapsed().as_micros() as u64);
    Ok(())
}

fn failed(err: tidelog_client::ProduceError) -> Failure {
    Failure::new(format!("a record was not written: {}", crate::chain(&err)))
}
