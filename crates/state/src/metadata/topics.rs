//! Creation and deletion of topics.

use std::collections::BTreeSet;

use tidelog_types::{
    BrokerId, CONSUMER_GROUPS_TOPIC, ErrorCode, GroupId, NodeId, PartitionId, Timestamp, TopicId,
    TopicName,
};

use super::machine::unknown_topic;
use super::{
    Broker, Change, Command, ConfigOverrides, Machine, Outcome, PARTITIONS_MAX,
    PARTITIONS_PER_TOPIC_DEFAULT, PARTITIONS_PER_TOPIC_MAX, Partition, PartitionState,
    REPLICATION_FACTOR_DEFAULT_MAX, REPLICATION_FACTOR_MAX, Refusal, Reply, TOPICS_MAX, Topic,
    TopicState, place,
};

impl Machine {
    /// Creates the topic of a `CreateTopic` command.
    pub(super) fn create_topic(
        &mut self,
        command: &Command,
        created: Timestamp,
        changes: &mut Vec<Change>,
    ) -> Reply {
        let Command::CreateTopic {
            topic: id,
            name,
            partitions,
            replication_factor,
            configs: wanted,
            rotation,
            unreachable,
        } = command
        else {
            unreachable!("the caller has looked at the command")
        };
        let name = TopicName::new(name)
            .map_err(|invalid| Refusal::new(ErrorCode::InvalidTopic, invalid.to_string()))?;
        if let Some(outcome) = self.find_same_creation(*id, &name)? {
            return Ok(outcome);
        }
        let partitions = self.check_partitions(*partitions)?;
        let replication_factor = self.check_replication_factor(*replication_factor)?;
        let mut configs = ConfigOverrides::default();
        let pairs = wanted.iter().map(|(key, value)| (key.as_str(), Some(value.as_str())));
        self.require_for_configs(pairs.clone())?;
        configs.change(pairs)?;

        let brokers = self.takers().map(|broker| (broker.id, broker.rack.as_deref()));
        let placed = place(brokers, partitions, replication_factor, *rotation);
        let partitions = placed.into_iter().map(|r| self.new_partition(r, unreachable)).collect();
        let topic = Topic {
            id: *id,
            name: name.clone(),
            state: TopicState::Live,
            created,
            configs,
            partitions,
            deleting_on: Vec::new(),
        };
        let outcome = creation_outcome(&topic);
        self.topics.insert(*id, topic);
        self.names.insert(name, *id);
        changes.push(Change::TopicCreated(*id));
        Ok(outcome)
    }

    /// Gives a topic more partitions, with as many replicas as it has of the others; once more is as
    /// good.
    pub(super) fn add_partitions(
        &mut self,
        id: TopicId,
        wanted: u32,
        rotation: u32,
        unreachable: &[BrokerId],
        changes: &mut Vec<Change>,
    ) -> Reply {
        if id.is_internal() {
            return Err(internal_topic(id));
        }
        let live = self.topics.get(&id).filter(|topic| topic.state == TopicState::Live);
        let topic = live.ok_or_else(|| unknown_topic(id))?;
        let present = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        if wanted < present {
            let message = format!(
                "topic {} has {present} partitions: {wanted} are fewer, and none is ever taken away",
                topic.name
            );
            return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
        }
        let added = wanted - present;
        if added > 0 {
            Self::check_most(wanted)?;
            self.check_room(added)?;
        }
        let replicas = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
        let factor = self.check_replication_factor(u32::try_from(replicas).ok())?;
        let brokers = self.takers().map(|broker| (broker.id, broker.rack.as_deref()));
        let placed = place(brokers, added, factor, rotation);
        let new: Vec<_> = placed.into_iter().map(|r| self.new_partition(r, unreachable)).collect();
        let group = |number| Change::Partition(GroupId::new(id, PartitionId(number)));
        changes.extend((present..wanted).map(group));
        let topic = self.topics.get_mut(&id).expect("it was there above");
        topic.partitions.extend(new);
        Ok(Outcome::PartitionsAdded { partitions: wanted })
    }

    /// Deletes a topic; once more is as good.
    pub(super) fn delete_topic(&mut self, id: TopicId, changes: &mut Vec<Change>) -> Reply {
        if id.is_internal() {
            return Err(internal_topic(id));
        }
        let Some(topic) = self.topics.get_mut(&id) else { return Err(unknown_topic(id)) };
        if topic.state == TopicState::Deleting {
            return Ok(Outcome::TopicDeleted);
        }
        topic.state = TopicState::Deleting;
        // Whoever may hold data: first voters, later replicas and leaders. Nodes of an earlier
        // incarnation have lost their disk and will never report.
        let mut nodes: BTreeSet<NodeId> = BTreeSet::new();
        for partition in &topic.partitions {
            nodes.extend(&partition.voters);
            nodes.extend(partition.leaving.iter().map(|leaving| leaving.node));
            nodes.extend(partition.leader.map(|leader| leader.node));
            let replicas = partition.replicas.iter();
            nodes.extend(replicas.filter_map(|id| self.brokers.get(id)).map(Broker::node));
        }
        let current = |node: &NodeId| self.brokers.get(&node.broker).map(Broker::node);
        nodes.retain(|node| current(node) == Some(*node));
        topic.deleting_on = nodes.into_iter().collect();
        self.names.remove(&topic.name);
        changes.push(Change::TopicDeleting(id));
        if topic.deleting_on.is_empty() {
            self.topics.remove(&id);
            changes.push(Change::TopicGone(id));
        }
        Ok(Outcome::TopicDeleted)
    }

    /// The outcome of the same command applied before; refuses what would clash.
    fn find_same_creation(
        &self,
        id: TopicId,
        name: &TopicName,
    ) -> Result<Option<Outcome>, Refusal> {
        if let Some(other) = self.names.get(name).filter(|other| **other != id) {
            let message = format!("topic {name} exists with id {other}");
            return Err(Refusal::new(ErrorCode::TopicAlreadyExists, message));
        }
        let internal = id == TopicId::CONSUMER_GROUPS;
        if internal != (name.as_str() == CONSUMER_GROUPS_TOPIC) {
            let message = format!("topic {name} with id {id}: one of them is the cluster's own");
            return Err(Refusal::new(ErrorCode::InvalidTopic, message));
        }
        match self.topics.get(&id) {
            Some(topic) if topic.name == *name && topic.state == TopicState::Live => {
                Ok(Some(creation_outcome(topic)))
            }
            Some(_) => Err(invalid_id(id, "is taken")),
            None if id.is_internal() && !internal => Err(invalid_id(id, "is reserved")),
            None if self.topics.len() >= TOPICS_MAX => {
                let message = format!("the cluster has {TOPICS_MAX} topics, the most allowed");
                Err(Refusal::new(ErrorCode::ResourceExhausted, message))
            }
            None => Ok(None),
        }
    }

    fn check_partitions(&self, wanted: Option<u32>) -> Result<u32, Refusal> {
        let partitions = wanted.unwrap_or(PARTITIONS_PER_TOPIC_DEFAULT);
        Self::check_most(partitions)?;
        self.check_room(partitions)?;
        Ok(partitions)
    }

    fn check_most(partitions: u32) -> Result<(), Refusal> {
        if (1..=PARTITIONS_PER_TOPIC_MAX).contains(&partitions) {
            return Ok(());
        }
        let message =
            format!("{partitions} partitions: 1 to {PARTITIONS_PER_TOPIC_MAX} are allowed");
        Err(Refusal::new(ErrorCode::InvalidPartitions, message))
    }

    fn check_room(&self, partitions: u32) -> Result<(), Refusal> {
        let present: usize = self.topics.values().map(|topic| topic.partitions.len()).sum();
        let room = PARTITIONS_MAX.saturating_sub(present);
        if partitions as usize > room {
            let message = format!(
                "{partitions} partitions: the cluster has {present}, {room} more are allowed"
            );
            return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
        }
        Ok(())
    }

    fn check_replication_factor(&self, wanted: Option<u32>) -> Result<u32, Refusal> {
        let brokers = u32::try_from(self.takers().count()).unwrap_or(u32::MAX);
        let most = brokers.min(REPLICATION_FACTOR_MAX);
        let factor = wanted.unwrap_or(most.min(REPLICATION_FACTOR_DEFAULT_MAX));
        if (1..=most).contains(&factor) {
            return Ok(factor);
        }
        let draining = match self.brokers.len() - brokers as usize {
            0 => String::new(),
            draining => format!(" and {draining} that are being drained"),
        };
        let message = format!(
            "replication factor {factor}: 1 to {most} are allowed, the cluster has {brokers} \
             brokers{draining}"
        );
        Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message))
    }

    fn new_partition(&self, replicas: Vec<BrokerId>, unreachable: &[BrokerId]) -> Partition {
        let voters: Vec<NodeId> = replicas.iter().map(|id| self.brokers[id].node()).collect();
        let reachable = voters.iter().find(|node| !unreachable.contains(&node.broker));
        let initializer = *reachable.unwrap_or(&voters[0]);
        Partition {
            state: PartitionState::Creating,
            replicas,
            voters,
            voters_at: None,
            revision: 0,
            leaving: Vec::new(),
            initializer,
            leader: None,
        }
    }
}

fn creation_outcome(topic: &Topic) -> Outcome {
    Outcome::TopicCreated {
        topic: topic.id,
        partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
        replication_factor: topic
            .partitions
            .first()
            .map_or(0, |partition| u32::try_from(partition.replicas.len()).unwrap_or(u32::MAX)),
    }
}

/// The answer to whoever would delete or configure the cluster's own topics.
pub(super) fn internal_topic(id: TopicId) -> Refusal {
    let message = format!("topic id {id} is the cluster's own, it cannot be changed");
    Refusal::new(ErrorCode::InvalidTopic, message)
}

fn invalid_id(id: TopicId, problem: &str) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, format!("topic id {id} {problem}"))
}
