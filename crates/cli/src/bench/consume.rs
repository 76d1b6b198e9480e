//! `tidelog bench consume`: records read per second, from the start of a topic to its end.
//!
//! Each client reads its share of the partitions, a batch of the broker's at a time. The latencies are
//! how long each wait for the next batch took: near nothing while batches are ahead of the reader.

use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use tidelog_client::admin::OffsetAt;
use tidelog_client::{Client, PartitionId, Position, Reader, RecordMetadata, Until};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::latency::Latencies;
use super::measured::{Measured, Rate};
use super::options::LoadArgs;
use super::payload::Payloads;
use super::source::{Cargo, Plan};
use super::topic::{Topic, with_topic};
use super::verify::{bytes_of, next_batch};
use super::watched::{Counter, watched};
use crate::Failure;
use crate::args::Globals;
use crate::connect::connect;

/// Records of a topic that is created.
const RECORDS: u64 = 1_000_000;

/// Arguments of `tidelog bench consume`.
#[derive(Args, Debug)]
pub(crate) struct ConsumeArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Records to fill the new topic with, not measured (1000000); with --topic, how many to read at
    /// least, instead of all
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    records: Option<u64>,
}

/// Measures, and takes away what it created.
pub(crate) async fn run(globals: &Globals, args: ConsumeArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let measured = with_topic(&client, &args.load, async |topic| {
        refuse_idle_clients(topic, args.load.clients)?;
        match &args.load.topic {
            Some(_) => read_what_is_there(globals, &client, topic, &args).await,
            None => read_what_is_new(globals, topic, &args).await,
        }
    });
    let measured = measured.await?;
    globals.output().item("bench", &measured, |_| measured.page())?;
    Ok(ExitCode::SUCCESS)
}

fn refuse_idle_clients(topic: &Topic, clients: u32) -> Result<(), Failure> {
    if clients <= topic.partitions {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{clients} clients cannot share {} partitions; use --clients {0} or less",
        topic.partitions
    )))
}

async fn read_what_is_there(
    globals: &Globals,
    client: &Client,
    topic: &Topic,
    args: &ConsumeArgs,
) -> Result<Measured, Failure> {
    let first = topic.offsets(client, OffsetAt::Earliest).await?;
    let end = topic.offsets(client, OffsetAt::Latest).await?;
    let there = first.iter().zip(&end).map(|(first, end)| end.0 - first.0).sum::<u64>();
    if there == 0 {
        return Err(Failure::new(format!("topic {} is empty", topic.name)));
    }
    let wanted = args.records.unwrap_or(u64::MAX);
    measure(globals, topic, args, there.min(wanted), wanted).await
}

async fn read_what_is_new(
    globals: &Globals,
    topic: &Topic,
    args: &ConsumeArgs,
) -> Result<Measured, Failure> {
    let records = args.records.unwrap_or(RECORDS);
    fill(globals, topic, &args.load, records).await?;
    let measured = measure(globals, topic, args, records, u64::MAX).await?;
    if measured.rate.records != records {
        let read = measured.rate.records;
        return Err(Failure::new(format!("{read} records were read, {records} were written")));
    }
    Ok(Measured { value_bytes: Some(args.load.size), ..measured })
}

async fn fill(
    globals: &Globals,
    topic: &Topic,
    load: &LoadArgs,
    records: u64,
) -> Result<(), Failure> {
    let clients = load.connect(globals).await?;
    let payloads = Payloads::random(load.size);
    let plan = Plan { records: Some(records), ..Plan::new(topic) };
    let sources = plan.start(&clients, |_, _| Filling(payloads.clone())).await?;
    watched("filling", records, &plan.counter, sources.join()).await?;
    Ok(())
}

/// Records that are only there to be read.
struct Filling(Payloads);

impl Cargo for Filling {
    fn value(&mut self, number: u64) -> Bytes {
        self.0.of(number)
    }

    fn acked(&mut self, _: u64, _: Instant, _: &RecordMetadata) {}
}

/// Reads until the end, or until all clients together have `wanted` records.
async fn measure(
    globals: &Globals,
    topic: &Topic,
    args: &ConsumeArgs,
    total: u64,
    wanted: u64,
) -> Result<Measured, Failure> {
    let clients = args.load.connect(globals).await?;
    let counter = Arc::new(Counter::default());
    let begun = Instant::now();
    let mut readers = JoinSet::new();
    for (number, client) in (0..).zip(&clients) {
        let reader = reader(client, topic, number, args.load.clients).await?;
        readers.spawn(read(reader, Arc::clone(&counter), wanted));
    }
    let all = async {
        let mut waits = Latencies::new();
        while let Some(done) = readers.join_next().await {
            let own = done.map_err(|err| Failure::new(format!("a reader panicked: {err}")))??;
            waits.add(&own);
        }
        Ok::<_, Failure>(waits)
    };
    let waits = watched("reading", total, &counter, all).await?;
    Ok(Measured {
        topic: topic.name.to_string(),
        partitions: topic.partitions,
        clients: args.load.clients,
        value_bytes: None,
        rate: Rate::new(counter.records(), counter.bytes(), begun.elapsed()),
        latency: waits.percentiles(),
        verified: None,
    })
}

/// A reader of every partition whose number leaves `number` when divided by `of`.
async fn reader(client: &Client, topic: &Topic, number: u32, of: u32) -> Result<Reader, Failure> {
    let own = (number..topic.partitions).step_by(of as usize).map(PartitionId);
    let reader = own.fold(client.reader().until(Until::End), |reader, partition| {
        reader.partition(topic.name.clone(), partition, Position::Earliest)
    });
    Ok(reader.build().await?)
}

async fn read(
    mut reader: Reader,
    counter: Arc<Counter>,
    wanted: u64,
) -> Result<Latencies, Failure> {
    let mut waits = Latencies::new();
    while counter.records() < wanted {
        let asked = Instant::now();
        let Some(records) = next_batch(&mut reader).await? else { break };
        waits.record(asked.elapsed());
        counter.add(records.len() as u64, bytes_of(&records));
    }
    Ok(waits)
}
