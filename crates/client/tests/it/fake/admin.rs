//! Changing the cluster: only the controller does, others name it.

use tidelog_proto::v1::admin_service_server::AdminService;
use tidelog_proto::v1::{self, Error, LeaderHint};
use tidelog_types::{BrokerId, ErrorCode};
use tonic::{Request, Response, Status};

use super::Broker;
use super::world::State;

impl Broker {
    fn check_controller(&self, state: &State) -> Result<(), Error> {
        if state.controller == self.id {
            return Ok(());
        }
        let address = state.addresses.get(&state.controller).cloned();
        let hint = LeaderHint::new(BrokerId(state.controller), address, 1);
        Err(Error::new(ErrorCode::NotController, "not me").with_leader(Some(hint)))
    }
}

#[tonic::async_trait]
impl AdminService for Broker {
    async fn create_topics(
        &self,
        request: Request<v1::CreateTopicsRequest>,
    ) -> Result<Response<v1::CreateTopicsResponse>, Status> {
        use v1::create_topics_result::Result as Outcome;
        let results = self.world.change(|state| {
            self.check_controller(state)?;
            let topics = request.into_inner().topics.into_iter();
            Ok::<_, Error>(
                topics
                    .map(|topic| {
                        let result = if state.topics.contains_key(&topic.name) {
                            Outcome::Error(Error::new(ErrorCode::TopicAlreadyExists, "it exists"))
                        } else {
                            let partitions = topic.partitions.max(1);
                            state.create(&topic.name, partitions);
                            let created = state.topics.get_mut(&topic.name).unwrap();
                            for config in topic.configs {
                                created.configs.insert(config.name, config.value.unwrap());
                            }
                            let id = created.id.clone();
                            Outcome::Created(v1::CreatedTopic {
                                id,
                                partitions,
                                replication_factor: 3,
                            })
                        };
                        v1::CreateTopicsResult { result: Some(result) }
                    })
                    .collect(),
            )
        })?;
        let lost = self.world.change(|state| {
            let lost = state.creations_unanswered > 0;
            state.creations_unanswered = state.creations_unanswered.saturating_sub(1);
            lost
        });
        if lost {
            return Err(Status::unavailable("broke off"));
        }
        Ok(Response::new(v1::CreateTopicsResponse { results }))
    }

    async fn delete_topics(
        &self,
        request: Request<v1::DeleteTopicsRequest>,
    ) -> Result<Response<v1::DeleteTopicsResponse>, Status> {
        let results = self.world.change(|state| {
            let topics = request.into_inner().topics.into_iter();
            topics
                .map(|topic| {
                    let error = match self.check_controller(state) {
                        Err(error) => Some(error),
                        Ok(()) if state.topics.remove(&topic).is_some() => None,
                        Ok(()) => {
                            Some(Error::new(ErrorCode::UnknownTopicOrPartition, "no such topic"))
                        }
                    };
                    v1::DeleteTopicsResult { error }
                })
                .collect()
        });
        Ok(Response::new(v1::DeleteTopicsResponse { results }))
    }

    async fn alter_configs(
        &self,
        _: Request<v1::AlterConfigsRequest>,
    ) -> Result<Response<v1::AlterConfigsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        use v1::transfer_leader_result::Result as Outcome;
        let results = self.world.change(|state| {
            let items = request.into_inner().items.into_iter();
            items
                .map(|item| {
                    let at = item.partition as usize;
                    let result = match state.check_leader(self.id, &item.topic, "", at) {
                        Err(error) => Outcome::Error(error),
                        Ok(()) => {
                            let to = item.to_broker_id.unwrap_or(1);
                            state.move_leader(&item.topic, at, to);
                            let epoch = state.partition(&item.topic, at).unwrap().epoch;
                            let address = state.addresses.get(&to).cloned();
                            Outcome::Leader(LeaderHint::new(BrokerId(to), address, epoch))
                        }
                    };
                    v1::TransferLeaderResult { result: Some(result) }
                })
                .collect()
        });
        Ok(Response::new(v1::TransferLeaderResponse { results }))
    }

    async fn cluster_health(
        &self,
        _: Request<v1::ClusterHealthRequest>,
    ) -> Result<Response<v1::ClusterHealthResponse>, Status> {
        Ok(Response::new(v1::ClusterHealthResponse {
            status: v1::HealthStatus::Degraded.into(),
            summary: "broker 3 is down".to_owned(),
            dead_broker_ids: vec![3],
            ..v1::ClusterHealthResponse::default()
        }))
    }

    async fn describe_partition_raft(
        &self,
        request: Request<v1::DescribePartitionRaftRequest>,
    ) -> Result<Response<v1::DescribePartitionRaftResponse>, Status> {
        use v1::describe_partition_raft_result::Result as Outcome;
        let mut state = self.world.state();
        let partitions = request.into_inner().partitions.into_iter();
        let results = partitions.map(|asked| {
            let checked = state.check_leader(self.id, &asked.topic, "", asked.partition as usize);
            let result = match checked {
                Err(error) => Outcome::Error(error),
                Ok(()) => Outcome::Raft(v1::PartitionRaft {
                    broker_id: self.id,
                    leads: true,
                    ..v1::PartitionRaft::default()
                }),
            };
            v1::DescribePartitionRaftResult { result: Some(result) }
        });
        let results = results.collect();
        Ok(Response::new(v1::DescribePartitionRaftResponse { results }))
    }

    async fn scrub_partition(
        &self,
        _: Request<v1::ScrubPartitionRequest>,
    ) -> Result<Response<v1::ScrubPartitionResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn unsafe_recover(
        &self,
        _: Request<v1::UnsafeRecoverRequest>,
    ) -> Result<Response<v1::UnsafeRecoverResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn move_partitions(
        &self,
        _: Request<v1::MovePartitionsRequest>,
    ) -> Result<Response<v1::MovePartitionsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn trim_partitions(
        &self,
        _: Request<v1::TrimPartitionsRequest>,
    ) -> Result<Response<v1::TrimPartitionsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn create_partitions(
        &self,
        _: Request<v1::CreatePartitionsRequest>,
    ) -> Result<Response<v1::CreatePartitionsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn rebalance_partitions(
        &self,
        _: Request<v1::RebalancePartitionsRequest>,
    ) -> Result<Response<v1::RebalancePartitionsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn drain_broker(
        &self,
        _: Request<v1::DrainBrokerRequest>,
    ) -> Result<Response<v1::DrainBrokerResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn remove_broker(
        &self,
        _: Request<v1::RemoveBrokerRequest>,
    ) -> Result<Response<v1::RemoveBrokerResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn finalize_upgrade(
        &self,
        _: Request<v1::FinalizeUpgradeRequest>,
    ) -> Result<Response<v1::FinalizeUpgradeResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn describe_replicas(
        &self,
        _: Request<v1::DescribeReplicasRequest>,
    ) -> Result<Response<v1::DescribeReplicasResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn can_stop(
        &self,
        _: Request<v1::CanStopRequest>,
    ) -> Result<Response<v1::CanStopResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn describe_configuration(
        &self,
        _: Request<v1::DescribeConfigurationRequest>,
    ) -> Result<Response<v1::DescribeConfigurationResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn set_log_level(
        &self,
        _: Request<v1::SetLogLevelRequest>,
    ) -> Result<Response<v1::SetLogLevelResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }
}
