//! `tidelog bench e2e`: how long records take from when they are due until a reader has them.
//!
//! The reader follows the whole topic with connections of its own. Latencies count from the moment at
//! which a record was due, whenever it was sent (no coordinated omission). Every record must come
//! exactly once.

use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use rand::RngCore;
use tidelog_client::admin::OffsetAt;
use tidelog_client::{Client, Offset, PartitionId, Position, ReadRecord, Reader, RecordMetadata};
use tokio::time::Instant;

use super::latency::Latencies;
use super::measured::{Measured, Rate};
use super::options::{LoadArgs, share};
use super::payload::{Payloads, Stamp};
use super::source::{Cargo, Plan, Schedule};
use super::topic::{Topic, with_topic};
use super::verify::next_batch;
use super::watched::watched;
use crate::args::Globals;
use crate::connect::connect;
use crate::{Failure, parse_duration};

/// Arguments of `tidelog bench e2e`.
#[derive(Args, Debug)]
pub(crate) struct EndToEndArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Records to write, of all clients together
    #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    records: u64,
    /// Records per second of all clients together
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// How long a producer waits for more records before it sends a batch; else 5ms
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    linger: Option<Duration>,
}

/// Measures, and takes away what it created.
pub(crate) async fn run(globals: &Globals, args: EndToEndArgs) -> Result<ExitCode, Failure> {
    if args.load.size < Stamp::BYTES {
        let least = Stamp::BYTES;
        return Err(Failure::usage(format!(
            "--size {} has no room for what tells records apart, at least {least} bytes are needed",
            args.load.size
        )));
    }
    let client = connect(globals).await?;
    let measured = with_topic(&client, &args.load, async |topic| {
        measure(globals, &client, topic, &args).await
    })
    .await?;
    globals.output().item("bench", &measured, |_| measured.page())?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(
    globals: &Globals,
    client: &Client,
    topic: &Topic,
    args: &EndToEndArgs,
) -> Result<Measured, Failure> {
    let clients = args.load.connect(globals).await?;
    let starts = topic.offsets(client, OffsetAt::Latest).await?;
    let mut reader = follow(client, topic, &starts).await?;
    let (run, payloads) = (rand::rng().next_u64(), Payloads::random(args.load.size));
    let plan = Plan {
        records: Some(args.records),
        rate: Some(args.rate),
        linger: args.linger,
        ..Plan::new(topic)
    };
    let sources =
        plan.start(&clients, |client, _| Stamped { run, client, payloads: payloads.clone() });
    let sources = sources.await?;
    let mut received = Received::new(run, args, sources.schedule());
    let sent = async {
        let (_, took) = sources.join().await?;
        Ok::<_, Failure>((topic.offsets(client, OffsetAt::Latest).await?, took))
    };
    let mut sent = pin!(watched("sending", args.records, &plan.counter, sent));
    let (ends, took) = loop {
        tokio::select! {
            biased;
            batch = next_batch(&mut reader) => received.note(batch?.as_deref())?,
            sent = &mut sent => break sent?,
        }
    };
    // On to the end, for what came twice would stand there.
    while !has_reached(&reader, &starts, &ends) {
        received.note(next_batch(&mut reader).await?.as_deref())?;
    }
    received.all()?;
    Ok(Measured {
        topic: topic.name.to_string(),
        partitions: topic.partitions,
        clients: args.load.clients,
        value_bytes: Some(args.load.size),
        rate: Rate::new(plan.counter.records(), plan.counter.bytes(), took),
        latency: received.latencies.percentiles(),
        verified: None,
    })
}

/// A reader that follows all partitions from these offsets on.
async fn follow(client: &Client, topic: &Topic, starts: &[Offset]) -> Result<Reader, Failure> {
    let starts = (0..).map(PartitionId).zip(starts);
    let reader = starts.fold(client.reader(), |reader, (partition, start)| {
        reader.partition(topic.name.clone(), partition, Position::Offset(*start))
    });
    Ok(reader.build().await?)
}

/// Whether everything below `ends` was handed out. Both are sorted by partition.
fn has_reached(reader: &Reader, starts: &[Offset], ends: &[Offset]) -> bool {
    let next = reader.positions().into_iter().map(|position| position.next);
    let next = next.zip(starts).map(|(next, start)| next.unwrap_or(*start));
    next.zip(ends).all(|(next, end)| next >= *end)
}

/// What one client sends.
struct Stamped {
    run: u64,
    client: u32,
    payloads: Payloads,
}

impl Cargo for Stamped {
    fn value(&mut self, number: u64) -> Bytes {
        let Self { run, client, ref payloads } = *self;
        Stamp { run, client, number }.on(payloads)
    }

    fn acked(&mut self, _: u64, _: Instant, _: &RecordMetadata) {}
}

/// What has come, of each client.
struct Received {
    run: u64,
    schedule: Schedule,
    seen: Vec<Vec<bool>>,
    latencies: Latencies,
}

impl Received {
    fn new(run: u64, args: &EndToEndArgs, schedule: Schedule) -> Self {
        let of = args.load.clients;
        let seen = (0..of).map(|number| vec![false; share(args.records, of, number) as usize]);
        Self { run, schedule, seen: seen.collect(), latencies: Latencies::new() }
    }

    fn note(&mut self, batch: Option<&[ReadRecord]>) -> Result<(), Failure> {
        let now = Instant::now();
        for record in batch.unwrap_or_default() {
            let stamp = record.value.as_deref().and_then(Stamp::read);
            if let Some(stamp) = stamp.filter(|stamp| stamp.run == self.run) {
                self.receive(stamp, now)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, stamp: Stamp, now: Instant) -> Result<(), Failure> {
        let Stamp { client, number, .. } = stamp;
        let seen =
            self.seen.get_mut(client as usize).and_then(|seen| seen.get_mut(number as usize));
        match seen {
            None => Err(Failure::new(format!("record {number} of client {client} was never sent"))),
            Some(true) => {
                Err(Failure::new(format!("record {number} of client {client} came twice")))
            }
            Some(seen) => {
                *seen = true;
                let due = self.schedule.due(number).expect("records have a rate");
                self.latencies.record(now.saturating_duration_since(due));
                Ok(())
            }
        }
    }

    /// Whether every record has come.
    fn all(&self) -> Result<(), Failure> {
        let missing = self.seen.iter().flatten().filter(|seen| !**seen).count();
        match missing {
            0 => Ok(()),
            missing => Err(Failure::new(format!("{missing} acked records did not come"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: EndToEndArgs,
    }

    fn received() -> Received {
        let args = Line::parse_from(["e2e", "--records", "3"]).args;
        Received::new(7, &args, Schedule::new(Instant::now(), Some(1_000), 2))
    }

    #[test]
    fn each_record_comes_once_or_it_is_an_error() {
        let mut received = received();
        let mut receive =
            |client, number| received.receive(Stamp { run: 7, client, number }, Instant::now());
        receive(0, 0).unwrap();
        receive(1, 0).unwrap();
        assert_eq!(receive(1, 0).unwrap_err().to_string(), "record 0 of client 1 came twice");
        assert!(receive(1, 1).is_err() && receive(2, 0).is_err());
        assert_eq!(received.all().unwrap_err().to_string(), "1 acked records did not come");
        received.receive(Stamp { run: 7, client: 0, number: 1 }, Instant::now()).unwrap();
        received.all().unwrap();
    }
}
