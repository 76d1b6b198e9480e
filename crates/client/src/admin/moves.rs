//! Where the replicas of partitions should be.

use futures_util::FutureExt;
use tidelog_proto::v1;
use tidelog_proto::v1::admin_service_client::AdminServiceClient;
use tidelog_types::{BrokerId, TopicPartition};

use super::Admin;
use crate::Error;
use crate::cluster::RESPONSE_BYTES_MAX;

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
        let call = |channel, _: &[usize], timeout_ms| {
            let items = items.clone();
            let request = v1::MovePartitionsRequest { items, validate_only, timeout_ms };
            let call = async move {
                let client = AdminServiceClient::new(channel);
                let mut client = client.max_decoding_message_size(RESPONSE_BYTES_MAX);
                let answer = client.move_partitions(request).await?;
                Ok(answer.map(|answer| vec![answer.changed]))
            };
            call.boxed()
        };
        let mut results = self.at_controller(1, call, |changed, _| Ok(changed)).await?;
        results.pop().unwrap_or_else(|| Err(Error::protocol("any", "no answer to the moves")))
    }
}
