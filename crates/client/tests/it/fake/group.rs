//! A consumer group as a coordinator keeps it: plain, and scripted where a test wants it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use tidelog_proto::v1::{self, Error};
use tidelog_types::ErrorCode;

use super::world::State;

pub(crate) type Place = (String, u32);

#[derive(Default)]
pub(crate) struct Group {
    pub(crate) epoch: u32,
    pub(crate) members: BTreeMap<String, Member>,
    pub(crate) holders: BTreeMap<Place, Holder>,
    pub(crate) offsets: BTreeMap<Place, v1::CommittedOffset>,
    /// Which member is to hold a partition, by the number of its joining from 0; otherwise the members
    /// take turns.
    pub(crate) pins: BTreeMap<Place, usize>,
    /// Members that have been, and are not to come again.
    pub(crate) gone: BTreeSet<String>,
    /// Members whose instance another one has taken over.
    pub(crate) replaced: BTreeSet<String>,
    /// How the next commits are refused.
    pub(crate) refusals: VecDeque<ErrorCode>,
    /// How commits of a partition are refused for as long as this stands.
    pub(crate) refused: BTreeMap<Place, ErrorCode>,
    /// The next commits take effect and their answers get lost; the try after each is refused so.
    pub(crate) lost_answers: VecDeque<ErrorCode>,
    /// How the next heartbeats are answered, at once: by a leader that was.
    pub(crate) outdated: VecDeque<v1::HeartbeatResponse>,
    /// The next join is refused so.
    pub(crate) refuse_join: Option<ErrorCode>,
    /// How many heartbeats came.
    pub(crate) beats: u64,
    /// What happened, in order.
    pub(crate) journal: Vec<String>,
}

pub(crate) struct Member {
    pub(crate) joined: usize,
    pub(crate) epoch: u32,
    pub(crate) revision: u64,
    /// The revision that it named last.
    pub(crate) known: u64,
    pub(crate) subscription: v1::Subscription,
    /// When it was heard of last, and the longest time between two such.
    pub(crate) heard: Instant,
    pub(crate) silent_max: Duration,
}

pub(crate) struct Holder {
    pub(crate) member: String,
    pub(crate) granted: u32,
    pub(crate) revoking: bool,
}

impl State {
    pub(crate) fn group(&mut self, group: &str) -> &mut Group {
        self.groups.entry(group.to_owned()).or_default()
    }

    /// Brings the partitions of a group to where they should be, as far as their holders let them go.
    pub(crate) fn settle(&mut self, group: &str) {
        let group = self.groups.entry(group.to_owned()).or_default();
        let mut members = group.members.iter().collect::<Vec<_>>();
        members.sort_by_key(|(_, member)| member.joined);
        let names = members.iter().map(|(id, _)| (*id).clone()).collect::<Vec<_>>();
        let wants = |name: &str| {
            members.iter().any(|(_, m)| {
                let pattern = m.subscription.topic_pattern.trim_end_matches(".*");
                let matched = !pattern.is_empty() && name.starts_with(pattern);
                matched || m.subscription.topics.iter().any(|topic| topic == name)
            })
        };
        let topics = self.topics.iter().filter(|(name, _)| wants(name));
        let places = topics.flat_map(|(name, topic)| {
            (0..topic.partitions.len()).map(|at| (name.clone(), at as u32))
        });
        let places = places.collect::<Vec<_>>();
        for (at, place) in places.iter().enumerate() {
            let turn = group.pins.get(place).copied().unwrap_or(at);
            let target = names[turn % names.len()].clone();
            match group.holders.get_mut(place) {
                None => group.grant(place, target),
                Some(holder) => {
                    let revoking = holder.member != target;
                    if revoking != holder.revoking {
                        holder.revoking = revoking;
                        let member = holder.member.clone();
                        group.members.get_mut(&member).unwrap().revision += 1;
                        group.journal.push(format!("revoking={revoking} {}/{}", place.0, place.1));
                    }
                }
            }
        }
    }

    pub(crate) fn expire(&mut self, group: &str, member: &str) {
        self.group(group).remove(member);
        self.settle(group);
    }
}

impl Group {
    fn grant(&mut self, place: &Place, member: String) {
        self.epoch += 1;
        let number = self.members[&member].joined;
        self.journal.push(format!("grant {}/{} to {number}", place.0, place.1));
        let holder = Holder { member: member.clone(), granted: self.epoch, revoking: false };
        self.holders.insert(place.clone(), holder);
        self.touch(&member);
    }

    /// What the member holds has changed.
    fn touch(&mut self, member: &str) {
        let epoch = self.epoch;
        if let Some(member) = self.members.get_mut(member) {
            (member.epoch, member.revision) = (epoch, member.revision + 1);
        }
    }

    pub(crate) fn join(&mut self, id: &str, subscription: v1::Subscription) {
        let joined = self.members.len() + self.gone.len() + self.replaced.len();
        let mut replaced = None;
        if !subscription.instance_id.is_empty() {
            let instance = &subscription.instance_id;
            let same = |m: &Member| m.subscription.instance_id == *instance;
            replaced = self.members.iter().find(|(_, m)| same(m)).map(|(id, _)| id.clone());
        }
        let member = Member {
            joined,
            epoch: 0,
            revision: 1,
            known: 0,
            subscription,
            heard: Instant::now(),
            silent_max: Duration::ZERO,
        };
        self.members.insert(id.to_owned(), member);
        self.journal.push(format!("join {joined}"));
        if let Some(old) = replaced {
            self.members.remove(&old);
            self.replaced.insert(old.clone());
            self.epoch += 1;
            let epoch = self.epoch;
            for holder in self.holders.values_mut().filter(|holder| holder.member == old) {
                (holder.member, holder.granted) = (id.to_owned(), epoch);
            }
            self.touch(id);
        }
    }

    /// Whether the member has been, and may not be again.
    pub(crate) fn check(&self, id: &str) -> Result<(), Error> {
        let refuse = |code| Err(Error::new(code, "by the group"));
        if self.replaced.contains(id) {
            return refuse(ErrorCode::FencedInstanceId);
        }
        if self.gone.contains(id) {
            return refuse(ErrorCode::UnknownMemberId);
        }
        Ok(())
    }

    /// Whether the member has taken in all that it is to hold.
    pub(crate) fn knows(&self, joined: usize) -> bool {
        self.members.values().any(|m| m.joined == joined && m.known == m.revision)
    }

    pub(crate) fn remove(&mut self, member: &str) {
        if let Some(removed) = self.members.remove(member) {
            self.journal.push(format!("leave {}", removed.joined));
            self.gone.insert(member.to_owned());
            self.holders.retain(|_, holder| holder.member != member);
        }
    }

    pub(crate) fn acknowledge(&mut self, member: &str, holdings: &[v1::TopicPartition]) {
        let kept =
            |place: &Place| holdings.iter().any(|p| (&p.topic, p.partition) == (&place.0, place.1));
        let before = self.holders.len();
        let freed = |place: &Place, holder: &Holder| {
            holder.member == member && holder.revoking && !kept(place)
        };
        self.holders.retain(|place, holder| !freed(place, holder));
        if self.holders.len() < before {
            self.epoch += 1;
            self.journal.push(format!("free {}", before - self.holders.len()));
            self.touch(member);
        }
    }

    pub(crate) fn commit(
        &mut self,
        request: &v1::CommitOffsetsRequest,
        commit: v1::OffsetCommit,
        end: u64,
    ) -> Result<v1::CommittedOffset, Error> {
        let refuse = |code| Err(Error::new(code, "by the group"));
        let place = (commit.topic, commit.partition);
        let refused = self.refused.get(&place).copied();
        if let Some(code) = refused.or_else(|| self.refusals.pop_front()) {
            self.journal.push(format!("refused {}/{} {}", place.0, place.1, commit.offset));
            return refuse(code);
        }
        if request.member_id.is_empty() {
            if !self.members.is_empty() {
                return refuse(ErrorCode::NonEmptyGroup);
            }
        } else {
            let Some(member) = self.members.get(&request.member_id) else {
                return refuse(ErrorCode::UnknownMemberId);
            };
            if member.epoch != request.member_epoch {
                return refuse(ErrorCode::StaleMemberEpoch);
            }
            if self.holders.get(&place).is_none_or(|holder| holder.member != request.member_id) {
                return refuse(ErrorCode::FencedMemberEpoch);
            }
        }
        if commit.offset < 0 || commit.offset as u64 > end {
            return refuse(ErrorCode::OffsetOutOfRange);
        }
        self.journal.push(format!("commit {}/{} {}", place.0, place.1, commit.offset));
        let offset = v1::CommittedOffset {
            offset: commit.offset,
            leader_epoch: commit.leader_epoch.unwrap_or(-1),
            metadata: commit.metadata,
            commit_time_ms: 77,
        };
        let kept = self.offsets.entry(place).or_insert_with(|| offset.clone());
        if offset.offset > kept.offset {
            *kept = offset;
        }
        Ok(kept.clone())
    }

    pub(crate) fn seek(&mut self, place: &Place, offset: i64) -> v1::CommittedOffset {
        let none = v1::CommittedOffset { offset: -1, ..Default::default() };
        let new = v1::CommittedOffset { offset, leader_epoch: -1, ..Default::default() };
        let before = self.offsets.insert(place.clone(), new);
        self.journal.push(format!("seek {}/{} {offset}", place.0, place.1));
        self.epoch += 1;
        let epoch = self.epoch;
        if let Some(holder) = self.holders.get_mut(place) {
            holder.granted = epoch;
            let member = holder.member.clone();
            self.touch(&member);
        }
        before.unwrap_or(none)
    }

    /// What a member is told.
    pub(crate) fn answer(
        &self,
        id: &str,
        topic_id: impl Fn(&str) -> String,
    ) -> v1::HeartbeatResponse {
        let member = &self.members[id];
        let held = self.holders.iter().filter(|(_, h)| h.member == id && !h.revoking);
        let assignment = held.map(|(place, holder)| v1::AssignedPartition {
            topic: place.0.clone(),
            topic_id: topic_id(&place.0),
            partition: place.1,
            granted_epoch: holder.granted,
            committed: self.offsets.get(place).cloned(),
        });
        v1::HeartbeatResponse {
            revision: member.revision,
            member_epoch: member.epoch,
            assignment: assignment.collect(),
            session_timeout_ms: member.subscription.session_timeout_ms,
        }
    }

    /// Waits in the journal, for asserts.
    pub(crate) fn position(&self, entry: &str) -> Option<usize> {
        self.journal.iter().position(|line| line == entry)
    }

    pub(crate) fn committed(&self, topic: &str, partition: u32) -> Option<i64> {
        self.offsets.get(&(topic.to_owned(), partition)).map(|committed| committed.offset)
    }
}
