//! Commands to a coordinator, as they stand in the body of an entry.
//!
//! What depends on anything but the machine (which topics exist, what a pattern matches, random ids)
//! is found out by the proposer and stands in the command. Each may be proposed again when its answer
//! was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidelog_types::{GroupName, InstanceId, MemberId, Offset, PartitionId, TopicId, TopicName};

use super::Subscription;

/// A command to a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A member joins, or changes what it subscribes to. Makes the group.
    Join {
        /// The group.
        group: GroupName,
        /// The member.
        join: Join,
        /// What its topics and its pattern stand for now.
        topics: Topics,
    },
    /// A member tells what it still holds, after it has given something up.
    Acknowledge {
        /// The group.
        group: GroupName,
        /// The member.
        member: MemberId,
        /// Everything that it holds.
        holdings: BTreeSet<(TopicId, PartitionId)>,
    },
    /// A member leaves. One that is not there has left.
    Leave {
        /// The group.
        group: GroupName,
        /// The member.
        member: MemberId,
    },
    /// The leader has not heard of a member for a whole session, or it gives up too slowly.
    Expire {
        /// The group.
        group: GroupName,
        /// The member.
        member: MemberId,
        /// The revision that the leader judged by: a member that changed since stays.
        revision: u64,
    },
    /// The topics of the cluster have changed.
    Resolve {
        /// The group.
        group: GroupName,
        /// What all topics and patterns of the group stand for now; replaces what was known.
        topics: Topics,
    },
    /// Offsets are committed.
    Commit {
        /// The group.
        group: GroupName,
        /// Who commits; `None` is nobody, which only a group without members takes.
        committer: Option<Committer>,
        /// What, at most once per partition.
        offsets: Vec<OffsetChange>,
    },
    /// Offsets are set, forward or back. Makes the group.
    Seek {
        /// The group.
        group: GroupName,
        /// Chosen at random and kept over repeats: done once.
        token: u128,
        /// What, at most once per partition.
        offsets: Vec<OffsetChange>,
    },
    /// The group is deleted with its offsets.
    Delete {
        /// The group.
        group: GroupName,
    },
    /// Offsets are forgotten.
    DeleteOffsets {
        /// The group.
        group: GroupName,
        /// Of which partitions.
        partitions: BTreeSet<(TopicId, PartitionId)>,
    },
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Its id.
    pub member: MemberId,
    /// Set for a static member.
    pub instance: Option<InstanceId>,
    /// Name of its client, for people.
    pub client_id: String,
    /// What it subscribes to.
    pub subscription: Subscription,
    /// How long it may be silent.
    pub session_timeout: Duration,
    /// How long giving up may take.
    pub rebalance_timeout: Duration,
}

/// What names and patterns stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    /// Topics that exist, of those that are named or matched: id and number of partitions.
    pub known: BTreeMap<TopicName, (TopicId, u32)>,
    /// Which of the topics each pattern matches.
    pub matched: BTreeMap<String, BTreeSet<TopicName>>,
}

/// Who commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committer {
    /// The member.
    pub member: MemberId,
    /// The epoch that it has.
    pub epoch: u32,
}

/// The new offset of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetChange {
    /// The topic.
    pub topic: TopicId,
    /// The topic's name, for lists.
    pub name: TopicName,
    /// The partition.
    pub partition: PartitionId,
    /// The first offset that is not done.
    pub offset: Offset,
    /// Leader epoch of the record before it, if known.
    pub leader_epoch: Option<i32>,
    /// Whatever the committer wants to keep.
    pub metadata: String,
}
