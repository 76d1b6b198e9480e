//! `AdminService`: changing the cluster, and looking inside it. Any broker takes every change: the
//! command goes to the leader of the metadata group from here.

use std::time::Duration;

use tidelog_proto::v1::admin_service_server::AdminService;
use tidelog_proto::v1::describe_partition_raft_result::Result as Inside;
use tidelog_proto::v1::transfer_leader_result::Result as Moved;
use tidelog_proto::v1::{
    AlterConfigsRequest, AlterConfigsResponse, CanStopRequest, CanStopResponse,
    ClusterHealthRequest, ClusterHealthResponse, CreatePartitionsRequest, CreatePartitionsResponse,
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    DescribeConfigurationRequest, DescribeConfigurationResponse, DescribePartitionRaftRequest,
    DescribePartitionRaftResponse, DescribePartitionRaftResult, DescribeReplicasRequest,
    DescribeReplicasResponse, DrainBrokerRequest, DrainBrokerResponse, Error,
    FinalizeUpgradeRequest, FinalizeUpgradeResponse, LeaderHint, MovePartitionsRequest,
    MovePartitionsResponse, PartitionRaft, RebalancePartitionsRequest, RebalancePartitionsResponse,
    RemoveBrokerRequest, RemoveBrokerResponse, ReplicaRaft, ScrubPartitionRequest,
    ScrubPartitionResponse, SetLogLevelRequest, SetLogLevelResponse, TopicPartition,
    TransferLeaderItem, TransferLeaderRequest, TransferLeaderResponse, TransferLeaderResult,
    TrimPartitionsRequest, TrimPartitionsResponse, UnsafeRecoverRequest, UnsafeRecoverResponse,
};
use tidelog_raft::{RaftStatus, Role, TransferError};
use tidelog_types::{BrokerId, ErrorCode, LogIndex, NodeId};
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};
use tracing::info;

use super::{Api, at_most, invalid, time};
use crate::access::{Operation, Resource};
use crate::cluster::Cluster;
use crate::counters::Place;
use crate::hosted::ReplicaState;
use crate::limits;

#[tonic::async_trait]
impl AdminService for Api {
    async fn create_topics(
        &self,
        request: Request<CreateTopicsRequest>,
    ) -> Result<Response<CreateTopicsResponse>, Status> {
        let _place = self.enter()?;
        Ok(Response::new(self.topics_created(request.into_inner()).await?))
    }

    async fn create_partitions(
        &self,
        request: Request<CreatePartitionsRequest>,
    ) -> Result<Response<CreatePartitionsResponse>, Status> {
        let _place = self.enter()?;
        Ok(Response::new(self.partitions_created(request.into_inner()).await?))
    }

    async fn delete_topics(
        &self,
        request: Request<DeleteTopicsRequest>,
    ) -> Result<Response<DeleteTopicsResponse>, Status> {
        let _place = self.enter()?;
        Ok(Response::new(self.topics_deleted(request.into_inner()).await?))
    }

    async fn alter_configs(
        &self,
        request: Request<AlterConfigsRequest>,
    ) -> Result<Response<AlterConfigsResponse>, Status> {
        let _place = self.enter()?;
        Ok(Response::new(self.configs_altered(request.into_inner()).await?))
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        let _place = self.enter()?;
        Ok(Response::new(self.leaders_transferred(request.into_inner()).await?))
    }

    async fn cluster_health(
        &self,
        _request: Request<ClusterHealthRequest>,
    ) -> Result<Response<ClusterHealthResponse>, Status> {
        self.allow(Operation::Describe, Resource::Cluster)?;
        Ok(Response::new(self.health().await))
    }

    async fn describe_partition_raft(
        &self,
        request: Request<DescribePartitionRaftRequest>,
    ) -> Result<Response<DescribePartitionRaftResponse>, Status> {
        let _place = self.enter()?;
        Ok(Response::new(self.insides(request.into_inner()).await?))
    }

    async fn scrub_partition(
        &self,
        request: Request<ScrubPartitionRequest>,
    ) -> Result<Response<ScrubPartitionResponse>, Status> {
        let _place = self.enter()?;
        Ok(Response::new(self.scrubbed(request.into_inner()).await?))
    }

    async fn unsafe_recover(
        &self,
        request: Request<UnsafeRecoverRequest>,
    ) -> Result<Response<UnsafeRecoverResponse>, Status> {
        let _place = self.enter()?;
        Ok(Response::new(self.unsafely_recovered(request.into_inner()).await?))
    }

    async fn trim_partitions(
        &self,
        request: Request<TrimPartitionsRequest>,
    ) -> Result<Response<TrimPartitionsResponse>, Status> {
        let _place = self.enter()?;
        Ok(Response::new(self.partitions_trimmed(request.into_inner()).await?))
    }

    async fn move_partitions(
        &self,
        request: Request<MovePartitionsRequest>,
    ) -> Result<Response<MovePartitionsResponse>, Status> {
        let _place = self.enter()?;
        Ok(Response::new(self.partitions_moved(request.into_inner()).await?))
    }

    async fn rebalance_partitions(
        &self,
        request: Request<RebalancePartitionsRequest>,
    ) -> Result<Response<RebalancePartitionsResponse>, Status> {
        let _place = self.enter()?;
        Ok(Response::new(self.partitions_rebalanced(request.into_inner()).await?))
    }

    async fn drain_broker(
        &self,
        request: Request<DrainBrokerRequest>,
    ) -> Result<Response<DrainBrokerResponse>, Status> {
        let _place = self.enter()?;
        Ok(Response::new(self.broker_drained(request.into_inner()).await?))
    }

    async fn remove_broker(
        &self,
        request: Request<RemoveBrokerRequest>,
    ) -> Result<Response<RemoveBrokerResponse>, Status> {
        let _place = self.enter()?;
        Ok(Response::new(self.broker_removed(request.into_inner()).await?))
    }

    async fn finalize_upgrade(
        &self,
        request: Request<FinalizeUpgradeRequest>,
    ) -> Result<Response<FinalizeUpgradeResponse>, Status> {
        let _place = self.enter()?;
        Ok(Response::new(self.upgrade_finalized(request.into_inner()).await?))
    }

    async fn describe_replicas(
        &self,
        _request: Request<DescribeReplicasRequest>,
    ) -> Result<Response<DescribeReplicasResponse>, Status> {
        let _place = self.enter()?;
        Ok(Response::new(self.replicas_described()?))
    }

    async fn can_stop(
        &self,
        request: Request<CanStopRequest>,
    ) -> Result<Response<CanStopResponse>, Status> {
        let _place = self.enter()?;
        Ok(Response::new(self.can_stop_told(request.into_inner()).await?))
    }

    async fn describe_configuration(
        &self,
        _request: Request<DescribeConfigurationRequest>,
    ) -> Result<Response<DescribeConfigurationResponse>, Status> {
        self.allow(Operation::Describe, Resource::Cluster)?;
        let (broker_id, toml) = (self.core.config.broker().0, self.core.config.print());
        Ok(Response::new(DescribeConfigurationResponse { broker_id, toml }))
    }

    async fn set_log_level(
        &self,
        request: Request<SetLogLevelRequest>,
    ) -> Result<Response<SetLogLevelResponse>, Status> {
        Ok(Response::new(self.log_level_set(&request.into_inner().filter)?))
    }
}

impl Api {
    /// A place among the calls of this service.
    fn enter(&self) -> Result<Place, Error> {
        let calls = &self.core.counters.admin_calls;
        calls.enter(limits::ADMIN_CALLS_MAX as u64).ok_or_else(|| {
            let message = "too many calls of the admin service at a time";
            Error::new(ErrorCode::ResourceExhausted, message).with_retry_after(limits::RETRY_AFTER)
        })
    }

    async fn leaders_transferred(
        &self,
        request: TransferLeaderRequest,
    ) -> Result<TransferLeaderResponse, Error> {
        at_most(request.items.len(), limits::ADMIN_PARTITIONS_MAX, "partitions")?;
        let default = limits::ADMIN_TIMEOUT_DEFAULT;
        let most = limits::TRANSFER_TIMEOUT_MAX;
        let deadline = Instant::now() + time(request.timeout_ms, default, most, "timeout_ms")?;
        let cluster = self.core.cluster()?;
        let mut results = Vec::with_capacity(request.items.len());
        // One by one: a storm of elections would help nobody.
        for item in &request.items {
            let moved = timeout_at(deadline, self.leader_transferred(&cluster, item)).await;
            let late = || Error::new(ErrorCode::RequestTimedOut, "no new leader showed in time");
            let moved = moved.unwrap_or_else(|_| Err(late().with_maybe_written(false)));
            let result = Some(moved.map_or_else(Moved::Error, Moved::Leader));
            results.push(TransferLeaderResult { result });
        }
        Ok(TransferLeaderResponse { results })
    }

    async fn leader_transferred(
        &self,
        cluster: &Cluster,
        item: &TransferLeaderItem,
    ) -> Result<LeaderHint, Error> {
        self.allow(Operation::Alter, Resource::Topic(&item.topic))?;
        let group = cluster.find_fresh(&item.topic, item.partition, "").await?;
        let (replica, before) = cluster.serving(group, self.listener)?;
        let partition = replica.partition();
        let partition = partition.ok_or_else(|| cluster.not_leader(group, self.listener))?;
        let status = partition.raft_status();
        let to = match item.to_broker_id {
            Some(broker) => voter(&status, BrokerId(broker))?,
            None => best_follower(cluster, &status)?,
        };
        if to != cluster.me {
            partition.transfer_leader(to).await.map_err(|err| match err {
                TransferError::NotLeader { .. } => cluster.not_leader(group, self.listener),
                other => Error::new(ErrorCode::LeaderNotAvailable, other.to_string()),
            })?;
            info!(topic = item.topic, partition = item.partition, %to, "handed leadership over");
        }
        let mut leadership = partition.leadership();
        let moved = |now: &tidelog_raft::Leadership| {
            now.leader.is_some() && (to == cluster.me || now.term > before.term)
        };
        let gone = |_| cluster.not_leader(group, self.listener);
        let now = *leadership.wait_for(moved).await.map_err(gone)?;
        let leader = now.leader.unwrap_or(to).broker;
        let address = cluster.address(leader, self.listener);
        Ok(LeaderHint::new(leader, address, now.term.to_leader_epoch()))
    }

    async fn insides(
        &self,
        request: DescribePartitionRaftRequest,
    ) -> Result<DescribePartitionRaftResponse, Error> {
        at_most(request.partitions.len(), limits::ADMIN_PARTITIONS_MAX, "partitions")?;
        let cluster = self.core.cluster()?;
        let mut results = Vec::with_capacity(request.partitions.len());
        for partition in &request.partitions {
            let inside = self.inside(&cluster, partition).await;
            let result = Some(inside.map_or_else(Inside::Error, Inside::Raft));
            results.push(DescribePartitionRaftResult { result });
        }
        Ok(DescribePartitionRaftResponse { results })
    }

    async fn inside(
        &self,
        cluster: &Cluster,
        asked: &TopicPartition,
    ) -> Result<PartitionRaft, Error> {
        self.allow(Operation::Describe, Resource::Topic(&asked.topic))?;
        let group = cluster.find_fresh(&asked.topic, asked.partition, "").await?;
        let replica = cluster.hosted.find(group);
        let replica = replica.ok_or_else(|| cluster.not_leader(group, self.listener))?;
        let partition = match &replica.state {
            ReplicaState::Open(partition) => partition,
            // Its topic is not found by name.
            ReplicaState::Coordinator(_) => return Err(cluster.not_leader(group, self.listener)),
            ReplicaState::Out(reason) => {
                return Ok(PartitionRaft {
                    broker_id: self.core.config.broker().0,
                    quarantined: reason.clone(),
                    ..PartitionRaft::default()
                });
            }
        };
        let status = partition.raft_status();
        let progress = partition.view().borrow().progress;
        let index = |at: tidelog_types::LogPosition| at.index.0;
        Ok(PartitionRaft {
            broker_id: self.core.config.broker().0,
            leads: status.leadership.role == Role::Leader,
            leader_id: status.leadership.leader.map(|leader| leader.broker.0),
            term: status.leadership.term.0,
            last_log_index: status.last.map(index),
            committed_index: status.committed.map(index),
            applied_index: status.applied.map(index),
            purged_index: status.purged.map(index),
            log_start: progress.log_start.to_wire(),
            high_watermark: progress.high_watermark.to_wire(),
            replicas: members(cluster, &status),
            quarantined: status.stopped.unwrap_or_default(),
        })
    }

    async fn scrubbed(
        &self,
        request: ScrubPartitionRequest,
    ) -> Result<ScrubPartitionResponse, Error> {
        let asked = request.partition.ok_or_else(|| invalid("no partition".to_owned()))?;
        self.allow(Operation::Alter, Resource::Topic(&asked.topic))?;
        let cluster = self.core.cluster()?;
        let group = cluster.find_fresh(&asked.topic, asked.partition, "").await?;
        let replica = cluster.hosted.find(group);
        let replica = replica.ok_or_else(|| cluster.not_leader(group, self.listener))?;
        let out = |reason| Error::new(ErrorCode::ReplicaQuarantined, reason);
        if let ReplicaState::Out(reason) = &replica.state {
            return Err(out(reason.clone()));
        }
        let rate = Some(request.bytes_per_second).filter(|rate| *rate > 0).unwrap_or(u64::MAX);
        let report = cluster.node.scrub(group, rate).await;
        let report =
            report.ok_or_else(|| out("the replica left its group meanwhile".to_owned()))?;
        Ok(ScrubPartitionResponse {
            bytes: report.bytes,
            mended: report.mended,
            stepped_out: report.stepped_out,
            left: report.left,
        })
    }

    fn log_level_set(&self, filter: &str) -> Result<SetLogLevelResponse, Error> {
        self.allow(Operation::Alter, Resource::Cluster)?;
        if filter.len() > limits::LOG_FILTER_BYTES_MAX {
            let most = limits::LOG_FILTER_BYTES_MAX;
            return Err(invalid(format!("log filter has {} bytes, at most {most}", filter.len())));
        }
        let Some(log) = &self.core.env.log_filter else {
            let message = "this broker's log level cannot be changed while it runs";
            return Err(Error::new(ErrorCode::Unsupported, message));
        };
        let previous_filter = log.set(filter).map_err(invalid)?;
        info!(filter, "changed the log level");
        Ok(SetLogLevelResponse { previous_filter })
    }
}

/// A call's deadline.
pub(super) fn admin_deadline(timeout_ms: u32) -> Result<Instant, Error> {
    let default = limits::ADMIN_TIMEOUT_DEFAULT;
    let time: Duration = time(timeout_ms, default, limits::TIMEOUT_MAX, "timeout_ms")?;
    Ok(Instant::now() + time)
}

fn voter(status: &RaftStatus, broker: BrokerId) -> Result<NodeId, Error> {
    let found = status.voters.iter().find(|node| node.broker == broker);
    found.copied().ok_or_else(|| {
        let voters: Vec<_> = status.voters.iter().map(|node| node.broker.to_string()).collect();
        invalid(format!(
            "broker {broker} holds no voting replica of the partition, brokers {} do",
            voters.join(", ")
        ))
    })
}

/// The live voter whose log matches furthest.
fn best_follower(cluster: &Cluster, status: &RaftStatus) -> Result<NodeId, Error> {
    let live = cluster.node.live();
    let others = status.voters.iter().filter(|node| **node != cluster.me && live.contains(node));
    let best = others.max_by_key(|node| status.matched.get(node).copied().flatten());
    best.copied().ok_or_else(|| {
        Error::new(ErrorCode::LeaderNotAvailable, "no other voting replica is alive")
    })
}

fn members(cluster: &Cluster, status: &RaftStatus) -> Vec<ReplicaRaft> {
    let live = cluster.node.live();
    let last = status.last.map_or(LogIndex::ZERO, |last| last.index);
    let leads = status.leadership.role == Role::Leader;
    let voters = status.voters.iter().map(|node| (node, true));
    let learners = status.learners.iter().map(|node| (node, false));
    let member = |(node, voter): (&NodeId, bool)| {
        let mut matched = status.matched.get(node).copied().flatten();
        if *node == cluster.me {
            matched = status.last.map(|last| last.index);
        }
        ReplicaRaft {
            broker_id: node.broker.0,
            incarnation: node.incarnation.0,
            voter,
            alive: live.contains(node),
            matched_index: matched.filter(|_| leads).map(|index| index.0),
            lag_entries: leads.then(|| last.0.saturating_sub(matched.map_or(0, |index| index.0))),
        }
    };
    voters.chain(learners).map(member).collect()
}
