//! The records of a topic in a cluster, and what they come to.

use tidelog_client::{Client, Position, Until};
use tidelog_types::{Offset, PartitionId, TopicName, TopicPartition};

use super::progress::Progress;
use super::sums::Sums;
use crate::Failure;
use crate::consume::{Bounded, consumed};

/// Reads each partition from its first record up to its end.
pub(super) async fn reader(
    client: &Client,
    partitions: &[TopicPartition],
    ends: &[Offset],
) -> Result<Bounded, Failure> {
    // A partition whose end lies at its start still has to end, hence both.
    let mut reader = client.reader().until(Until::End);
    for partition in partitions {
        reader = reader.partition(&partition.topic, partition.partition, Position::Earliest);
    }
    let ends = partitions.iter().cloned().zip(ends.iter().copied()).collect();
    Ok(Bounded::new(reader.build().await?, Some(ends)))
}

/// The sums of the first `counts` records of each partition, which begin at offset 0.
pub(super) async fn sums(
    client: &Client,
    topic: &TopicName,
    counts: &[u64],
    what: &'static str,
) -> Result<Sums, Failure> {
    let ends: Vec<Offset> = counts.iter().copied().map(Offset).collect();
    let mut reader = reader(client, &partitions(topic, counts.len()), &ends).await?;
    let mut progress = Progress::new(what, counts.iter().sum());
    let mut sums = Sums::default();
    while let Some(record) = reader.recv().await? {
        let added = sums.add(&consumed(record));
        added.map_err(|offset| Failure::new(format!("offset {offset} of {topic} is missing")))?;
        progress.step();
    }
    Ok(sums)
}

/// The names of all partitions of a topic.
pub(super) fn partitions(topic: &TopicName, count: usize) -> Vec<TopicPartition> {
    let named = |partition| TopicPartition { topic: topic.clone(), partition };
    // Fits: a broker counts them in 32 bits.
    (0..count as u32).map(PartitionId).map(named).collect()
}
