//! Turns `--from`, `--until` and `-p` into a reader.

use tidelog_client::admin::OffsetAt;
use tidelog_client::{Client, Position, Until as ReadUntil};
use tidelog_types::{Offset, PartitionId, Timestamp, TopicPartition};

use super::args::ConsumeArgs;
use super::bounded::Bounded;
use crate::Failure;
use crate::moment::{Moment, Zone, now};
use crate::offsets;
use crate::position::{From, Until};
use crate::topic::{partition_count, unknown_partition};

/// A reader of what `args` asks for.
pub(super) async fn reader(
    client: &Client,
    args: &ConsumeArgs,
    zone: Zone,
) -> Result<Bounded, Failure> {
    let partitions = partitions(client, args).await?;
    let starts = starts(client, &args.from, &partitions, zone).await?;
    let mut builder = client.reader();
    for (name, start) in partitions.iter().zip(starts) {
        builder = builder.partition(&name.topic, name.partition, start);
    }
    let (builder, ends) = match &args.until {
        None => (builder, None),
        Some(Until::End) => (builder.until(ReadUntil::End), None),
        Some(Until::Offset(offset)) => (builder.until(ReadUntil::Offset(*offset)), None),
        Some(Until::Time(moment)) => {
            let ends = ends(client, moment, &partitions, zone).await?;
            // A partition whose end lies at its start still has to end.
            (builder.until(ReadUntil::End), Some(ends))
        }
    };
    Ok(Bounded::new(builder.build().await?, ends))
}

/// The partitions to read: those that were named, or all.
pub(super) async fn partitions(
    client: &Client,
    args: &ConsumeArgs,
) -> Result<Vec<TopicPartition>, Failure> {
    let mut all = Vec::new();
    for topic in &args.topics {
        let count = partition_count(client, topic).await?;
        let named: Vec<u32> = match args.partitions.is_empty() {
            true => (0..count).collect(),
            false => args.partitions.clone(),
        };
        for partition in named.into_iter().map(PartitionId) {
            let name = TopicPartition { topic: topic.clone(), partition };
            if partition.0 >= count {
                return Err(unknown_partition(&name, count));
            }
            all.push(name);
        }
    }
    Ok(all)
}

/// Where to begin, in the order of the partitions.
async fn starts(
    client: &Client,
    from: &From,
    partitions: &[TopicPartition],
    zone: Zone,
) -> Result<Vec<Position>, Failure> {
    let same = match from {
        From::Start => Position::Earliest,
        From::End => Position::Latest,
        From::Offset(offset) => Position::Offset(*offset),
        From::Time(moment) => Position::Timestamp(resolve(moment, zone)?),
        From::Last(count) => {
            let first = offsets::list(client, partitions, OffsetAt::Earliest).await?;
            let end = offsets::list(client, partitions, OffsetAt::Latest).await?;
            let back = |(first, end): (&Offset, &Offset)| {
                Position::Offset(Offset(end.0.saturating_sub(*count).max(first.0)))
            };
            return Ok(first.iter().zip(&end).map(back).collect());
        }
    };
    Ok(vec![same; partitions.len()])
}

/// The first offsets that are as new as `moment`, which lies in the past.
pub(super) async fn ends(
    client: &Client,
    moment: &Moment,
    partitions: &[TopicPartition],
    zone: Zone,
) -> Result<Vec<(TopicPartition, Offset)>, Failure> {
    let time = resolve(moment, zone)?;
    if time > now() {
        let problem = format!("--until {} lies in the future", zone.show(time));
        return Err(
            Failure::usage(problem).next_step("leave it out to follow, and end with Ctrl-C")
        );
    }
    let ends = offsets::list(client, partitions, OffsetAt::Timestamp(time)).await?;
    Ok(partitions.iter().cloned().zip(ends).collect())
}

/// The time that is meant.
pub(super) fn resolve(moment: &Moment, zone: Zone) -> Result<Timestamp, Failure> {
    moment.resolve(now(), zone).map_err(|error| Failure::usage(error.to_string()))
}
