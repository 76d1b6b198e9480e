//! What decision 0006 promises, as rules between the states before and after a command.
//!
//! They know nothing of how the machine does it.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_state::group::{
    Applied, Command, Committed, Committer, Group, Member, OffsetChange, Outcome, State,
    Subscription, assign,
};
use tidelog_types::{ErrorCode, MemberId, Offset, Timestamp, TopicId};

use crate::assign::{Held, Partition, check_balanced, check_complete, moves_needed};

/// How much of what is worth a test has happened.
#[derive(Default, Debug)]
pub(crate) struct Seen {
    pub(crate) revocations: usize,
    pub(crate) cancelled: usize,
    pub(crate) takeovers: usize,
    pub(crate) bounds: usize,
    pub(crate) moves: usize,
    pub(crate) accepted: usize,
    pub(crate) fenced: usize,
    pub(crate) stale: usize,
    pub(crate) unknown: usize,
    pub(crate) fenced_instances: usize,
    pub(crate) on_its_way: usize,
    pub(crate) seeks_back: usize,
    pub(crate) kept_higher: usize,
    pub(crate) epochs: usize,
    pub(crate) groups_gone: usize,
}

/// What the rules remember of earlier commands.
#[derive(Default)]
pub(crate) struct Rules {
    /// Who held a partition in an epoch, over all lives of the group.
    owners: BTreeMap<(Partition, u32), MemberId>,
    /// Partitions that were on their way when their offset was set: their holder commits them no more.
    fenced: BTreeSet<Partition>,
    pub(crate) seen: Seen,
}

impl Rules {
    /// Checks one command.
    pub(crate) fn check(
        &mut self,
        old: &Group,
        new: &Group,
        command: &Command,
        applied: &Applied,
        now: Timestamp,
    ) {
        check_join(old, new, command, applied);
        check_epochs(old, new);
        self.check_owners(old, new);
        check_target(new);
        self.check_moves(old, new, command);
        self.check_offsets(old, new, command, applied, now);
        self.note(old, new, command, applied);
        self.note_fenced(old, new, command, applied);
    }

    /// A partition has one holder in an epoch, and each grant lies above all earlier holders' epochs.
    fn check_owners(&mut self, old: &Group, new: &Group) {
        let mut held = BTreeSet::new();
        for (id, member) in new.members() {
            for (key, holding) in &member.holdings {
                assert!(held.insert(*key), "{key:?} is held twice");
                assert!(holding.granted <= member.epoch && member.epoch <= new.epoch());
                let earlier = old.member(id.as_str()).and_then(|member| member.holdings.get(key));
                if earlier.is_none_or(|earlier| earlier.granted != holding.granted) {
                    let last = self.owners.range((*key, 0)..=(*key, u32::MAX)).next_back();
                    let last = last.map(|((_, epoch), _)| *epoch);
                    assert!(last.is_none_or(|last| last < holding.granted), "granted anew");
                    assert_eq!(holding.granted, new.epoch());
                }
                let owner = self.owners.entry((*key, member.epoch)).or_insert_with(|| id.clone());
                assert_eq!(owner, id, "{key:?} has two holders in epoch {}", member.epoch);
            }
        }
        for (key, holder) in holders(old) {
            let revoking = old.member(holder.as_str()).unwrap().holdings[&key].revoking;
            let there = new.member(holder.as_str());
            let taken = there.is_some_and(|member| !member.holdings.contains_key(&key));
            let exists = new.topics().known.values().any(|(id, _)| *id == key.0);
            assert!(!taken || revoking || !exists, "{key:?} was taken without being asked back");
        }
    }

    /// With equal subscriptions members give up what they must and no more.
    fn check_moves(&mut self, old: &Group, new: &Group, command: &Command) {
        let membership = matches!(
            command,
            Command::Join { .. } | Command::Leave { .. } | Command::Expire { .. }
        );
        let subscribed: BTreeSet<_> = subscribed(new).into_values().collect();
        let stable = old.state() == State::Stable && new.members().len() > 0;
        let replaced = old.members().len() == new.members().len();
        let same_topics = old.topics() == new.topics();
        if !(membership && stable && subscribed.len() == 1 && same_topics) || replaced {
            return;
        }
        let (held, target) = (holders(old), target(new));
        let moved = held.iter().filter(|(key, holder)| {
            new.member(holder.as_str()).is_some() && target.get(key) != Some(*holder)
        });
        let counts: Vec<_> = new
            .members()
            .map(|(id, _)| held.values().filter(|holder| *holder == id).count())
            .collect();
        let moved = moved.count();
        assert_eq!(moved, moves_needed(&counts, target.len()), "no more moves than must be");
        self.seen.bounds += 1;
        self.seen.moves += moved;
    }

    /// Offsets against a naive reading of the rules.
    fn check_offsets(
        &mut self,
        old: &Group,
        new: &Group,
        command: &Command,
        applied: &Applied,
        time: Timestamp,
    ) {
        let mut expected: BTreeMap<Partition, Committed> =
            old.offsets().map(|(key, committed)| (*key, committed.clone())).collect();
        match (command, &applied.reply) {
            (Command::Commit { committer, offsets, .. }, Ok(Outcome::Committed(results))) => {
                assert_eq!(offsets.len(), results.len());
                for (change, result) in offsets.iter().zip(results) {
                    let key = (change.topic, change.partition);
                    let verdict = self.verdict(old, committer.as_ref(), change);
                    assert_eq!(verdict, result.as_ref().map_err(|refusal| refusal.code).map(drop));
                    self.count(verdict);
                    let Ok(holds) = result else { continue };
                    let higher = expected.get(&key).filter(|held| held.offset > change.offset);
                    match higher.cloned() {
                        Some(higher) => {
                            self.seen.kept_higher += 1;
                            assert_eq!(&higher, holds);
                        }
                        None => drop(expected.insert(key, committed(change, time))),
                    }
                    assert_eq!(&expected[&key], holds, "the answer says what holds");
                }
            }
            (Command::Seek { offsets, .. }, Ok(Outcome::Sought(before))) if applied.changed => {
                for (change, before) in offsets.iter().zip(before) {
                    let key = (change.topic, change.partition);
                    assert_eq!(expected.get(&key), before.as_ref());
                    let back = before.as_ref().is_some_and(|held| held.offset > change.offset);
                    self.seen.seeks_back += usize::from(back);
                    expected.insert(key, committed(change, time));
                    if let Some(holder) = holders(old).get(&key) {
                        let granted = new.member(holder.as_str()).unwrap().holdings[&key].granted;
                        assert_eq!(granted, new.epoch(), "granted anew");
                    }
                }
            }
            (Command::Delete { .. }, Ok(_)) => expected.clear(),
            (Command::DeleteOffsets { partitions, .. }, Ok(_)) => {
                let named = |id| old.topics().known.iter().find(|(_, topic)| topic.0 == id);
                let subscribed = |id| named(id).is_some_and(|(name, _)| old.subscribes(name));
                assert!(!partitions.iter().any(|(id, _)| subscribed(*id)));
                expected.retain(|key, _| !partitions.contains(key));
            }
            _ => {}
        }
        let found: BTreeMap<_, _> = new.offsets().map(|(key, held)| (*key, held.clone())).collect();
        assert_eq!(found, expected);
        assert!(found.keys().all(|(topic, _)| new.topic_name(*topic).is_some()));
    }

    /// What the rules say about a commit.
    fn verdict(
        &self,
        group: &Group,
        committer: Option<&Committer>,
        change: &OffsetChange,
    ) -> Result<(), ErrorCode> {
        match committer {
            None if group.members().len() > 0 => return Err(ErrorCode::UnknownMemberId),
            None => {}
            Some(Committer { member, epoch }) => {
                let Some(member) = group.member(member.as_str()) else {
                    return Err(ErrorCode::UnknownMemberId);
                };
                if member.epoch != *epoch {
                    return Err(ErrorCode::StaleMemberEpoch);
                }
                let key = (change.topic, change.partition);
                if !member.holdings.contains_key(&key) || self.fenced.contains(&key) {
                    return Err(ErrorCode::FencedMemberEpoch);
                }
            }
        }
        match (change.offset, change.metadata.len()) {
            (Offset(u64::MAX), _) => Err(ErrorCode::OffsetOutOfRange),
            (_, 4_097) => Err(ErrorCode::InvalidCommitOffsetSize),
            _ => Ok(()),
        }
    }

    /// A seek fences what is on its way, until it has arrived or stays.
    fn note_fenced(&mut self, old: &Group, new: &Group, command: &Command, applied: &Applied) {
        let (before, after) = (holders(old), holders(new));
        let revoking = |group: &Group, key: &Partition, holder: &MemberId| {
            group.member(holder.as_str()).is_some_and(|member| member.holdings[key].revoking)
        };
        if let (Command::Seek { offsets, .. }, true) = (command, applied.changed) {
            let keys = offsets.iter().map(|change| (change.topic, change.partition));
            let on_its_way =
                |key: &Partition| before.get(key).is_some_and(|holder| revoking(old, key, holder));
            self.fenced.extend(keys.filter(on_its_way));
        }
        self.fenced.retain(|key| {
            let holder = after.get(key);
            holder == before.get(key) && holder.is_some_and(|holder| revoking(new, key, holder))
        });
        self.seen.on_its_way += self.fenced.len();
    }

    fn count(&mut self, verdict: Result<(), ErrorCode>) {
        match verdict {
            Ok(()) => self.seen.accepted += 1,
            Err(ErrorCode::FencedMemberEpoch) => self.seen.fenced += 1,
            Err(ErrorCode::StaleMemberEpoch) => self.seen.stale += 1,
            Err(ErrorCode::UnknownMemberId) => self.seen.unknown += 1,
            Err(_) => {}
        }
    }

    fn note(&mut self, old: &Group, new: &Group, command: &Command, applied: &Applied) {
        for (id, member) in new.members() {
            let Some(earlier) = old.member(id.as_str()) else { continue };
            let flips = |to: bool| {
                let flipped = member.holdings.iter().filter(|(key, holding)| {
                    let earlier = earlier.holdings.get(key);
                    holding.revoking == to && earlier.is_some_and(|e| e.revoking != to)
                });
                flipped.count()
            };
            self.seen.revocations += flips(true);
            self.seen.cancelled += flips(false);
        }
        let takes_over = |(id, member): (&MemberId, &Member)| {
            member.replaced.as_ref().is_some_and(|replaced| old.member(replaced.as_str()).is_some())
                && new.successor(member.replaced.as_ref().unwrap().as_str()) == Some(id)
        };
        let joins = matches!(command, Command::Join { .. }) && applied.changed;
        self.seen.takeovers += usize::from(joins && new.members().any(takes_over));
        let code = applied.reply.as_ref().err().map(|refusal| refusal.code);
        self.seen.fenced_instances += usize::from(code == Some(ErrorCode::FencedInstanceId));
        self.seen.epochs += usize::from(new.epoch() > old.epoch());
        self.seen.groups_gone += usize::from(applied.changed && *new == Group::default());
    }
}

/// Whoever joins is a member and has what it said; whoever was replaced cannot come back.
fn check_join(old: &Group, new: &Group, command: &Command, applied: &Applied) {
    let Command::Join { join, topics, .. } = command else { return };
    let id = join.member.as_str();
    let fenced = old.member(id).is_none() && old.successor(id).is_some();
    assert_eq!(applied.reply.is_err(), fenced, "{:?}", applied.reply);
    if !fenced {
        let member = new.member(id).unwrap();
        assert_eq!((&member.instance, &member.subscription), (&join.instance, &join.subscription));
        assert!(topics.known.keys().all(|name| new.subscribes(name)));
    }
}

/// Epochs change with holdings and with nothing else, revisions with everything.
fn check_epochs(old: &Group, new: &Group) {
    let gone = new.members().len() == 0 && new.offsets().len() == 0;
    let grants = |member: &Member| {
        let holdings = member.holdings.iter();
        holdings.map(|(key, holding)| (*key, holding.granted)).collect::<Vec<_>>()
    };
    let all = |group: &Group| {
        let members = group.members().filter(|(_, member)| !member.holdings.is_empty());
        members.map(|(id, member)| (id.clone(), grants(member))).collect::<Vec<_>>()
    };
    let is_new = old.members().len() == 0 && old.offsets().len() == 0;
    if !gone && !is_new {
        let rise = u32::from(all(old) != all(new));
        assert_eq!(new.epoch(), old.epoch() + rise, "rises with every change of holdings");
    }
    for (id, member) in new.members() {
        let revoking = member.holdings.values().any(|holding| holding.revoking);
        assert_eq!(member.revoking_since.is_some(), revoking);
        let Some(earlier) = old.member(id.as_str()) else {
            assert_eq!(member.revision, 1);
            continue;
        };
        let regranted = grants(earlier) != grants(member);
        assert_eq!(earlier.epoch != member.epoch, regranted, "exactly when grants change");
        assert!(!regranted || member.epoch == new.epoch(), "it is the group's epoch");
        let told = earlier.holdings != member.holdings;
        let rise = member.revision - earlier.revision;
        assert!(rise <= 1 && (rise == 1 || !told), "hears of every change once");
        assert!(told || earlier.revoking_since == member.revoking_since);
    }
}

fn committed(change: &OffsetChange, time: Timestamp) -> Committed {
    Committed {
        offset: change.offset,
        leader_epoch: change.leader_epoch,
        metadata: change.metadata.clone(),
        time,
    }
}

pub(crate) fn holders(group: &Group) -> Held {
    let held = |(id, member): (&MemberId, &Member)| {
        let id = id.clone();
        member.holdings.keys().map(|key| (*key, id.clone())).collect::<Vec<_>>()
    };
    group.members().flat_map(held).collect()
}

/// Who holds each partition once everything that was asked back is given up.
pub(crate) fn target(group: &Group) -> Held {
    let mut target = BTreeMap::new();
    for (id, member) in group.members() {
        for (key, holding) in &member.holdings {
            let next = if holding.revoking { group.next_holder(key.0, key.1) } else { Some(id) };
            assert!(!holding.revoking || next != Some(id), "asked back for nothing");
            target.extend(next.map(|next| (*key, next.clone())));
        }
    }
    target
}

fn subscribed(group: &Group) -> BTreeMap<MemberId, BTreeSet<TopicId>> {
    let topics = |member: &Member| {
        let Subscription { topics, pattern } = &member.subscription;
        let matched = pattern.as_ref().and_then(|pattern| group.topics().matched.get(pattern));
        let names = topics.iter().chain(matched.into_iter().flatten());
        let known = names.filter_map(|name| group.topics().known.get(name));
        known.map(|(id, _)| *id).collect()
    };
    group.members().map(|(id, member)| (id.clone(), topics(member))).collect()
}

fn check_target(group: &Group) {
    let (subscribed, target) = (subscribed(group), target(group));
    let partitions = group.topics().known.values().copied().collect();
    check_complete(&subscribed, &partitions, &target);
    check_balanced(&subscribed, &target);
    assert_eq!(assign(&subscribed, &partitions, &target), target, "nothing is left to decide");
    let revoking = |member: &Member| member.holdings.values().any(|holding| holding.revoking);
    let reconciling = group.members().any(|(_, member)| revoking(member));
    assert_eq!(group.state() == State::Reconciling, reconciling);
    assert_eq!(group.state() == State::Empty, group.members().len() == 0);
    let instances: Vec<_> = group.members().filter_map(|(_, m)| m.instance.clone()).collect();
    let unique: BTreeSet<_> = instances.iter().map(|instance| instance.as_str()).collect();
    assert_eq!(unique.len(), instances.len(), "an instance belongs to one member");
}
