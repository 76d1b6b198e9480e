//! `tidelog topic trim`.

use std::process::ExitCode;

use serde::Serialize;
use tidelog_client::Client;
use tidelog_client::admin::OffsetAt;
use tidelog_types::{Offset, PartitionId, TopicPartition};

use super::args::TrimArgs;
use super::load::{partition_count, unknown_partition};
use crate::args::Globals;
use crate::confirm::confirm;
use crate::connect::connect;
use crate::moment::now;
use crate::outcomes::Outcomes;
use crate::output::plural;
use crate::position::To;
use crate::{Column, Failure, Page, offsets};

/// What a partition is to begin with.
struct Plan {
    partition: TopicPartition,
    log_start: Offset,
    before: Offset,
}

/// A partition that begins later now.
#[derive(Debug, Serialize)]
struct Trimmed {
    topic: String,
    partition: u32,
    log_start: u64,
    deleted: u64,
}

const COLUMNS: &[Column] =
    &[Column::text("PARTITION"), Column::number("LOG START"), Column::number("DELETED")];

/// Deletes the oldest records after asking, and says before how many they are.
pub(super) async fn run(globals: &Globals, args: &TrimArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let partitions = partitions(&client, args).await?;
    let plans = plan(&client, globals, partitions, &args.before).await?;
    let plans: Vec<_> = plans.into_iter().filter(|plan| plan.before > plan.log_start).collect();
    if !plans.is_empty() {
        confirm(globals, &consequence(args, &plans))?;
    }
    let starts: Vec<_> = plans.iter().map(|plan| plan.log_start).collect();
    let items = plans.into_iter().map(|plan| (plan.partition, Some(plan.before)));
    let answers = client.admin().trim_partitions(items).await;
    let mut outcomes = Outcomes::default();
    let mut trimmed = Vec::new();
    for ((partition, answer), before) in answers.into_iter().zip(starts) {
        match answer {
            Ok(log_start) => {
                trimmed.push(Trimmed {
                    topic: partition.topic.to_string(),
                    partition: partition.partition.0,
                    log_start: log_start.0,
                    deleted: log_start.0.saturating_sub(before.0),
                });
                outcomes.succeed();
            }
            Err(error) => {
                outcomes.fail(Failure::from(error).at(|why| format!("{partition}: {why}")))
            }
        }
    }
    let row = |done: &Trimmed| {
        let name = format!("{}/{}", done.topic, done.partition);
        vec![name, done.log_start.to_string(), done.deleted.to_string()]
    };
    let page = |_| Page::new().table(COLUMNS, trimmed.iter().map(row));
    globals.output().items("topic.trim", &trimmed, page)?;
    outcomes.finish()
}

/// The partitions that were named, or all of the topic.
async fn partitions(client: &Client, args: &TrimArgs) -> Result<Vec<TopicPartition>, Failure> {
    let count = partition_count(client, &args.topic).await?;
    let named =
        |number| TopicPartition { topic: args.topic.clone(), partition: PartitionId(number) };
    if args.partitions.is_empty() {
        return Ok((0..count).map(named).collect());
    }
    let mut numbers = args.partitions.clone();
    numbers.sort_unstable();
    numbers.dedup();
    match numbers.iter().find(|number| **number >= count) {
        Some(number) => Err(unknown_partition(&named(*number), count)),
        None => Ok(numbers.into_iter().map(named).collect()),
    }
}

/// Where each partition is to begin, by what is there now.
async fn plan(
    client: &Client,
    globals: &Globals,
    partitions: Vec<TopicPartition>,
    before: &To,
) -> Result<Vec<Plan>, Failure> {
    let starts = offsets::list(client, &partitions, OffsetAt::Earliest).await?;
    let before = match before {
        To::Start => starts.clone(),
        To::End => offsets::list(client, &partitions, OffsetAt::Latest).await?,
        To::Offset(number) => {
            let offset = Offset::from_wire(*number);
            let negative = || Failure::usage(format!("offset {number} is negative"));
            vec![offset.ok_or_else(negative)?; partitions.len()]
        }
        To::Time(moment) => {
            let time = moment.resolve(now(), globals.zone());
            let time = time.map_err(|error| Failure::usage(error.to_string()))?;
            offsets::list(client, &partitions, OffsetAt::Timestamp(time)).await?
        }
    };
    let plans = partitions.into_iter().zip(starts).zip(before);
    Ok(plans
        .map(|((partition, log_start), before)| Plan { partition, log_start, before })
        .collect())
}

fn consequence(args: &TrimArgs, plans: &[Plan]) -> String {
    let records: u64 = plans.iter().map(|plan| plan.before.0 - plan.log_start.0).sum();
    let partitions = plural(plans.len() as u64, "partition");
    let records = plural(records, "record");
    format!("this deletes up to {records} of {partitions} of {} for good", args.topic)
}
