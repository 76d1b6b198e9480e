//! `MetadataService`: what the cluster and its topics look like, from the view.

use tidelog_proto::v1::describe_topics_result::Result as Described;
use tidelog_proto::v1::metadata_service_server::MetadataService;
use tidelog_proto::v1::{
    DescribeClusterRequest, DescribeClusterResponse, DescribeTopicsRequest, DescribeTopicsResponse,
    DescribeTopicsResult, Error, ListTopicsRequest, ListTopicsResponse, TopicListing,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::describe::{complete_brokers, complete_topic, count_replicas, tell_software};
use super::{Api, at_most, size, view_failed};
use crate::access::{Operation, Resource};
use crate::cluster::{CATCH_UP_TIMEOUT, unknown_topic};
use crate::core::Phase;
use crate::limits;

#[tonic::async_trait]
impl MetadataService for Api {
    async fn describe_cluster(
        &self,
        _request: Request<DescribeClusterRequest>,
    ) -> Result<Response<DescribeClusterResponse>, Status> {
        Ok(Response::new(self.cluster_described().await?))
    }

    async fn describe_topics(
        &self,
        request: Request<DescribeTopicsRequest>,
    ) -> Result<Response<DescribeTopicsResponse>, Status> {
        Ok(Response::new(self.topics_described(request.into_inner()).await?))
    }

    async fn list_topics(
        &self,
        request: Request<ListTopicsRequest>,
    ) -> Result<Response<ListTopicsResponse>, Status> {
        Ok(Response::new(self.topics_listed(request.into_inner()).await?))
    }
}

impl Api {
    async fn cluster_described(&self) -> Result<DescribeClusterResponse, Error> {
        self.allow(Operation::Describe, Resource::Cluster)?;
        let mut response = DescribeClusterResponse {
            broker_id: self.core.config.broker().0,
            version: self.core.env.software.version().to_owned(),
            ..DescribeClusterResponse::default()
        };
        let phase = self.core.phase.borrow().clone();
        let cluster = match phase {
            Phase::Running(cluster) => cluster,
            Phase::Waiting(reason) => {
                response.waiting_for = reason.to_string();
                return Ok(response);
            }
        };
        let id = cluster.view.cluster().await.map_err(|err| view_failed(&err))?;
        let Some(id) = id else {
            response.waiting_for = "the initial brokers to elect a leader".to_owned();
            return Ok(response);
        };
        let mut brokers = cluster.view.brokers().await.map_err(|err| view_failed(&err))?;
        complete_brokers(self, &cluster.live_brokers(), &mut brokers);
        let machine = cluster.machine();
        count_replicas(&machine, &mut brokers);
        tell_software(&machine, &mut brokers);
        response.feature_level = machine.feature_level().0;
        response.feature_level_common = machine.newest_common_level().0;
        response.cluster_id = id;
        response.controller_id = cluster.controller().map(|node| node.broker.0);
        response.brokers = brokers;
        Ok(response)
    }

    async fn topics_described(
        &self,
        request: DescribeTopicsRequest,
    ) -> Result<DescribeTopicsResponse, Error> {
        at_most(request.topics.len(), limits::DESCRIBE_TOPICS_MAX, "topics")?;
        let cluster = self.core.cluster()?;
        let live = cluster.live_brokers();
        let found = || async {
            let found = cluster.view.topics(request.topics.clone()).await;
            found.map_err(|err| view_failed(&err))
        };
        let (mut topics, mut doubt) = (found().await?, None);
        if topics.iter().any(Option::is_none) {
            // Only who has all the news may say that a topic does not exist.
            match cluster.catch_up(Instant::now() + CATCH_UP_TIMEOUT).await {
                Ok(()) => topics = found().await?,
                Err(error) => doubt = Some(error),
            }
        }
        let missing = |name: &str| doubt.clone().unwrap_or_else(|| unknown_topic(name));
        let describe = |(name, found): (&String, Option<_>)| -> Result<_, Error> {
            self.allow(Operation::Describe, Resource::Topic(name))?;
            let mut topic = found.ok_or_else(|| missing(name))?;
            complete_topic(self, &cluster, &live, &mut topic);
            if !request.include_configs {
                topic.configs.clear();
            }
            Ok(topic)
        };
        let results = request.topics.iter().zip(topics).map(|pair| {
            let described = describe(pair).map_or_else(Described::Error, Described::Topic);
            DescribeTopicsResult { result: Some(described) }
        });
        let results = results.collect();
        let mut brokers = cluster.view.brokers().await.map_err(|err| view_failed(&err))?;
        complete_brokers(self, &live, &mut brokers);
        Ok(DescribeTopicsResponse { results, brokers })
    }

    async fn topics_listed(&self, request: ListTopicsRequest) -> Result<ListTopicsResponse, Error> {
        self.allow(Operation::Describe, Resource::Cluster)?;
        let (default, most) = (limits::LIST_TOPICS_DEFAULT, limits::LIST_TOPICS_MAX);
        let count = size(request.max_topics, default, most, "max_topics")?;
        let cluster = self.core.cluster()?;
        // One more than wanted tells whether there are more.
        let page = cluster.view.page(request.after, count + 1).await;
        let mut page = page.map_err(|err| view_failed(&err))?;
        let more = page.len() > count;
        page.truncate(count);
        let topics = page.into_iter().map(|topic| TopicListing {
            partitions: topic.partitions.len() as u32,
            replication_factor: topic.partitions.first().map_or(0, |p| p.replicas.len() as u32),
            name: topic.name,
            id: topic.id,
        });
        Ok(ListTopicsResponse { topics: topics.collect(), more })
    }
}
