//! `DrainBroker`, `RemoveBroker` and `DescribeReplicas`: brokers that are to go, and what each hosts.

use tidelog_proto::v1::{
    DescribeReplicasResponse, DrainBrokerRequest, DrainBrokerResponse, Error, HostedReplica,
    RemoveBrokerRequest, RemoveBrokerResponse,
};
use tidelog_state::metadata::{Command, Outcome};
use tidelog_types::{BrokerId, ErrorCode};
use tracing::info;

use super::admin::admin_deadline;
use super::{Api, invalid};
use crate::access::{Operation, Resource};
use crate::cluster::unexpected;

impl Api {
    pub(super) async fn broker_drained(
        &self,
        request: DrainBrokerRequest,
    ) -> Result<DrainBrokerResponse, Error> {
        self.allow(Operation::Alter, Resource::Cluster)?;
        let deadline = admin_deadline(request.timeout_ms)?;
        let cluster = self.core.cluster()?;
        let (broker, draining) = (BrokerId(request.broker_id), !request.cancel);
        let command = Command::DrainBroker { broker, draining };
        match cluster.propose(&command, deadline).await? {
            Outcome::BrokerDrains { replicas } => {
                info!(%broker, draining, replicas, "a broker is to be drained, or no more");
                Ok(DrainBrokerResponse { replicas })
            }
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn broker_removed(
        &self,
        request: RemoveBrokerRequest,
    ) -> Result<RemoveBrokerResponse, Error> {
        self.allow(Operation::Alter, Resource::Cluster)?;
        let deadline = admin_deadline(request.timeout_ms)?;
        let cluster = self.core.cluster()?;
        let broker = BrokerId(request.broker_id);
        cluster.catch_up(deadline).await?;
        let votes = cluster.metadata.raft_status().voters.iter().any(|node| node.broker == broker);
        let is_draining = cluster.machine().broker(broker).is_some_and(|known| known.is_draining);
        if votes && is_draining {
            let message = format!(
                "broker {broker} still votes on the metadata: its vote goes to another broker, if \
                 three others are alive"
            );
            return Err(Error::new(ErrorCode::ReassignmentInProgress, message));
        }
        if votes {
            return Err(invalid(format!(
                "broker {broker} takes part in the cluster: drain it first"
            )));
        }
        cluster.propose(&Command::RemoveBroker { broker }, deadline).await?;
        info!(%broker, "removed a broker from the cluster");
        Ok(RemoveBrokerResponse {})
    }

    pub(super) fn replicas_described(&self) -> Result<DescribeReplicasResponse, Error> {
        self.allow(Operation::Describe, Resource::Cluster)?;
        let cluster = self.core.cluster()?;
        let hosted = cluster.hosted.all().into_iter().map(|replica| HostedReplica {
            topic: replica.topic.to_string(),
            partition: replica.group.partition.0,
            log_bytes: replica.log_bytes(),
            out_of_service: replica.is_out_of_service(),
        });
        let replicas = hosted.collect();
        Ok(DescribeReplicasResponse { broker_id: self.core.config.broker().0, replicas })
    }
}
