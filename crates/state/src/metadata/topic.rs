//! Topics and their partitions.

use std::collections::BTreeSet;

use tidelog_types::{BrokerId, LogPosition, NodeId, Term, Timestamp, TopicId, TopicName};

use super::ConfigOverrides;

/// The most topics of a cluster, deleting ones included.
pub const TOPICS_MAX: usize = 100_000;

/// The most partitions of a cluster, deleting ones included.
pub const PARTITIONS_MAX: usize = 200_000;

/// The most partitions of a topic.
pub const PARTITIONS_PER_TOPIC_MAX: u32 = 10_000;

/// The number of partitions of a topic for which none is given.
pub const PARTITIONS_PER_TOPIC_DEFAULT: u32 = 1;

/// The most replicas of a partition.
pub const REPLICATION_FACTOR_MAX: u32 = 15;

/// The replication factor where none is given, if there are so many brokers.
pub const REPLICATION_FACTOR_DEFAULT_MAX: u32 = 3;

/// How far a topic's life is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicState {
    /// It exists; each partition has a state of its own.
    Live,
    /// It is deleted and its name is free; replicas still have to remove their data.
    Deleting,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id, never used again.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// How far its life is.
    pub state: TopicState,
    /// When it was created.
    pub created: Timestamp,
    /// What was set for this topic.
    pub configs: ConfigOverrides,
    /// Its partitions, by number.
    pub partitions: Vec<Partition>,
    /// While deleting: the nodes that still have to report that their data is gone, ascending.
    pub(super) deleting_on: Vec<NodeId>,
}

impl Topic {
    /// While deleting: the nodes that still have to report that their data is gone, ascending.
    #[must_use]
    pub fn deleting_on(&self) -> &[NodeId] {
        &self.deleting_on
    }
}

/// How far a partition's life is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionState {
    /// No leader has reported yet: a voter without data may write the group's first membership.
    Creating,
    /// It had a leader: a replica without data is a lost replica.
    Active,
}

/// The last reported leader of a partition. The partition's own group knows better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its term.
    pub term: Term,
    /// The node.
    pub node: NodeId,
}

/// A node that a partition moves away from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// The node.
    pub node: NodeId,
    /// Whether its group does without it: its replica is to be deleted, and the node to say so. Until
    /// then the group may need it.
    pub released: bool,
}

/// A partition's target, and the members of its group as last reported.
///
/// Invariants:
/// - A node of the target that is current is not leaving.
/// - Whoever may hold a replica is a voter, or in the target, or leaving.
/// - A released node stays released until it has said that it holds nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// How far its life is.
    pub state: PartitionState,
    /// The brokers that should hold a replica; the first should lead.
    pub replicas: Vec<BrokerId>,
    /// The voters of its group, as nodes: those that found it, then those that its leader reported. A
    /// broker that comes back with an empty disk is not among them.
    pub voters: Vec<NodeId>,
    /// Where in the group's log the reported voters stand; `None` for those that found it.
    pub voters_at: Option<LogPosition>,
    /// How often the target has changed; a report that releases nodes names the one it is about.
    pub revision: u32,
    /// Nodes that hold a replica which should not be there any more, ascending.
    pub leaving: Vec<Leaving>,
    /// The voter that stands for the group's first election; the others follow it.
    pub initializer: NodeId,
    /// The last reported leader.
    pub leader: Option<Leader>,
}

impl Partition {
    /// Whether no leader has reported yet.
    #[must_use]
    pub fn is_creating(&self) -> bool {
        self.state == PartitionState::Creating
    }

    /// Whether the group has not yet done without this node's replica.
    #[must_use]
    pub fn may_need(&self, node: NodeId) -> bool {
        self.leaving.iter().any(|leaving| leaving.node == node && !leaving.released)
    }

    /// The brokers that are to have a replica, or have one that the group may need.
    #[must_use]
    pub fn brokers(&self) -> BTreeSet<BrokerId> {
        let voters = self.voters.iter().map(|node| node.broker);
        let needed = self.leaving.iter().filter(|leaving| !leaving.released);
        let needed = needed.map(|leaving| leaving.node.broker);
        self.replicas.iter().copied().chain(voters).chain(needed).collect()
    }

    /// Whether a majority of the voters, as far as was reported, is among those that count.
    #[must_use]
    pub fn has_majority(&self, counts: impl Fn(&NodeId) -> bool) -> bool {
        self.voters.iter().filter(|node| counts(node)).count() > self.voters.len() / 2
    }

    /// Whether this node's replica is to be deleted.
    #[must_use]
    pub fn has_released(&self, node: NodeId) -> bool {
        self.leaving.iter().any(|leaving| leaving.node == node && leaving.released)
    }
}
