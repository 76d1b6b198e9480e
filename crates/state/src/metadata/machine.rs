//! The state that all members of the metadata group share.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_types::{
    BrokerId, ErrorCode, FeatureLevel, GroupId, Incarnation, LogPosition, NodeId, PartitionId,
    ProducerId, Timestamp, TopicId, TopicName,
};

use super::config::{CONFIG_KEYS, resolve};
use super::{
    Broker, Change, ClusterId, Command, ConfigChange, ConfigEntry, ConfigOverrides, ConfigScope,
    InvalidConfig, Leader, LeaderReport, Outcome, Partition, PartitionState, Refusal, Reply, Topic,
    TopicConfig, TopicState,
};
use crate::DecodeError;

/// How many producer ids a broker gets at a time.
pub const PRODUCER_IDS_PER_BLOCK: u32 = 1_000;

/// What an applied command came to, and what it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// For the proposer.
    pub reply: Reply,
    /// For whoever reconciles; empty when nothing changed.
    pub changes: Vec<Change>,
}

/// The metadata as the group's log describes it.
///
/// Invariants:
/// - Entries are applied once each, by ascending index.
/// - Nothing but the cluster's formation is accepted before it, and it happens once.
/// - `names` holds each live topic once, and no other.
/// - Producer ids, incarnations and the feature level only go up.
/// - A refused command changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub(super) applied: Option<LogPosition>,
    pub(super) cluster: Option<ClusterId>,
    pub(super) feature_level: FeatureLevel,
    pub(super) brokers: BTreeMap<BrokerId, Broker>,
    /// The last incarnations of brokers that were removed. One that comes back under such an id gets a
    /// later one: what the old disk holds is another node's.
    pub(super) removed: BTreeMap<BrokerId, Incarnation>,
    pub(super) topics: BTreeMap<TopicId, Topic>,
    pub(super) names: BTreeMap<TopicName, TopicId>,
    pub(super) configs: ConfigOverrides,
    pub(super) producer_id_next: i64,
}

impl Machine {
    /// A cluster that has not formed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Passes an entry that is none of the machine's: blank or membership.
    ///
    /// # Panics
    /// When it does not follow the last one.
    pub fn pass(&mut self, position: LogPosition) {
        if let Some(applied) = self.applied {
            assert_eq!(position.index, applied.index.next(), "entries are applied in order");
            assert!(position.term >= applied.term, "terms never go down");
        }
        self.applied = Some(position);
    }

    /// Applies the committed command at `position`.
    ///
    /// # Panics
    /// When it does not follow the last entry.
    pub fn apply(
        &mut self,
        position: LogPosition,
        command: &Command,
        append_time: Timestamp,
    ) -> Applied {
        self.pass(position);
        let mut changes = Vec::new();
        let reply = self.dispatch(command, append_time, &mut changes);
        assert!(reply.is_ok() || changes.is_empty(), "a refused command changes nothing");
        Applied { reply, changes }
    }

    /// What the command would be answered if it came next.
    ///
    /// # Errors
    /// As it would be refused.
    pub fn rehearse(&self, command: &Command, now: Timestamp) -> Result<Outcome, Refusal> {
        let mut copy = self.clone();
        let at = copy.applied().unwrap_or_default();
        let next = LogPosition { term: at.term, index: at.index.next() };
        copy.apply(next, command, now).reply
    }

    /// The last applied entry.
    #[must_use]
    pub const fn applied(&self) -> Option<LogPosition> {
        self.applied
    }

    /// The cluster's id, once it has formed.
    #[must_use]
    pub const fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// The brokers, by number.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Broker> {
        self.brokers.values()
    }

    /// A broker.
    #[must_use]
    pub fn broker(&self, id: BrokerId) -> Option<&Broker> {
        self.brokers.get(&id)
    }

    /// The brokers that take new replicas, by number: none that is being drained or has not come yet.
    pub fn takers(&self) -> impl Iterator<Item = &Broker> {
        let newcomers_wait = self.feature_level >= FeatureLevel::IDS;
        self.brokers.values().filter(move |broker| {
            let waits = newcomers_wait && broker.is_on_its_way();
            !broker.is_draining && !waits
        })
    }

    /// Whether the node was removed, or its broker has come back as a later incarnation: nobody will be
    /// this node again.
    #[must_use]
    pub fn has_removed(&self, node: NodeId) -> bool {
        let known = self.brokers.get(&node.broker).map(|broker| broker.incarnation);
        let removed = self.removed.get(&node.broker);
        removed.is_some_and(|last| node.incarnation <= *last)
            || known.is_some_and(|known| node.incarnation < known)
    }

    /// Whether a broker of this id was removed, and none has come under it since.
    #[must_use]
    pub fn was_removed(&self, id: BrokerId) -> bool {
        self.removed.contains_key(&id)
    }

    /// All topics by id, deleting ones included.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Topic> {
        self.topics.values()
    }

    /// The live topics, by name.
    pub fn live_topics(&self) -> impl ExactSizeIterator<Item = &Topic> {
        self.names.values().map(|id| &self.topics[id])
    }

    /// A topic by id, also while it is being deleted.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id)
    }

    /// A live topic by name.
    #[must_use]
    pub fn topic_by_name(&self, name: &str) -> Option<&Topic> {
        self.names.get(name).map(|id| &self.topics[id])
    }

    /// A partition, also while its topic is being deleted.
    #[must_use]
    pub fn partition(&self, group: GroupId) -> Option<&Partition> {
        self.topics.get(&group.topic)?.partitions.get(group.partition.0 as usize)
    }

    /// The partitions of live topics that the broker should hold a replica of.
    pub fn hosted_by(&self, broker: BrokerId) -> impl Iterator<Item = (GroupId, &Partition)> {
        self.live_partitions().filter(move |(_, partition)| partition.replicas.contains(&broker))
    }

    /// The partitions of live topics with their groups.
    pub fn live_partitions(&self) -> impl Iterator<Item = (GroupId, &Partition)> {
        let live = self.topics.values().filter(|topic| topic.state == TopicState::Live);
        live.flat_map(groups)
    }

    /// Whether a replica of the partition belongs on the node: it votes, or is to, or its group may
    /// still need it.
    #[must_use]
    pub fn belongs_on(&self, node: NodeId, partition: &Partition) -> bool {
        if partition.has_released(node) {
            return false;
        }
        let is_current = self.brokers.get(&node.broker).is_some_and(|known| known.node() == node);
        // While nobody has led it, only those that found it may.
        let is_target =
            !partition.is_creating() && is_current && partition.replicas.contains(&node.broker);
        is_target || partition.voters.contains(&node) || partition.may_need(node)
    }

    /// The nodes that should hold a replica of the partition: its brokers' newest incarnations.
    #[must_use]
    pub fn target_nodes(&self, partition: &Partition) -> Vec<NodeId> {
        let registered = |id: &BrokerId| self.brokers.get(id).map(Broker::node);
        partition.replicas.iter().filter_map(registered).collect()
    }

    /// The config of a topic as it holds.
    #[must_use]
    pub fn topic_config(&self, id: TopicId) -> Option<TopicConfig> {
        let topic = self.topics.get(&id)?;
        Some(TopicConfig::resolve(&self.configs, &topic.configs))
    }

    /// The configs that hold in a scope with their sources, by name; `None` when the topic is
    /// unknown.
    #[must_use]
    pub fn describe_configs(&self, scope: ConfigScope) -> Option<[ConfigEntry; CONFIG_KEYS.len()]> {
        match scope {
            ConfigScope::Cluster => Some(resolve(&self.configs, &ConfigOverrides::default())),
            ConfigScope::Topic(id) => Some(resolve(&self.configs, &self.topics.get(&id)?.configs)),
        }
    }

    /// The machine's bytes: equal for equal machines.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        super::snapshot::encode(self)
    }

    /// The inverse of [`Machine::encode`].
    ///
    /// # Errors
    /// When a newer version wrote the bytes, or they do not describe a machine.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        super::snapshot::decode(bytes)
    }

    fn dispatch(
        &mut self,
        command: &Command,
        append_time: Timestamp,
        changes: &mut Vec<Change>,
    ) -> Reply {
        if let Command::FormCluster { cluster, level, brokers } = command {
            return self.form(*cluster, *level, brokers, changes);
        }
        if self.cluster.is_none() {
            let message = "the cluster has not formed yet";
            return Err(Refusal::new(ErrorCode::ClusterNotFormed, message));
        }
        self.permits(command)?;
        match command {
            Command::FormCluster { .. } => unreachable!("handled above"),
            Command::RegisterBroker { broker } => self.register(broker, changes),
            Command::RenewBroker { broker, token } => self.renew(*broker, *token, changes),
            Command::JoinBroker { token } => self.join(*token, changes),
            Command::CreateTopic { .. } => self.create_topic(command, append_time, changes),
            Command::DeleteTopic { topic } => self.delete_topic(*topic, changes),
            Command::SetConfigs { scope, changes: wanted } => {
                self.set_configs(*scope, wanted, changes)
            }
            Command::ReportLeaders { reports } => Ok(self.report_leaders(reports, changes)),
            Command::ReportDeleted { node, topics } => {
                Ok(self.report_deleted(*node, topics, changes))
            }
            Command::MovePartitions { moves } => self.move_partitions(moves, changes),
            Command::ReportMembers { reports } => Ok(self.report_members(reports, changes)),
            Command::ReportLeft { node, groups } => Ok(self.report_left(*node, groups, changes)),
            Command::DrainBroker { broker, draining } => self.drain(*broker, *draining, changes),
            Command::RemoveBroker { broker } => self.remove(*broker, changes),
            Command::FinalizeUpgrade { level } => self.finalize(*level, changes),
            Command::AllocateProducerIds { .. } => self.allocate_producer_ids(),
            Command::AddPartitions { topic, partitions, rotation, unreachable } => {
                self.add_partitions(*topic, *partitions, *rotation, unreachable, changes)
            }
        }
    }

    fn set_configs(
        &mut self,
        scope: ConfigScope,
        wanted: &[ConfigChange],
        changes: &mut Vec<Change>,
    ) -> Reply {
        let pairs = wanted.iter().map(|change| (change.key.as_str(), change.value.as_deref()));
        self.require_for_configs(pairs.clone())?;
        let (configs, change) = match scope {
            ConfigScope::Cluster => (&mut self.configs, Change::ClusterConfig),
            ConfigScope::Topic(id) if id.is_internal() => {
                return Err(super::topics::internal_topic(id));
            }
            ConfigScope::Topic(id) => {
                let live = self.topics.get_mut(&id).filter(|t| t.state == TopicState::Live);
                let topic = live.ok_or_else(|| unknown_topic(id))?;
                (&mut topic.configs, Change::TopicConfig(id))
            }
        };
        if configs.change(pairs)? {
            changes.push(change);
        }
        Ok(Outcome::ConfigsSet)
    }

    fn report_leaders(&mut self, reports: &[LeaderReport], changes: &mut Vec<Change>) -> Outcome {
        let before = changes.len();
        for LeaderReport { group, term, leader } in reports {
            let Some(partition) = self.live_partition_mut(*group) else { continue };
            if partition.leader.is_none_or(|known| known.term < *term) {
                partition.leader = Some(Leader { term: *term, node: *leader });
                partition.state = PartitionState::Active;
                changes.push(Change::Partition(*group));
            }
        }
        let accepted = u32::try_from(changes.len() - before).unwrap_or(u32::MAX);
        Outcome::Reported { accepted }
    }

    pub(super) fn live_partition_mut(&mut self, group: GroupId) -> Option<&mut Partition> {
        let topic = self.topics.get_mut(&group.topic).filter(|t| t.state == TopicState::Live)?;
        topic.partitions.get_mut(group.partition.0 as usize)
    }

    fn report_deleted(
        &mut self,
        node: NodeId,
        topics: &[TopicId],
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let topics: BTreeSet<_> = topics.iter().copied().collect();
        let accepted =
            self.forget_deleted(|n, topic| n == node && topics.contains(&topic), changes);
        Outcome::Reported { accepted }
    }

    /// Takes nodes off the deleting topics, and forgets the topics that no node is left on. Tells
    /// how many topics were concerned.
    pub(super) fn forget_deleted(
        &mut self,
        gone: impl Fn(NodeId, TopicId) -> bool,
        changes: &mut Vec<Change>,
    ) -> u32 {
        let mut accepted = 0;
        self.topics.retain(|id, topic| {
            let before = topic.deleting_on.len();
            topic.deleting_on.retain(|node| !gone(*node, *id));
            if topic.deleting_on.len() == before {
                return true;
            }
            accepted += 1;
            let keep = !topic.deleting_on.is_empty();
            if !keep {
                changes.push(Change::TopicGone(*id));
            }
            keep
        });
        accepted
    }

    fn allocate_producer_ids(&mut self) -> Reply {
        let first = self.producer_id_next;
        let Some(next) = first.checked_add(i64::from(PRODUCER_IDS_PER_BLOCK)) else {
            let message = "all producer ids are handed out";
            return Err(Refusal::new(ErrorCode::ResourceExhausted, message));
        };
        self.producer_id_next = next;
        Ok(Outcome::ProducerIds { first: ProducerId(first), count: PRODUCER_IDS_PER_BLOCK })
    }
}

impl From<InvalidConfig> for Refusal {
    fn from(invalid: InvalidConfig) -> Self {
        Self::new(ErrorCode::InvalidConfig, invalid.to_string())
    }
}

pub(super) fn unknown_topic(id: TopicId) -> Refusal {
    Refusal::new(ErrorCode::UnknownTopicOrPartition, format!("no topic has id {id}"))
}

pub(super) fn unknown_broker(id: BrokerId) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, format!("the cluster has no broker {id}"))
}

/// The partitions of a topic with their groups.
pub(super) fn groups(topic: &Topic) -> impl Iterator<Item = (GroupId, &Partition)> {
    let group = |n: usize| GroupId::new(topic.id, PartitionId(n as u32));
    topic.partitions.iter().enumerate().map(move |(n, partition)| (group(n), partition))
}
