//! The state that all replicas of a coordinator share.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelog_types::{ErrorCode, GroupName, LogPosition, Timestamp};

use super::{Command, Group, Outcome, Refusal};
use crate::DecodeError;

/// The most groups of a coordinator.
pub const GROUPS_MAX: usize = 10_000;

/// What an applied command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// For the proposer.
    pub reply: Result<Outcome, Refusal>,
    /// Whether the group is another than before.
    pub changed: bool,
}

/// The groups of a coordinator as its log describes them.
///
/// Invariants:
/// - Entries are applied once each, by ascending index.
/// - A group has members or offsets.
/// - A new group begins at an epoch that no group had that is gone: whoever was a member of one of the
///   same name is fenced.
/// - A refused command changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub(super) applied: Option<LogPosition>,
    pub(super) groups: BTreeMap<GroupName, Arc<Group>>,
    /// The highest epoch of a group that is gone.
    pub(super) retired_epoch: u32,
}

impl Machine {
    /// A coordinator without groups.
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
        match self.dispatch(command, append_time) {
            Ok((outcome, changed)) => Applied { reply: Ok(outcome), changed },
            Err(refusal) => Applied { reply: Err(refusal), changed: false },
        }
    }

    /// The last applied entry.
    #[must_use]
    pub const fn applied(&self) -> Option<LogPosition> {
        self.applied
    }

    /// The groups, by id.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&GroupName, &Arc<Group>)> {
        self.groups.iter()
    }

    /// A group.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Arc<Group>> {
        self.groups.get(name)
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

    /// What the command comes to, and whether it changes anything.
    fn dispatch(&mut self, command: &Command, now: Timestamp) -> Result<(Outcome, bool), Refusal> {
        let name = command.group();
        self.check_group(command)?;
        if matches!(command, Command::Delete { .. }) {
            return self.delete(name).map(done);
        }
        self.with_group(name, |group| match command {
            Command::Join { join, topics, .. } => group.join(join, topics, now).map(done),
            Command::Acknowledge { member, holdings, .. } => {
                group.acknowledge(member, holdings, now).map(done)
            }
            Command::Leave { member, .. } => Ok(done(group.remove(member, now))),
            Command::Expire { member, revision, .. } => {
                let same = group.member(member.as_str()).is_some_and(|m| m.revision == *revision);
                Ok(done(same && group.remove(member, now)))
            }
            Command::Resolve { topics, .. } => group.resolve(topics, now).map(done),
            Command::Commit { committer, offsets, .. } => {
                let (results, changed) = group.commit(committer.as_ref(), offsets, now);
                Ok((Outcome::Committed(results), changed))
            }
            Command::Seek { token, offsets, .. } => {
                let (before, changed) = group.seek(*token, offsets, now)?;
                Ok((Outcome::Sought(before), changed))
            }
            Command::Delete { .. } => unreachable!("handled above"),
            Command::DeleteOffsets { partitions, .. } => group.delete_offsets(partitions).map(done),
        })
    }

    /// Refuses commands that need a group that is there, or room for one that is not.
    fn check_group(&self, command: &Command) -> Result<(), Refusal> {
        let name = command.group();
        if self.groups.contains_key(name) {
            return Ok(());
        }
        match command {
            Command::Delete { .. } | Command::DeleteOffsets { .. } => {
                let message = format!("there is no group {name}");
                Err(Refusal::new(ErrorCode::GroupIdNotFound, message))
            }
            _ if self.groups.len() >= GROUPS_MAX && command.makes_group() => {
                let message = format!("the coordinator has {GROUPS_MAX} groups, the most allowed");
                Err(Refusal::new(ErrorCode::ResourceExhausted, message))
            }
            _ => Ok(()),
        }
    }

    /// Changes a group, or an empty one when there is none, and keeps it when there is something in it.
    fn with_group<T>(&mut self, name: &GroupName, change: impl FnOnce(&mut Group) -> T) -> T {
        let (name, mut group) = self
            .groups
            .remove_entry(name)
            .unwrap_or_else(|| (name.clone(), Arc::new(Group::at(self.retired_epoch))));
        let result = change(Arc::make_mut(&mut group));
        if group.is_void() {
            self.retired_epoch = self.retired_epoch.max(group.epoch());
        } else {
            self.groups.insert(name, group);
        }
        result
    }

    fn delete(&mut self, name: &GroupName) -> Result<bool, Refusal> {
        let Some(group) = self.groups.get(name) else { return Ok(false) };
        if !group.members.is_empty() {
            let message = format!("group {name} has {} members", group.members.len());
            return Err(Refusal::new(ErrorCode::NonEmptyGroup, message));
        }
        self.retired_epoch = self.retired_epoch.max(group.epoch());
        self.groups.remove(name);
        Ok(true)
    }
}

fn done(changed: bool) -> (Outcome, bool) {
    (Outcome::Done, changed)
}

#[cfg(test)]
mod tests {
    use tidelog_types::{LogIndex, MemberId, Offset, PartitionId, Term, TopicId, TopicName};

    use super::super::{Join, MEMBERS_MAX, OFFSETS_MAX, OffsetChange, Subscription, Topics};
    use super::*;

    fn apply(machine: &mut Machine, command: &Command) -> Applied {
        let index = machine.applied().map_or(LogIndex(0), |applied| applied.index.next());
        machine.apply(LogPosition { term: Term(1), index }, command, Timestamp(0))
    }

    fn name(text: &str) -> GroupName {
        GroupName::new(text).unwrap()
    }

    fn join(group: &str, member: &str, topics: Topics) -> Command {
        let join = Join {
            member: MemberId::new(member).unwrap(),
            instance: None,
            client_id: String::new(),
            subscription: Subscription {
                topics: topics.known.keys().cloned().collect(),
                pattern: None,
            },
            session_timeout: super::super::TIMEOUT_MIN,
            rebalance_timeout: super::super::TIMEOUT_MIN,
        };
        Command::Join { group: name(group), join, topics }
    }

    fn orders(partitions: u32) -> Topics {
        let topic = (TopicName::new("orders").unwrap(), (TopicId(300), partitions));
        Topics { known: [topic].into(), ..Topics::default() }
    }

    fn seek(group: &str, first: u32, count: usize) -> Command {
        let change = |n: usize| OffsetChange {
            topic: TopicId(300),
            name: TopicName::new("orders").unwrap(),
            partition: PartitionId(first + n as u32),
            offset: Offset(1),
            leader_epoch: None,
            metadata: String::new(),
        };
        let offsets = (0..count).map(change).collect();
        Command::Seek { group: name(group), token: u128::from(first), offsets }
    }

    fn refusal(applied: &Applied) -> ErrorCode {
        assert!(!applied.changed);
        applied.reply.as_ref().unwrap_err().code
    }

    #[test]
    fn numbers_are_bounded() {
        let mut machine = Machine::new();
        for n in 0..MEMBERS_MAX {
            assert!(apply(&mut machine, &join("g", &n.to_string(), Topics::default())).changed);
        }
        let member = apply(&mut machine, &join("g", "more", Topics::default()));
        assert_eq!(refusal(&member), ErrorCode::GroupMaxSizeReached);

        let many = apply(&mut machine, &join("h", "a", orders(200_001)));
        assert_eq!(refusal(&many), ErrorCode::InvalidRequest);

        assert!(apply(&mut machine, &seek("offsets", 0, OFFSETS_MAX)).changed);
        let offset = apply(&mut machine, &seek("offsets", OFFSETS_MAX as u32, 1));
        assert_eq!(refusal(&offset), ErrorCode::ResourceExhausted);

        let groups = machine.groups().len();
        for n in groups..GROUPS_MAX {
            assert!(apply(&mut machine, &seek(&n.to_string(), 0, 1)).changed);
        }
        let group = apply(&mut machine, &seek("more", 0, 1));
        assert_eq!(refusal(&group), ErrorCode::ResourceExhausted);
        assert_eq!(machine.groups().len(), GROUPS_MAX);
        assert!(apply(&mut machine, &seek("offsets", 9, 1)).changed, "what is there goes on");
    }

    #[test]
    fn readers_keep_the_group_that_they_took() {
        let mut machine = Machine::new();
        apply(&mut machine, &join("g", "a", orders(2)));
        let taken = Arc::clone(machine.group("g").unwrap());
        apply(&mut machine, &join("g", "b", orders(2)));
        assert_eq!(taken.members().len(), 1);
        assert_eq!(machine.group("g").unwrap().members().len(), 2);
    }
}
