//! The words of `tidelog partition`.

use std::time::Duration;

use clap::{Args, Subcommand};
use tidelog_client::admin::PartitionMove;
use tidelog_types::{BrokerId, PartitionId, TopicName, TopicPartition};

use crate::moment::parse_duration;

/// Look at partitions and move their leaders.
#[derive(Debug, Subcommand)]
pub(crate) enum PartitionCommand {
    /// List partitions with their leaders and replicas
    List(ListArgs),
    /// Move the leadership of a partition to another replica
    TransferLeader(TransferArgs),
    /// Move the replicas of partitions to other brokers, while they are used
    Move(MoveArgs),
    /// Show where the Raft group of a partition stands, replica by replica
    Raft(RaftArgs),
    /// Read every byte of a partition's replicas again, and mend what is damaged
    Scrub(ScrubArgs),
    /// Go on with what one broker holds, when a majority of the replicas is lost for good
    UnsafeRecover(UnsafeRecoverArgs),
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
    /// Only partitions whose replicas come or go
    #[arg(long)]
    pub(crate) moving: bool,
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

/// Arguments of `partition move`.
#[derive(Args, Debug)]
pub(crate) struct MoveArgs {
    /// Partitions and the brokers that are to hold them, the next leader first, as orders/0:1,2,4
    #[arg(value_name = "TOPIC/PARTITION:BROKERS", value_parser = partition_move, required = true)]
    pub(crate) moves: Vec<PartitionMove>,
    /// Only check whether they could be moved so
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Wait so long until they are there
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) wait: Option<Duration>,
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

/// Arguments of `partition unsafe-recover`.
#[derive(Args, Debug)]
pub(crate) struct UnsafeRecoverArgs {
    /// The partitions, as orders/0
    #[arg(value_name = "TOPIC/PARTITION", value_parser = topic_partition)]
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) partitions: Vec<TopicPartition>,
    /// All that have lost their majority and have a replica there, the cluster's own groups too
    #[arg(long)]
    pub(crate) all: bool,
    /// The broker whose replicas go on
    #[arg(long, value_name = "BROKER")]
    pub(crate) from: u32,
    /// The brokers that are lost for good [default: those that do not answer, which -y does not take]
    #[arg(long, value_name = "BROKERS", value_delimiter = ',')]
    pub(crate) lost: Vec<u32>,
    /// Only show what would go on, and what would be lost
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Reads a move as `orders/0:1,2,4`.
fn partition_move(text: &str) -> Result<PartitionMove, String> {
    let (partition, brokers) = text.rsplit_once(':').ok_or_else(|| {
        format!("{text:?} names no brokers: write TOPIC/PARTITION:BROKERS, as orders/0:1,2,4")
    })?;
    let broker =
        |id: &str| id.trim().parse().map(BrokerId).map_err(|_| format!("{id:?} is no broker id"));
    let replicas = brokers.split(',').map(broker).collect::<Result<_, _>>()?;
    Ok(PartitionMove { partition: topic_partition(partition)?, replicas })
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
    fn a_move_is_a_partition_and_brokers() {
        let read = partition_move("a:b/0:1, 2,4").unwrap_err();
        assert!(read.contains("topic name holds ':'"), "{read}");
        let read = partition_move("orders/3:4,1, 2").unwrap();
        assert_eq!(read.partition.to_string(), "orders/3");
        assert_eq!(read.replicas, [4, 1, 2].map(BrokerId));
        for text in ["orders/0", "orders/0:", "orders/0:a", "orders:1,2", "orders/0:1,,2"] {
            assert!(partition_move(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_partition_is_a_topic_and_a_number() {
        assert_eq!(topic_partition("a.b/12").unwrap().to_string(), "a.b/12");
        for text in ["orders", "orders/", "orders/x", "/1", "a/b/1", "orders/-1"] {
            assert!(topic_partition(text).is_err(), "{text}");
        }
    }
}
