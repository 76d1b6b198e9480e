//! What calls about groups take and give.

use std::time::Duration;

use tidelog_proto::v1;
use tidelog_types::{GroupName, Offset, PartitionId, TopicName, TopicPartition};

use super::LeaderFacts;
use crate::Error;
use crate::group::{ANY, CommittedOffset, partition};

/// How a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupState {
    /// In a way that this version does not know.
    Unknown,
    /// It has no members.
    Empty,
    /// A partition is on its way to its next holder.
    Reconciling,
    /// Every partition is where it should be.
    Stable,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupSummary {
    /// Its id.
    pub group: GroupName,
    /// How it is.
    pub state: GroupState,
    /// How many members it has.
    pub members: u32,
}

/// A group.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GroupFacts {
    /// Its id.
    pub group: GroupName,
    /// How it is.
    pub state: GroupState,
    /// Its epoch.
    pub epoch: u32,
    /// The broker that leads its coordinator, while one is known.
    pub coordinator: Option<LeaderFacts>,
    /// Its members, by id.
    pub members: Vec<MemberFacts>,
    /// The partitions that it has committed something for, or that a member holds, in order.
    pub partitions: Vec<GroupPartition>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberFacts {
    /// Its id.
    pub id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
    /// Name of its client.
    pub client_id: String,
    /// Its epoch.
    pub epoch: u32,
    /// Topics that it names.
    pub topics: Vec<String>,
    /// Its pattern.
    pub topic_pattern: Option<String>,
    /// What it holds.
    pub holdings: Vec<HoldingFacts>,
    /// Without a sign of life for so long it loses them.
    pub session_timeout: Duration,
}

/// A partition that a member holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HoldingFacts {
    /// The partition.
    pub partition: TopicPartition,
    /// Epoch under which it was granted.
    pub granted_epoch: u32,
    /// It was asked back and is not given up yet.
    pub revoking: bool,
}

/// How far a group is in a partition.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GroupPartition {
    /// The partition.
    pub partition: TopicPartition,
    /// The member that holds it.
    pub member: Option<String>,
    /// What is committed.
    pub committed: Option<CommittedOffset>,
    /// How far that is from the end; an error when the partition's leader did not tell. `None` when
    /// nothing is committed.
    pub lag: Option<Result<GroupLag, Error>>,
}

/// How far a group is from the end of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupLag {
    /// The end of the partition.
    pub high_watermark: Offset,
    /// How many records are not done.
    pub records: u64,
    /// How long ago the leader appended the first record that is not done; zero at the end. `None` when
    /// that record is gone by retention.
    pub time: Option<Duration>,
}

/// What a group is to be moved in: all partitions of a topic, or one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeekTarget {
    /// All partitions of a topic.
    Topic(TopicName),
    /// One partition.
    Partition(TopicPartition),
}

impl From<TopicName> for SeekTarget {
    fn from(topic: TopicName) -> Self {
        Self::Topic(topic)
    }
}

impl From<TopicPartition> for SeekTarget {
    fn from(partition: TopicPartition) -> Self {
        Self::Partition(partition)
    }
}

impl SeekTarget {
    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &TopicName {
        match self {
            Self::Topic(topic) | Self::Partition(TopicPartition { topic, .. }) => topic,
        }
    }

    /// The partitions, of a topic that has so many.
    pub(super) fn partitions(&self, count: u32) -> Vec<TopicPartition> {
        match self {
            Self::Partition(partition) => vec![partition.clone()],
            Self::Topic(topic) => (0..count)
                .map(|at| TopicPartition { topic: topic.clone(), partition: PartitionId(at) })
                .collect(),
        }
    }
}

/// Where a group was moved in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sought {
    /// What was committed before.
    pub before: Option<Offset>,
    /// What is committed now, or would be.
    pub offset: Offset,
}

impl From<v1::GroupState> for GroupState {
    fn from(state: v1::GroupState) -> Self {
        match state {
            v1::GroupState::Unspecified => Self::Unknown,
            v1::GroupState::Empty => Self::Empty,
            v1::GroupState::Reconciling => Self::Reconciling,
            v1::GroupState::Stable => Self::Stable,
        }
    }
}

impl GroupSummary {
    pub(super) fn read(listing: v1::GroupListing) -> Result<Self, Error> {
        let state = listing.state().into();
        Ok(Self { group: name(&listing.group_id)?, state, members: listing.members })
    }
}

impl GroupFacts {
    pub(super) fn read(group: v1::DescribeGroupResponse) -> Result<Self, Error> {
        let state = group.state().into();
        let members = group.members.into_iter().map(MemberFacts::read);
        let members = members.collect::<Result<Vec<_>, _>>()?;
        let mut partitions = Vec::new();
        for offset in group.offsets {
            let committed = offset.committed.map(CommittedOffset::read).transpose()?;
            let partition = partition(&offset.topic, offset.partition)?;
            partitions.push(GroupPartition { partition, member: None, committed, lag: None });
        }
        for member in &members {
            for holding in &member.holdings {
                let held = partitions.iter_mut().find(|p| p.partition == holding.partition);
                let member = Some(member.id.clone());
                match held {
                    Some(held) => held.member = member,
                    None => {
                        let partition = holding.partition.clone();
                        let (committed, lag) = (None, None);
                        partitions.push(GroupPartition { partition, member, committed, lag });
                    }
                }
            }
        }
        partitions.sort_by(|a, b| a.partition.cmp(&b.partition));
        Ok(Self {
            group: name(&group.group_id)?,
            state,
            epoch: group.epoch,
            coordinator: group.coordinator.map(LeaderFacts::from),
            members,
            partitions,
        })
    }
}

impl MemberFacts {
    fn read(member: v1::GroupMember) -> Result<Self, Error> {
        let holdings = member.holdings.into_iter().map(|holding| {
            Ok::<_, Error>(HoldingFacts {
                partition: partition(&holding.topic, holding.partition)?,
                granted_epoch: holding.granted_epoch,
                revoking: holding.revoking,
            })
        });
        Ok(Self {
            holdings: holdings.collect::<Result<_, _>>()?,
            id: member.member_id,
            instance_id: Some(member.instance_id).filter(|id| !id.is_empty()),
            client_id: member.client_id,
            epoch: member.epoch,
            topics: member.topics,
            topic_pattern: Some(member.topic_pattern).filter(|pattern| !pattern.is_empty()),
            session_timeout: Duration::from_millis(member.session_timeout_ms.into()),
        })
    }
}

fn name(id: &str) -> Result<GroupName, Error> {
    GroupName::new(id).map_err(|error| Error::protocol(ANY, error.to_string()))
}
