//! The words of `tidelog partition`.

use clap::{Args, Subcommand};
use tidelog_types::{PartitionId, TopicName, TopicPartition};

/// Look at partitions and move their leaders.
#[derive(Debug, Subcommand)]
pub(crate) enum PartitionCommand {
    /// List partitions with their leaders and replicas
    List(ListArgs),
    /// Move the leadership of a partition to another replica
    TransferLeader(TransferArgs),
    /// Show where the Raft group of a partition stands, replica by replica
    Raft(RaftArgs),
    /// Read every byte of a partition's replicas again, and mend what is damaged
    Scrub(ScrubArgs),
}

/// Arguments of `partition list`.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only these topics
    #[arg(value_name = "TOPIC")]
    pub(crate) topics: Vec<TopicName>,
    /// Only partitions with a replica that does not answer
    #[arg(long)]
    pub(crate) under_replicated: bool,
    /// Only partitions without a leader
    #[arg(long)]
    pub(crate) leaderless: bool,
}

/// Arguments of `partition transfer-leader`.
#[derive(Args, Debug)]
pub(crate) struct TransferArgs {
    /// The partition, as orders/0
    #[arg(value_name = "TOPIC/PARTITION", value_parser = topic_partition)]
    pub(crate) partition: TopicPartition,
    /// The broker that is to lead: one of the replicas
    #[arg(long, value_name = "BROKER")]
    pub(crate) to: u32,
}

/// Arguments of `partition raft`.
#[derive(Args, Debug)]
pub(crate) struct RaftArgs {
    /// The partition, as orders/0
    #[arg(value_name = "TOPIC/PARTITION", value_parser = topic_partition)]
    pub(crate) partition: TopicPartition,
}

/// Arguments of `partition scrub`.
#[derive(Args, Debug)]
pub(crate) struct ScrubArgs {
    /// The partition, as orders/0
    #[arg(value_name = "TOPIC/PARTITION", value_parser = topic_partition)]
    pub(crate) partition: TopicPartition,
    /// Only the replica of this broker
    #[arg(long, value_name = "BROKER")]
    pub(crate) broker: Option<u32>,
    /// MB per second that each replica reads at most [default: as fast as its disk can]
    #[arg(long, value_name = "MB")]
    pub(crate) rate: Option<u32>,
}

/// Reads a partition as `orders/0`.
pub(crate) fn topic_partition(text: &str) -> Result<TopicPartition, String> {
    let (topic, partition) = text
        .rsplit_once('/')
        .ok_or_else(|| format!("{text:?} is no partition: write TOPIC/NUMBER, as orders/0"))?;
    let topic = TopicName::new(topic).map_err(|error| error.to_string())?;
    let number = partition.parse().map_err(|_| format!("{partition:?} is no partition number"))?;
    Ok(TopicPartition { topic, partition: PartitionId(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_a_topic_and_a_number() {
        assert_eq!(topic_partition("a.b/12").unwrap().to_string(), "a.b/12");
        for text in ["orders", "orders/", "orders/x", "/1", "a/b/1", "orders/-1"] {
            assert!(topic_partition(text).is_err(), "{text}");
        }
    }
}
