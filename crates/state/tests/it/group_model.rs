//! A random check of the group machine against what decision 0006 promises.
//!
//! Members come, acknowledge what they please, change their minds, go and come back as zombies; topics
//! come, grow and go; commands arrive twice. After every command all that was promised is checked
//! against the state before, by rules that know nothing of how the machine does it.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tidelog_state::group::{
    Applied, Command, Committed, Committer, Group, Join, Machine, Member, OffsetChange, Outcome,
    State, Subscription, Topics, assign,
};
use tidelog_types::{
    ErrorCode, GroupName, LogIndex, LogPosition, MemberId, Offset, PartitionId, Term, Timestamp,
    TopicId, TopicName,
};

use crate::assign::{Held, Partition, check_balanced, check_complete, moves_needed};
use crate::dice::{Dice, seeds};

const STEPS: usize = 150;
const NAMES: [&str; 4] = ["t0", "t1", "t2", "u0"];

#[derive(Default, Debug)]
struct Seen {
    revocations: usize,
    cancelled: usize,
    takeovers: usize,
    bounds: usize,
    moves: usize,
    accepted: usize,
    fenced: usize,
    stale: usize,
    unknown: usize,
    fenced_instances: usize,
    on_its_way: usize,
    seeks_back: usize,
    kept_higher: usize,
    epochs: usize,
    groups_gone: usize,
}

struct World {
    dice: Dice,
    machine: Machine,
    /// Applies the same, and goes through snapshots.
    replica: Machine,
    now: i64,
    topics: BTreeMap<TopicName, (TopicId, u32)>,
    topic_next: u128,
    member_next: usize,
    /// Everybody subscribes to the same.
    equal: bool,
    /// Members and the epochs that they have had.
    identities: Vec<(MemberId, u32)>,
    commands: Vec<Command>,
    /// Who held a partition in an epoch, over all lives of the group.
    owners: BTreeMap<(Partition, u32), MemberId>,
    /// Partitions that were on their way when their offset was set: their holder commits them no more.
    fenced: BTreeSet<Partition>,
    seen: Seen,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let equal = dice.one_in(2);
        let mut world = Self {
            dice,
            machine: Machine::new(),
            replica: Machine::new(),
            now: 0,
            topics: BTreeMap::new(),
            topic_next: 300,
            member_next: 0,
            equal,
            identities: Vec::new(),
            commands: Vec::new(),
            owners: BTreeMap::new(),
            fenced: BTreeSet::new(),
            seen: Seen::default(),
        };
        world.change_topics();
        world
    }

    fn run(mut self) -> Seen {
        for _ in 0..STEPS {
            self.step();
        }
        self.settle();
        assert_eq!(self.machine, self.replica, "the replicas agree");
        self.seen
    }

    fn group(&self) -> Option<&Group> {
        self.machine.group("g").map(AsRef::as_ref)
    }

    fn step(&mut self) {
        self.now += self.dice.below(3) as i64;
        match self.dice.below(100) {
            0..14 => self.join_new(),
            14..20 => self.join_again(),
            20..45 => self.acknowledge(),
            45..52 => self.leave_or_expire(),
            52..58 => self.change_topics(),
            58..62 => self.apply_resolve(),
            62..84 => self.commit(),
            84..88 => self.seek(),
            88 => self.apply(Command::Delete { group: name() }),
            89..91 => self.delete_offsets(),
            91..94 => self.repeat(),
            94..97 => self.settle(),
            _ => self.snapshot(),
        }
    }

    fn some_member(&mut self) -> Option<(MemberId, Member)> {
        let group = self.machine.group("g")?.clone();
        let count = group.members().len();
        if count == 0 {
            return None;
        }
        let (id, member) = group.members().nth(self.dice.below(count))?;
        Some((id.clone(), member.clone()))
    }

    fn subscription(&mut self) -> Subscription {
        if self.equal && !self.dice.one_in(12) {
            let topics = NAMES.map(|name| TopicName::new(name).unwrap()).into();
            return Subscription { topics, pattern: None };
        }
        let names = NAMES.iter().filter(|_| self.dice.one_in(2));
        let topics = names.map(|name| TopicName::new(name).unwrap()).collect();
        Subscription { topics, pattern: self.dice.one_in(3).then(|| "t*".to_owned()) }
    }

    fn join(&mut self, member: MemberId) {
        let instance = self.dice.below(8);
        let join = Join {
            member,
            instance: (instance < 2).then(|| format!("i{instance}").parse().unwrap()),
            client_id: "c".into(),
            subscription: self.subscription(),
            session_timeout: Duration::from_secs(10),
            rebalance_timeout: Duration::from_secs(60),
        };
        let topics = self.resolve(&[&join.subscription]);
        self.apply(Command::Join { group: name(), join, topics });
    }

    fn join_new(&mut self) {
        self.member_next += 1;
        self.join(MemberId::new(&format!("m{}", self.member_next)).unwrap());
    }

    /// A member, or one that was one.
    fn join_again(&mut self) {
        if !self.identities.is_empty() {
            let n = self.dice.below(self.identities.len());
            self.join(self.identities[n].0.clone());
        }
    }

    fn acknowledge(&mut self) {
        let Some((member, state)) = self.some_member() else { return };
        let holdings = state.holdings.iter().filter(|(_, holding)| !holding.revoking);
        let mut holdings: BTreeSet<_> = holdings.map(|(key, _)| *key).collect();
        if self.dice.one_in(4) {
            holdings = state.holdings.keys().filter(|_| self.dice.one_in(2)).copied().collect();
        }
        self.apply(Command::Acknowledge { group: name(), member, holdings });
    }

    fn leave_or_expire(&mut self) {
        let Some((member, state)) = self.some_member() else { return };
        let group = name();
        let revision = state.revision - self.dice.below(2) as u64;
        let command = match self.dice.one_in(2) {
            true => Command::Leave { group, member },
            false => Command::Expire { group, member, revision },
        };
        self.apply(command);
    }

    fn change_topics(&mut self) {
        let topic = TopicName::new(NAMES[self.dice.below(NAMES.len())]).unwrap();
        match self.topics.get_mut(&topic) {
            Some(_) if self.dice.one_in(4) => drop(self.topics.remove(&topic)),
            Some((_, partitions)) => *partitions += self.dice.below(3) as u32,
            None => {
                let partitions = 1 + self.dice.below(8) as u32;
                self.topics.insert(topic, (TopicId(self.topic_next), partitions));
                self.topic_next += 1;
            }
        }
    }

    fn apply_resolve(&mut self) {
        let subscriptions: Vec<_> = self
            .group()
            .into_iter()
            .flat_map(|group| group.members().map(|(_, member)| member.subscription.clone()))
            .collect();
        let topics = self.resolve(&subscriptions.iter().collect::<Vec<_>>());
        self.apply(Command::Resolve { group: name(), topics });
        if let Some(group) = self.group() {
            let topics = self.resolve(&subscriptions.iter().collect::<Vec<_>>());
            assert_eq!(group.topics(), &topics, "what was resolved is known");
        }
    }

    fn resolve(&self, subscriptions: &[&Subscription]) -> Topics {
        let mut topics = Topics::default();
        for subscription in subscriptions {
            let starts = |name: &&TopicName| name.as_str().starts_with('t');
            let pattern = subscription.pattern.clone();
            let matched: BTreeSet<_> = match &pattern {
                Some(_) => self.topics.keys().filter(starts).cloned().collect(),
                None => BTreeSet::new(),
            };
            let names = subscription.topics.union(&matched);
            let known = names.filter_map(|name| self.topics.get_key_value(name));
            topics.known.extend(known.map(|(name, topic)| (name.clone(), *topic)));
            topics.matched.extend(pattern.map(|pattern| (pattern, matched.clone())));
        }
        topics
    }

    /// Of somebody, who has been a member or is one, under some epoch that he had.
    fn commit(&mut self) {
        let current = self.some_member().map(|(id, member)| (id, member.epoch));
        let zombie = (!self.identities.is_empty())
            .then(|| self.identities[self.dice.below(self.identities.len())].clone());
        let who = if self.dice.one_in(3) { zombie } else { current };
        let committer = who.map(|(member, epoch)| Committer { member, epoch });
        let committer = if self.dice.one_in(20) { None } else { committer };
        let offsets = self.offsets(committer.as_ref());
        self.apply(Command::Commit { group: name(), committer, offsets });
    }

    fn seek(&mut self) {
        let offsets = self.offsets(None);
        let token = u128::from(self.dice.roll());
        self.apply(Command::Seek { group: name(), token, offsets });
    }

    /// Of partitions that somebody holds, and of others.
    fn offsets(&mut self, committer: Option<&Committer>) -> Vec<OffsetChange> {
        let held = committer.and_then(|c| self.group()?.member(c.member.as_str()).cloned());
        let mut keys: BTreeSet<Partition> = BTreeSet::new();
        for (id, partitions) in self.topics.values() {
            let number = PartitionId(self.dice.below(*partitions as usize + 1) as u32);
            if self.dice.one_in(4) {
                keys.insert((*id, number));
            }
        }
        let held = held.into_iter().flat_map(|member| member.holdings.into_keys());
        keys.extend(held.filter(|_| !self.dice.one_in(3)));
        let mut change = |(topic, partition)| OffsetChange {
            topic,
            name: TopicName::new("t").unwrap(),
            partition,
            offset: Offset(if self.dice.one_in(30) { u64::MAX } else { self.dice.roll() % 100 }),
            leader_epoch: self.dice.one_in(2).then_some(3),
            metadata: "m".repeat(if self.dice.one_in(30) { 4_097 } else { 1 }),
        };
        keys.into_iter().map(&mut change).collect()
    }

    fn delete_offsets(&mut self) {
        let Some(group) = self.machine.group("g").cloned() else { return };
        let keys = group.offsets().map(|(key, _)| *key);
        let partitions = keys.filter(|_| self.dice.one_in(4)).collect();
        self.apply(Command::DeleteOffsets { group: name(), partitions });
    }

    /// A command whose answer was lost, perhaps long ago.
    fn repeat(&mut self) {
        let recent = self.commands.len().min(5);
        if recent > 0 {
            let n = self.commands.len() - 1 - self.dice.below(recent);
            self.apply(self.commands[n].clone());
        }
    }

    /// Everybody gives up what he was asked for: then everything is where it should be.
    fn settle(&mut self) {
        let Some(group) = self.machine.group("g").cloned() else { return };
        let target = target(&group);
        for (member, _) in group.members() {
            let Some(state) = self.group().and_then(|group| group.member(member.as_str())) else {
                continue;
            };
            let holdings = state.holdings.iter().filter(|(_, holding)| !holding.revoking);
            let holdings = holdings.map(|(key, _)| *key).collect();
            let member = member.clone();
            self.apply(Command::Acknowledge { group: name(), member, holdings });
        }
        let Some(group) = self.group() else { return };
        assert_ne!(group.state(), State::Reconciling);
        assert_eq!(holders(group), target, "everything is where it should be");
    }

    fn snapshot(&mut self) {
        let bytes = self.machine.encode();
        self.replica = Machine::decode(&bytes).unwrap();
        assert_eq!(self.replica, self.machine);
        assert_eq!(self.replica.encode(), bytes);
        for _ in 0..20 {
            let bytes = mangle(&bytes, &mut self.dice);
            if let Ok(machine) = Machine::decode(&bytes) {
                assert_eq!(machine.encode(), bytes, "one machine has one encoding");
            }
        }
    }

    fn apply(&mut self, command: Command) {
        let bytes = command.encode();
        assert_eq!(Command::decode(&bytes).as_ref(), Ok(&command));
        let mangled = mangle(&bytes, &mut self.dice);
        if let Ok(other) = Command::decode(&mangled) {
            assert_eq!(other.encode(), mangled, "one command has one encoding");
        }
        let index = self.machine.applied().map_or(LogIndex(0), |applied| applied.index.next());
        let position = LogPosition { term: Term(1), index };
        let now = Timestamp(self.now);
        let mut before = self.machine.clone();
        let applied = self.machine.apply(position, &command, now);
        assert_eq!(self.replica.apply(position, &command, now), applied);
        before.pass(position);
        assert_eq!(applied.changed, self.machine != before, "says whether it changed anything");
        assert!(applied.reply.is_ok() || !applied.changed, "a refused command changes nothing");

        let empty = Group::default();
        let old = before.group("g").map_or(&empty, AsRef::as_ref);
        let new = self.machine.group("g").map_or(&empty, AsRef::as_ref).clone();
        self.check_epochs(old, &new);
        self.check_owners(old, &new);
        check_target(&new);
        self.check_moves(old, &new, &command);
        self.check_offsets(old, &new, &command, &applied);
        self.note(old, &new, &command, &applied);
        self.note_fenced(old, &new, &command, &applied);
        for (id, member) in new.members() {
            self.identities.push((id.clone(), member.epoch));
        }
        let kept = self.identities.len().saturating_sub(40);
        self.identities.drain(..kept);
        self.commands.push(command);
    }

    /// Epochs change with holdings and with nothing else, revisions with everything.
    fn check_epochs(&self, old: &Group, new: &Group) {
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
    fn check_offsets(&mut self, old: &Group, new: &Group, command: &Command, applied: &Applied) {
        let mut expected: BTreeMap<Partition, Committed> =
            old.offsets().map(|(key, committed)| (*key, committed.clone())).collect();
        let time = Timestamp(self.now);
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

fn name() -> GroupName {
    GroupName::new("g").unwrap()
}

fn committed(change: &OffsetChange, time: Timestamp) -> Committed {
    Committed {
        offset: change.offset,
        leader_epoch: change.leader_epoch,
        metadata: change.metadata.clone(),
        time,
    }
}

fn holders(group: &Group) -> Held {
    let held = |(id, member): (&MemberId, &Member)| {
        let id = id.clone();
        member.holdings.keys().map(|key| (*key, id.clone())).collect::<Vec<_>>()
    };
    group.members().flat_map(held).collect()
}

/// Who holds each partition once everything that was asked back is given up.
fn target(group: &Group) -> Held {
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

/// Some other bytes: flipped, cut or lengthened.
fn mangle(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + dice.below(3) {
        let at = dice.below(bytes.len().max(1));
        match dice.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.push(dice.roll() as u8),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => bytes.insert(at.min(bytes.len()), dice.roll() as u8),
            _ if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            _ => {}
        }
    }
    bytes
}

#[test]
fn groups_keep_their_promises() {
    let mut all: Vec<Seen> = Vec::new();
    for seed in seeds(300) {
        let run = catch_unwind(AssertUnwindSafe(|| World::new(seed).run()));
        all.push(run.unwrap_or_else(|_| panic!("failed with SEED={seed}")));
    }
    let sum = |count: fn(&Seen) -> usize| all.iter().map(count).sum::<usize>();
    let counts = [
        ("revocations", sum(|seen| seen.revocations)),
        ("cancelled", sum(|seen| seen.cancelled)),
        ("takeovers", sum(|seen| seen.takeovers)),
        ("bounds", sum(|seen| seen.bounds)),
        ("moves", sum(|seen| seen.moves)),
        ("accepted", sum(|seen| seen.accepted)),
        ("fenced", sum(|seen| seen.fenced)),
        ("stale", sum(|seen| seen.stale)),
        ("unknown", sum(|seen| seen.unknown)),
        ("fenced instances", sum(|seen| seen.fenced_instances)),
        ("fenced on its way", sum(|seen| seen.on_its_way)),
        ("seeks back", sum(|seen| seen.seeks_back)),
        ("kept higher", sum(|seen| seen.kept_higher)),
        ("epochs", sum(|seen| seen.epochs)),
        ("groups gone", sum(|seen| seen.groups_gone)),
    ];
    println!("{counts:?}");
    if env::var("SEED").is_err() {
        assert!(counts.iter().all(|(_, count)| *count > 30), "too tame: {counts:?}");
    }
}

/// Random bytes are no command and no snapshot, and no panic.
#[test]
fn random_bytes_do_not_panic() {
    let mut dice = Dice(1);
    for _ in 0..100_000 {
        let mut bytes: Vec<u8> = (0..dice.below(80)).map(|_| (dice.roll() % 12) as u8).collect();
        bytes.insert(0, 1);
        let _either = Command::decode(&bytes);
        let _either = Machine::decode(&bytes);
    }
}
