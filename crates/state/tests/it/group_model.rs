//! A random check of the group machine against what decision 0006 promises.
//!
//! Members come, acknowledge what they please, change their minds, go and come back as zombies; topics
//! come, grow and go; commands arrive twice. After every command all that was promised is checked
//! against the state before, see `group_rules.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tidelog_state::group::{
    Command, Committer, Group, Join, Machine, Member, OffsetChange, State, Subscription, Topics,
};
use tidelog_types::{
    GroupName, LogIndex, LogPosition, MemberId, Offset, PartitionId, Term, Timestamp, TopicId,
    TopicName,
};

use crate::assign::Partition;
use crate::dice::{Dice, seeds};
use crate::group_rules::{Rules, Seen, holders, target};

const STEPS: usize = 150;
const NAMES: [&str; 4] = ["t0", "t1", "t2", "u0"];

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
    rules: Rules,
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
            rules: Rules::default(),
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
        self.rules.seen
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
        self.rules.check(old, &new, &command, &applied, now);
        for (id, member) in new.members() {
            self.identities.push((id.clone(), member.epoch));
        }
        let kept = self.identities.len().saturating_sub(40);
        self.identities.drain(..kept);
        self.commands.push(command);
    }
}

fn name() -> GroupName {
    GroupName::new("g").unwrap()
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
    for seed in seeds(600) {
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
