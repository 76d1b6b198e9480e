//! `tidelog tail`: the last records of a topic, then new ones as they come.

mod newest;

use std::process::ExitCode;

use clap::Args;
use tidelog_client::admin::OffsetAt;
use tidelog_client::{Client, Position, Until};
use tidelog_types::{Offset, PartitionId, TopicName, TopicPartition};

use crate::Failure;
use crate::args::Globals;
use crate::connect::connect;
use crate::consume::{Bounded, Shown, Sink, consumed, pour};
use crate::interrupt::Interrupt;
use crate::offsets;
use crate::record::Consumed;
use crate::runtime::block_on;
use crate::topic::partition_count;

/// The most records that can be asked for: they are kept in memory until the last is read.
const NUMBER_MAX: u64 = 10_000;

/// Arguments of `tidelog tail`.
#[derive(Args, Debug)]
pub(crate) struct TailArgs {
    /// Name of the topic
    topic: TopicName,
    /// How many of the last records to print first, over all partitions, by their times
    #[arg(
        short = 'n',
        long = "number",
        value_name = "N",
        default_value_t = 20,
        value_parser = clap::value_parser!(u64).range(..=NUMBER_MAX)
    )]
    number: u64,
    /// How records are printed.
    #[command(flatten)]
    shown: Shown,
}

/// Prints the end of a topic and stays there.
pub(crate) fn run(globals: &Globals, args: TailArgs) -> Result<ExitCode, Failure> {
    block_on(tail(globals, &args))
}

async fn tail(globals: &Globals, args: &TailArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let mut interrupt = Interrupt::listen()?;
    let count = partition_count(&client, &args.topic).await?;
    let name = |partition| TopicPartition { topic: args.topic.clone(), partition };
    let partitions: Vec<_> = (0..count).map(|number| name(PartitionId(number))).collect();
    let firsts = offsets::list(&client, &partitions, OffsetAt::Earliest).await?;
    let ends = offsets::list(&client, &partitions, OffsetAt::Latest).await?;

    let mut last = Vec::new();
    for ((partition, first), end) in partitions.iter().zip(firsts).zip(&ends) {
        let start = Offset(end.0.saturating_sub(args.number).max(first.0));
        last.push(tokio::select! {
            biased;
            () = interrupt.asked() => return Ok(ExitCode::SUCCESS),
            read = read(&client, partition, start, *end) => read?,
        });
    }
    let mut sink = Sink::stdout(&args.shown, globals.output().is_json(), globals.zone());
    for record in newest::newest(last, usize::try_from(args.number).unwrap_or(usize::MAX)) {
        sink.write(&record)?;
    }
    let mut follow = client.reader();
    for (partition, end) in partitions.iter().zip(ends) {
        follow = follow.partition(&partition.topic, partition.partition, Position::Offset(end));
    }
    let follow = Bounded::new(follow.build().await?, None);
    pour(follow, sink, None, &mut interrupt).await?;
    Ok(ExitCode::SUCCESS)
}

/// The records of a partition between two offsets.
async fn read(
    client: &Client,
    partition: &TopicPartition,
    start: Offset,
    end: Offset,
) -> Result<Vec<Consumed>, Failure> {
    if start == end {
        return Ok(Vec::new());
    }
    let reader = client.reader().until(Until::Offset(end));
    let reader = reader.partition(&partition.topic, partition.partition, Position::Offset(start));
    let mut reader = reader.build().await?;
    let mut records = Vec::new();
    while let Some(record) = reader.recv().await? {
        records.push(consumed(record));
    }
    Ok(records)
}
