//! A consumer group.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_types::{MemberId, PartitionId, Timestamp, TopicId, TopicName};

use super::{Committed, Member, Partition, Topics};

/// How a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has no members.
    Empty,
    /// A member was asked to give something up, and has not yet.
    Reconciling,
    /// Everything is where it should be.
    Stable,
}

/// A consumer group.
///
/// Invariants:
/// - A partition is held by one member at most, under a grant above every epoch of an earlier holder.
/// - `revocations` has exactly the holdings that are revoking. All other holdings are as they should
///   be, and each partition that has a subscriber is held.
/// - `topics` has nothing but what members name or match.
/// - `names` has each topic that is known, held or committed, and no other.
/// - An instance id belongs to one member at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub(super) epoch: u32,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) topics: Topics,
    pub(super) names: BTreeMap<TopicId, TopicName>,
    pub(super) revocations: BTreeMap<Partition, Revocation>,
    pub(super) offsets: BTreeMap<Partition, Committed>,
    pub(super) seek: Option<LastSeek>,
}

/// A holding that was asked back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Revocation {
    /// Who gets it next; nobody when nobody else subscribes to it.
    pub(super) to: Option<MemberId>,
    /// When it was asked back.
    pub(super) since: Timestamp,
    /// Its offset was set since, see [`Group::is_fenced`].
    pub(super) fenced: bool,
}

/// The last seek, so that its repeat is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LastSeek {
    pub(super) token: u128,
    /// What it answered.
    pub(super) before: Vec<Option<Committed>>,
}

impl Group {
    /// The group's epoch: rises with every command that changes what members hold.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// How the group is.
    #[must_use]
    pub fn state(&self) -> State {
        match (self.members.is_empty(), self.revocations.is_empty()) {
            (true, _) => State::Empty,
            (false, false) => State::Reconciling,
            (false, true) => State::Stable,
        }
    }

    /// The members, by id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (&MemberId, &Member)> {
        self.members.iter()
    }

    /// A member.
    #[must_use]
    pub fn member(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    /// The member that took over the instance of `id`, which is a member no more.
    #[must_use]
    pub fn successor(&self, id: &str) -> Option<&MemberId> {
        let replaced = |member: &Member| member.replaced.as_ref().map(MemberId::as_str) == Some(id);
        self.members.iter().find(|(_, member)| replaced(member)).map(|(id, _)| id)
    }

    /// What the names and patterns of the members stand for, as far as the machine was told.
    #[must_use]
    pub const fn topics(&self) -> &Topics {
        &self.topics
    }

    /// All patterns of members.
    #[must_use]
    pub fn patterns(&self) -> BTreeSet<&str> {
        let subscriptions = self.members.values().map(|member| &member.subscription);
        subscriptions.filter_map(|subscription| subscription.pattern.as_deref()).collect()
    }

    /// All topics that members name, whether they exist or not.
    #[must_use]
    pub fn named_topics(&self) -> BTreeSet<&TopicName> {
        self.members.values().flat_map(|member| &member.subscription.topics).collect()
    }

    /// The name of a topic that is subscribed to, held, or has a committed offset.
    #[must_use]
    pub fn topic_name(&self, topic: TopicId) -> Option<&TopicName> {
        self.names.get(&topic)
    }

    /// How far a partition is done.
    #[must_use]
    pub fn committed(&self, topic: TopicId, partition: PartitionId) -> Option<&Committed> {
        self.offsets.get(&(topic, partition))
    }

    /// All committed offsets, by topic and partition.
    pub fn offsets(&self) -> impl ExactSizeIterator<Item = (&(TopicId, PartitionId), &Committed)> {
        self.offsets.iter()
    }

    /// Who gets a partition that its holder was asked to give up.
    #[must_use]
    pub fn next_holder(&self, topic: TopicId, partition: PartitionId) -> Option<&MemberId> {
        self.revocations.get(&(topic, partition))?.to.as_ref()
    }

    /// Whether a member subscribes to the topic, by name or by its pattern.
    #[must_use]
    pub fn subscribes(&self, topic: &TopicName) -> bool {
        self.members.values().any(|member| self.topics.subscribed(&member.subscription, topic))
    }

    /// A group that begins at an epoch.
    pub(super) fn at(epoch: u32) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// Whether there is nothing in it that anybody could miss.
    pub(super) fn is_void(&self) -> bool {
        self.members.is_empty() && self.offsets.is_empty()
    }

    /// Whether the partition is on its way and its offset was set meanwhile: its holder, which no longer
    /// sees it in its assignment and so cannot begin anew at the right place, commits it no more.
    pub(super) fn is_fenced(&self, topic: TopicId, partition: PartitionId) -> bool {
        self.revocations.get(&(topic, partition)).is_some_and(|revocation| revocation.fenced)
    }

    /// Who holds each partition.
    pub(super) fn holders(&self) -> BTreeMap<Partition, MemberId> {
        let held = |(id, member): (&MemberId, &Member)| {
            let id = id.clone();
            member.holdings.keys().map(|key| (*key, id.clone())).collect::<Vec<_>>()
        };
        self.members.iter().flat_map(held).collect()
    }

    /// The existing topics that each member subscribes to.
    pub(super) fn subscribed_topics(&self) -> BTreeMap<MemberId, BTreeSet<TopicId>> {
        let topics = |member: &Member| self.topics.ids(&member.subscription);
        self.members.iter().map(|(id, member)| (id.clone(), topics(member))).collect()
    }
}
