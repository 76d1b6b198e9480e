//! `MovePartitions`: tells where the replicas of partitions should be.

use tidelog_proto::v1::{Error, MovePartitionsItem, MovePartitionsRequest, MovePartitionsResponse};
use tidelog_state::metadata::{Command, Outcome, PartitionMove};
use tidelog_types::BrokerId;
use tracing::info;

use super::admin::admin_deadline;
use super::{Api, at_most};
use crate::access::{Operation, Resource};
use crate::cluster::{Cluster, unexpected};
use crate::limits;

impl Api {
    pub(super) async fn partitions_moved(
        &self,
        request: MovePartitionsRequest,
    ) -> Result<MovePartitionsResponse, Error> {
        at_most(request.items.len(), limits::ADMIN_PARTITIONS_MAX, "partitions")?;
        let deadline = admin_deadline(request.timeout_ms)?;
        let cluster = self.core.cluster()?;
        let mut moves = Vec::with_capacity(request.items.len());
        for item in &request.items {
            moves.push(self.partition_move(&cluster, item).await?);
        }
        let command = Command::MovePartitions { moves };
        let outcome = if request.validate_only {
            cluster.catch_up(deadline).await?;
            self.rehearse(&cluster.machine(), &command)?
        } else {
            cluster.propose(&command, deadline).await?
        };
        let Outcome::PartitionsMove { changed } = outcome else {
            return Err(unexpected(&outcome));
        };
        if !request.validate_only {
            for item in &request.items {
                let (topic, partition, replicas) = (&item.topic, item.partition, &item.replicas);
                info!(topic, partition, ?replicas, "a partition is to be on these brokers");
            }
        }
        Ok(MovePartitionsResponse { changed })
    }

    async fn partition_move(
        &self,
        cluster: &Cluster,
        item: &MovePartitionsItem,
    ) -> Result<PartitionMove, Error> {
        self.allow(Operation::Alter, Resource::Topic(&item.topic))?;
        let group = cluster.find_fresh(&item.topic, item.partition, "").await?;
        Ok(PartitionMove { group, replicas: item.replicas.iter().copied().map(BrokerId).collect() })
    }
}
