//! `tidelog bench produce`: acked records per second, and how long acks take.
//!
//! Without a rate the records per second are what the cluster can do, and the latencies are mostly time
//! in the clients' buffers. With one they count from when each record was due.

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use tidelog_client::{Client, RecordMetadata};
use tokio::time::Instant;

use super::latency::Latencies;
use super::measured::{Measured, Rate};
use super::options::LoadArgs;
use super::payload::Payloads;
use super::source::{Cargo, Plan};
use super::topic::{Topic, with_topic};
use super::verify::{Start, Sums};
use super::watched::watched;
use crate::args::Globals;
use crate::connect::connect;
use crate::{Failure, parse_duration};

/// Arguments of `tidelog bench produce`.
#[derive(Args, Debug)]
pub(crate) struct ProduceArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Records to write, of all clients together
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Records per second of all clients together; else as fast as acks come
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// How long a producer waits for more records before it sends a batch; else 5ms
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    linger: Option<Duration>,
    /// Read everything back that was written, and compare count and checksum of each partition; nobody
    /// else may write to the topic meanwhile
    #[arg(long)]
    verify: bool,
}

/// Measures, and takes away what it created.
pub(crate) async fn run(globals: &Globals, args: ProduceArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let (measured, difference) = with_topic(&client, &args.load, async |topic| {
        measure(globals, &client, topic, &args).await
    })
    .await?;
    globals.output().item("bench", &measured, |_| measured.page())?;
    match difference {
        None => Ok(ExitCode::SUCCESS),
        Some(difference) => Err(Failure::new(format!("{}: {difference}", measured.topic))),
    }
}

async fn measure(
    globals: &Globals,
    client: &Client,
    topic: &Topic,
    args: &ProduceArgs,
) -> Result<(Measured, Option<String>), Failure> {
    let start = match args.verify {
        true => Some(Start::of(client, topic).await?),
        false => None,
    };
    let clients = args.load.connect(globals).await?;
    let payloads = Payloads::random(args.load.size);
    let plan = Plan {
        records: Some(args.records),
        rate: args.rate,
        linger: args.linger,
        ..Plan::new(topic)
    };
    let sources = plan.start(&clients, |_, _| Acks {
        payloads: payloads.clone(),
        latencies: Latencies::new(),
        sums: args.verify.then(|| Sums::new(topic.partitions)),
    });
    let sources = sources.await?;
    let sources = watched("producing", args.records, &plan.counter, sources.join());
    let (acks, took) = sources.await?;
    let rate = Rate::new(plan.counter.records(), plan.counter.bytes(), took);
    let mut latencies = Latencies::new();
    acks.iter().for_each(|acks| latencies.add(&acks.latencies));
    let difference = match start {
        Some(start) => start.verify(client, topic, &written(topic, &acks)).await?,
        None => None,
    };
    let measured = Measured {
        topic: topic.name.to_string(),
        partitions: topic.partitions,
        clients: args.load.clients,
        value_bytes: Some(args.load.size),
        rate,
        latency: latencies.percentiles(),
        verified: args.verify.then_some(difference.is_none()),
    };
    Ok((measured, difference))
}

fn written(topic: &Topic, acks: &[Acks]) -> Sums {
    let mut all = Sums::new(topic.partitions);
    acks.iter().filter_map(|acks| acks.sums.as_ref()).for_each(|sums| all.add(sums));
    all
}

/// What one client sends, and how long each ack took.
struct Acks {
    payloads: Payloads,
    latencies: Latencies,
    /// Of what was acked; `None` where nobody wants to verify.
    sums: Option<Sums>,
}

impl Cargo for Acks {
    fn value(&mut self, number: u64) -> Bytes {
        self.payloads.of(number)
    }

    fn acked(&mut self, number: u64, from: Instant, at: &RecordMetadata) {
        self.latencies.record(from.elapsed());
        if let Some(sums) = &mut self.sums {
            sums.acked(at, &self.payloads.of(number));
        }
    }
}
