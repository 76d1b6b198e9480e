//! What a broker tells about the cluster.

use tidelog_proto::v1::metadata_service_server::MetadataService;
use tidelog_proto::v1::{self, Error, LeaderHint};
use tidelog_types::{BrokerId, ErrorCode};
use tonic::{Request, Response, Status};

use super::Broker;
use super::world::State;

pub(super) const CLUSTER: &str = "11111111-1111-4111-8111-111111111111";

fn brokers(state: &State) -> Vec<v1::Broker> {
    let brokers = state.addresses.iter().map(|(id, address)| v1::Broker {
        id: *id,
        address: address.clone(),
        alive: true,
        ..v1::Broker::default()
    });
    brokers.collect()
}

fn describe(state: &State, name: &str) -> Result<v1::TopicDescription, Error> {
    let missing = || Error::new(ErrorCode::UnknownTopicOrPartition, format!("no topic {name}"));
    let topic = state.topics.get(name).ok_or_else(missing)?;
    let partitions = topic.partitions.iter().enumerate().map(|(at, partition)| {
        let address = state.addresses.get(&partition.leader).cloned();
        let leader = BrokerId(partition.leader);
        v1::PartitionDescription {
            partition: at as u32,
            leader: (partition.leader > 0)
                .then(|| LeaderHint::new(leader, address, partition.epoch)),
            replicas: state.addresses.keys().copied().collect(),
            alive_replicas: state.addresses.keys().copied().collect(),
            ..v1::PartitionDescription::default()
        }
    });
    let configs = topic.configs.iter().map(|(name, value)| v1::ConfigEntry {
        name: name.clone(),
        value: value.clone(),
        source: v1::ConfigSource::Topic.into(),
    });
    Ok(v1::TopicDescription {
        name: name.to_owned(),
        id: topic.id.clone(),
        create_time_ms: topic.created,
        partitions: partitions.collect(),
        configs: configs.collect(),
    })
}

#[tonic::async_trait]
impl MetadataService for Broker {
    async fn describe_cluster(
        &self,
        _: Request<v1::DescribeClusterRequest>,
    ) -> Result<Response<v1::DescribeClusterResponse>, Status> {
        self.world.thaw(self.id).await;
        self.world.change(|state| state.described += 1);
        let state = self.world.state();
        if state.unformed {
            let waiting_for = "waiting for broker 2".to_owned();
            let waits = v1::DescribeClusterResponse { waiting_for, ..Default::default() };
            return Ok(Response::new(waits));
        }
        Ok(Response::new(v1::DescribeClusterResponse {
            cluster_id: CLUSTER.to_owned(),
            broker_id: self.id,
            controller_id: Some(state.controller),
            brokers: brokers(&state),
            ..v1::DescribeClusterResponse::default()
        }))
    }

    async fn describe_topics(
        &self,
        request: Request<v1::DescribeTopicsRequest>,
    ) -> Result<Response<v1::DescribeTopicsResponse>, Status> {
        use v1::describe_topics_result::Result as Described;
        self.world.thaw(self.id).await;
        let answer = self.world.change(|state| {
            match state.elect_after.take() {
                Some((0, topic, partition, to)) => state.move_leader(&topic, partition, to),
                Some((left, topic, partition, to)) => {
                    state.elect_after = Some((left - 1, topic, partition, to));
                }
                None => {}
            }
            let results = request.into_inner().topics.into_iter().map(|name| {
                let mut described = describe(state, &name);
                if let (Ok(topic), 1..) = (&mut described, state.descriptions_behind) {
                    state.descriptions_behind -= 1;
                    topic.partitions.pop();
                }
                let result = described.map_or_else(Described::Error, Described::Topic);
                v1::DescribeTopicsResult { result: Some(result) }
            });
            let results = results.collect();
            v1::DescribeTopicsResponse { results, brokers: brokers(state) }
        });
        Ok(Response::new(answer))
    }

    async fn list_topics(
        &self,
        request: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsResponse>, Status> {
        /// Small, so that a list of a few topics has several pages.
        const PAGE: usize = 2;
        let after = request.into_inner().after;
        let state = self.world.state();
        let behind = state.topics.iter().filter(|(name, _)| **name > after);
        let mut topics = behind.map(|(name, topic)| v1::TopicListing {
            name: name.clone(),
            id: topic.id.clone(),
            partitions: topic.partitions.len() as u32,
            replication_factor: 3,
        });
        let page = topics.by_ref().take(PAGE).collect();
        Ok(Response::new(v1::ListTopicsResponse { topics: page, more: topics.next().is_some() }))
    }
}
