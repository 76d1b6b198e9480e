//! Where the replicas of partitions should be.

use futures_util::FutureExt;
use tidelog_proto::v1;
use tidelog_types::{BrokerId, TopicPartition};

use super::Admin;
use crate::Error;

/// Where the replicas of one partition should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMove {
    /// The partition.
    pub partition: TopicPartition,
    /// The brokers, 1 to 15; the first should lead.
    pub replicas: Vec<BrokerId>,
}

impl Admin {
    /// Tells where the replicas of partitions should be, all or none of it, and gives how many were to
    /// be somewhere else until now. The cluster brings it about while the partitions are used: see
    /// [`PartitionFacts::is_settled`]. Telling something else meanwhile turns a move round.
    ///
    /// [`PartitionFacts::is_settled`]: super::PartitionFacts::is_settled
    ///
    /// # Errors
    /// When a partition or a broker is unknown, a number of replicas is not allowed, or no broker could
    /// take the call; then nothing moves.
    pub async fn move_partitions(
        &self,
        moves: impl IntoIterator<Item = PartitionMove>,
    ) -> Result<u32, Error> {
        self.moves(moves, false).await
    }

    /// Checks whether partitions could be moved so, and moves none.
    ///
    /// # Errors
    /// As [`Admin::move_partitions`].
    pub async fn check_moves(
        &self,
        moves: impl IntoIterator<Item = PartitionMove>,
    ) -> Result<u32, Error> {
        self.moves(moves, true).await
    }

    async fn moves(
        &self,
        moves: impl IntoIterator<Item = PartitionMove>,
        validate_only: bool,
    ) -> Result<u32, Error> {
        let item = |one: PartitionMove| v1::MovePartitionsItem {
            topic: one.partition.topic.to_string(),
            partition: one.partition.partition.0,
            replicas: one.replicas.iter().map(|broker| broker.0).collect(),
        };
        let items: Vec<_> = moves.into_iter().map(item).collect();
        let answer = self.change(|mut client, timeout_ms| {
            let items = items.clone();
            let request = v1::MovePartitionsRequest { items, validate_only, timeout_ms };
            async move { client.move_partitions(request).await }.boxed()
        });
        Ok(answer.await?.changed)
    }
}
