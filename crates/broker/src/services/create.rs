//! Topics: created, deleted, configured.

use tidelog_proto::v1::create_topics_result::Result as Created;
use tidelog_proto::v1::{
    AlterConfigsRequest, AlterConfigsResponse, AlterConfigsResult, ConfigValue,
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsResult, CreateTopicsRequest,
    CreateTopicsResponse, CreateTopicsResult, CreatedTopic, DeleteTopicsRequest,
    DeleteTopicsResponse, DeleteTopicsResult, Error, NewPartitions, NewTopic, TopicConfigs,
};
use tidelog_state::metadata::{Command, ConfigChange, ConfigScope, Machine, Outcome};
use tidelog_types::{BrokerId, TopicId, failpoint};
use tokio::time::Instant;
use tracing::info;

use super::admin::admin_deadline;
use super::{Api, at_most, invalid};
use crate::access::{Operation, Resource};
use crate::cluster::{Cluster, unexpected};
use crate::limits;

impl Api {
    pub(super) async fn topics_created(
        &self,
        request: CreateTopicsRequest,
    ) -> Result<CreateTopicsResponse, Error> {
        at_most(request.topics.len(), limits::ADMIN_TOPICS_MAX, "topics")?;
        let deadline = admin_deadline(request.timeout_ms)?;
        let cluster = self.core.cluster()?;
        let mut results = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let created = self.topic_created(&cluster, topic, request.validate_only, deadline);
            let result = created.await.map_or_else(Created::Error, Created::Created);
            results.push(CreateTopicsResult { result: Some(result) });
        }
        failpoint!("answer", "create", Before);
        Ok(CreateTopicsResponse { results })
    }

    async fn topic_created(
        &self,
        cluster: &Cluster,
        new: NewTopic,
        validate_only: bool,
        deadline: Instant,
    ) -> Result<CreatedTopic, Error> {
        self.allow(Operation::Create, Resource::Topic(&new.name))?;
        let name = new.name.clone();
        let command = self.creation(cluster, new)?;
        if validate_only {
            cluster.catch_up(deadline).await?;
            let outcome = self.rehearse(&cluster.machine(), &command)?;
            return created(outcome).map(|topic| CreatedTopic { id: String::new(), ..topic });
        }
        let topic = created(cluster.propose(&command, deadline).await?)?;
        info!(topic = name, id = topic.id, partitions = topic.partitions, "created a topic");
        Ok(topic)
    }

    fn creation(&self, cluster: &Cluster, new: NewTopic) -> Result<Command, Error> {
        let config = |config: ConfigValue| match config.value {
            Some(value) => Ok((config.name, value)),
            None => Err(invalid(format!("config {} of a new topic has no value", config.name))),
        };
        Ok(Command::CreateTopic {
            topic: TopicId(self.core.env.random_uuid()),
            name: new.name,
            partitions: (new.partitions > 0).then_some(new.partitions),
            replication_factor: (new.replication_factor > 0).then_some(new.replication_factor),
            configs: new.configs.into_iter().map(config).collect::<Result<_, _>>()?,
            rotation: (self.core.env.node.entropy)() as u32,
            unreachable: unreachable(cluster),
        })
    }

    /// What the command would come to, on a copy of the machine.
    pub(super) fn rehearse(&self, machine: &Machine, command: &Command) -> Result<Outcome, Error> {
        let outcome = machine.rehearse(command, self.core.env.node.clock.now());
        outcome.map_err(|refusal| Error::new(refusal.code, refusal.message))
    }

    pub(super) async fn partitions_created(
        &self,
        request: CreatePartitionsRequest,
    ) -> Result<CreatePartitionsResponse, Error> {
        at_most(request.topics.len(), limits::ADMIN_TOPICS_MAX, "topics")?;
        let deadline = admin_deadline(request.timeout_ms)?;
        let cluster = self.core.cluster()?;
        let mut results = Vec::with_capacity(request.topics.len());
        for new in &request.topics {
            let added = self.partitions_added(&cluster, new, request.validate_only, deadline);
            results.push(CreatePartitionsResult { error: added.await.err() });
        }
        Ok(CreatePartitionsResponse { results })
    }

    async fn partitions_added(
        &self,
        cluster: &Cluster,
        new: &NewPartitions,
        validate_only: bool,
        deadline: Instant,
    ) -> Result<(), Error> {
        self.allow(Operation::Alter, Resource::Topic(&new.topic))?;
        let topic = cluster.find_fresh(&new.topic, 0, "").await?.topic;
        let command = Command::AddPartitions {
            topic,
            partitions: new.partitions,
            rotation: (self.core.env.node.entropy)() as u32,
            unreachable: unreachable(cluster),
        };
        if validate_only {
            return self.rehearse(&cluster.machine(), &command).map(|_| ());
        }
        cluster.propose(&command, deadline).await?;
        info!(topic = new.topic, partitions = new.partitions, "added partitions to a topic");
        Ok(())
    }

    pub(super) async fn topics_deleted(
        &self,
        request: DeleteTopicsRequest,
    ) -> Result<DeleteTopicsResponse, Error> {
        at_most(request.topics.len(), limits::ADMIN_TOPICS_MAX, "topics")?;
        let deadline = admin_deadline(request.timeout_ms)?;
        let cluster = self.core.cluster()?;
        let mut results = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let error = self.topic_deleted(&cluster, topic, deadline).await.err();
            results.push(DeleteTopicsResult { error });
        }
        Ok(DeleteTopicsResponse { results })
    }

    async fn topic_deleted(
        &self,
        cluster: &Cluster,
        name: &str,
        deadline: Instant,
    ) -> Result<(), Error> {
        self.allow(Operation::Delete, Resource::Topic(name))?;
        let topic = cluster.find_fresh(name, 0, "").await?.topic;
        cluster.propose(&Command::DeleteTopic { topic }, deadline).await?;
        info!(topic = name, id = %topic, "deleted a topic");
        Ok(())
    }

    pub(super) async fn configs_altered(
        &self,
        request: AlterConfigsRequest,
    ) -> Result<AlterConfigsResponse, Error> {
        at_most(request.topics.len(), limits::ADMIN_TOPICS_MAX, "topics")?;
        let deadline = admin_deadline(request.timeout_ms)?;
        let cluster = self.core.cluster()?;
        let mut results = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let altered = self.config_altered(&cluster, topic, request.validate_only, deadline);
            results.push(AlterConfigsResult { error: altered.await.err() });
        }
        Ok(AlterConfigsResponse { results })
    }

    async fn config_altered(
        &self,
        cluster: &Cluster,
        wanted: TopicConfigs,
        validate_only: bool,
        deadline: Instant,
    ) -> Result<(), Error> {
        self.allow(Operation::Alter, Resource::Topic(&wanted.topic))?;
        let topic = cluster.find_fresh(&wanted.topic, 0, "").await?.topic;
        let change = |config: ConfigValue| ConfigChange { key: config.name, value: config.value };
        let changes = wanted.configs.into_iter().map(change).collect();
        let command = Command::SetConfigs { scope: ConfigScope::Topic(topic), changes };
        if validate_only {
            return self.rehearse(&cluster.machine(), &command).map(|_| ());
        }
        cluster.propose(&command, deadline).await?;
        info!(topic = wanted.topic, "changed configs of a topic");
        Ok(())
    }
}

/// Brokers that this one does not hear from: none of them should begin a group.
fn unreachable(cluster: &Cluster) -> Vec<BrokerId> {
    let live = cluster.live_brokers();
    let machine = cluster.machine();
    let brokers = machine.brokers().map(|broker| broker.id);
    brokers.filter(|id| !live.contains(id)).collect()
}

fn created(outcome: Outcome) -> Result<CreatedTopic, Error> {
    match outcome {
        Outcome::TopicCreated { topic, partitions, replication_factor } => {
            Ok(CreatedTopic { id: topic.to_string(), partitions, replication_factor })
        }
        other => Err(unexpected(&other)),
    }
}
