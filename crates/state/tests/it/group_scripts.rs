//! Scripts of a coordinator.
//!
//! `topics orders=10:4` says that the topic `orders` has id 10 and 4 partitions; a pattern is a prefix
//! and a star. A holding is written `orders/0@3`: granted in epoch 3; `>b` behind it: it was asked back
//! and `b` gets it next, `>` alone: nobody does. Below a reply stand the members that have to hear of
//! something.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use tidelog_state::group::{
    Command, Committed, Committer, Group, Join, Machine, Member, OffsetChange, Outcome,
    Subscription, Topics,
};
use tidelog_types::{
    GroupName, LogIndex, LogPosition, MemberId, Offset, PartitionId, Term, Timestamp, TopicId,
    TopicName,
};

use crate::golden::{arg, run_all, text_arg};

#[test]
fn scripts() {
    run_all("group", World::default, World::run);
}

#[derive(Default)]
struct World {
    machine: Machine,
    topics: BTreeMap<TopicName, (TopicId, u32)>,
    now: i64,
}

impl World {
    fn run(&mut self, words: &[&str]) -> String {
        self.now = arg(words, "now", self.now);
        match words[0] {
            "topics" => {
                self.topics = words[1..].iter().map(|word| topic(word)).collect();
                String::new()
            }
            "show" => match self.machine.group(words[1]) {
                Some(group) => show_group(group),
                None => "no group".into(),
            },
            "snapshot" => {
                let bytes = self.machine.encode();
                let read = Machine::decode(&bytes).unwrap();
                assert_eq!(read, self.machine);
                assert_eq!(read.encode(), bytes);
                self.machine = read;
                format!("{} bytes, the same machine", bytes.len())
            }
            _ => {
                let command = self.parse(words);
                self.apply(&command)
            }
        }
    }

    fn apply(&mut self, command: &Command) -> String {
        assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(command));
        let index = self.machine.applied().map_or(LogIndex(0), |applied| applied.index.next());
        let position = LogPosition { term: Term(1), index };
        let mut before = self.machine.clone();
        let applied = self.machine.apply(position, command, Timestamp(self.now));
        before.pass(position);
        let changed = self.machine != before;
        assert_eq!(applied.changed, changed, "says whether it changed anything");
        assert!(!changed || applied.reply.is_ok(), "a refused command changes nothing");

        let mut text = match &applied.reply {
            Err(refusal) => refusal.to_string(),
            Ok(outcome) => show_outcome(outcome),
        };
        if applied.reply.is_ok() && !changed {
            text.push_str("\n(nothing changed)");
        }
        let mut text = text.trim_start().to_owned();
        let name = command.group().as_str();
        let Some(group) = self.machine.group(name) else { return text };
        for (id, member) in group.members() {
            let known = before.group(name).and_then(|group| group.member(id.as_str()));
            if known.is_none_or(|known| known.revision != member.revision) {
                write!(text, "\n~ {}", show_member(group, id, member)).unwrap();
            }
        }
        text
    }

    fn parse(&self, words: &[&str]) -> Command {
        let group = GroupName::new(words[1]).unwrap();
        let member = || MemberId::new(words[2]).unwrap();
        match words[0] {
            "join" => {
                let join = parse_join(words);
                let topics = self.resolve(&BTreeSet::from([&join.subscription]));
                Command::Join { group, join, topics }
            }
            // Everything that was asked back is given up, but for what the line names.
            "ack" => {
                let known = self.machine.group(words[1]);
                let known = known.and_then(|group| group.member(words[2]));
                let kept = known.into_iter().flat_map(|member| &member.holdings);
                let kept = kept.filter(|(_, holding)| !holding.revoking).map(|(key, _)| *key);
                let named = words[3..].iter().map(|word| self.partition(word));
                Command::Acknowledge {
                    group,
                    member: member(),
                    holdings: kept.chain(named).collect(),
                }
            }
            "ack-only" => {
                let holdings = words[3..].iter().map(|word| self.partition(word)).collect();
                Command::Acknowledge { group, member: member(), holdings }
            }
            "leave" => Command::Leave { group, member: member() },
            "expire" => {
                Command::Expire { group, member: member(), revision: arg(words, "revision", 0) }
            }
            "resolve" => {
                let known = self.machine.group(words[1]);
                let members = known.into_iter().flat_map(|group| group.members());
                let subscriptions = members.map(|(_, member)| &member.subscription).collect();
                Command::Resolve { group, topics: self.resolve(&subscriptions) }
            }
            "commit" => {
                let committer = words[2].split_once('@').map(|(member, epoch)| Committer {
                    member: MemberId::new(member).unwrap(),
                    epoch: epoch.parse().unwrap(),
                });
                Command::Commit { group, committer, offsets: self.offsets(&words[3..]) }
            }
            "seek" => {
                let token = arg(words, "token", 0);
                Command::Seek { group, token, offsets: self.offsets(&words[3..]) }
            }
            "delete" => Command::Delete { group },
            "delete-offsets" => {
                let partitions = words[2..].iter().map(|word| self.partition(word)).collect();
                Command::DeleteOffsets { group, partitions }
            }
            other => panic!("unknown command {other}"),
        }
    }

    /// What the proposer finds in the metadata.
    fn resolve(&self, subscriptions: &BTreeSet<&Subscription>) -> Topics {
        let mut topics = Topics::default();
        for subscription in subscriptions {
            let matched: BTreeSet<_> = match &subscription.pattern {
                Some(pattern) => {
                    let prefix = pattern.strip_suffix('*').unwrap();
                    let names = self.topics.keys();
                    names.filter(|name| name.as_str().starts_with(prefix)).cloned().collect()
                }
                None => BTreeSet::new(),
            };
            for name in subscription.topics.union(&matched) {
                topics.known.extend(self.topics.get_key_value(name).map(|(n, t)| (n.clone(), *t)));
            }
            topics.matched.extend(subscription.pattern.clone().map(|pattern| (pattern, matched)));
        }
        topics
    }

    /// `orders/0`, or `10/0` when the topic has no name any more.
    fn partition(&self, word: &str) -> (TopicId, PartitionId) {
        let (topic, partition) = word.split_once('/').unwrap();
        let id = match self.topics.get(topic) {
            Some((id, _)) => *id,
            None => TopicId(topic.parse().unwrap()),
        };
        (id, PartitionId(partition.parse().unwrap()))
    }

    /// `orders/0=7`, or with metadata `orders/0=7:text`.
    fn offsets(&self, words: &[&str]) -> Vec<OffsetChange> {
        let offsets = words.iter().filter(|word| word.contains('/'));
        let offset = |word: &&str| {
            let (partition, value) = word.split_once('=').unwrap();
            let (offset, metadata) = value.split_once(':').unwrap_or((value, ""));
            let (topic, number) = self.partition(partition);
            let name = partition.split_once('/').unwrap().0;
            let metadata = match metadata.strip_prefix('#') {
                Some(length) => "x".repeat(length.parse().unwrap()),
                None => metadata.into(),
            };
            OffsetChange {
                topic,
                name: TopicName::new(name).unwrap(),
                partition: number,
                offset: Offset(offset.parse::<i64>().unwrap() as u64),
                leader_epoch: None,
                metadata,
            }
        };
        offsets.map(offset).collect()
    }
}

fn topic(word: &str) -> (TopicName, (TopicId, u32)) {
    let (name, value) = word.split_once('=').unwrap();
    let (id, partitions) = value.split_once(':').unwrap();
    let id = TopicId(id.parse().unwrap());
    (TopicName::new(name).unwrap(), (id, partitions.parse().unwrap()))
}

fn parse_join(words: &[&str]) -> Join {
    let topics = text_arg(words, "topics").into_iter().flat_map(|list| list.split(','));
    let many = (0..arg(words, "many", 0)).map(|n| TopicName::new(&format!("t{n}")).unwrap());
    Join {
        member: MemberId::new(words[2]).unwrap(),
        instance: text_arg(words, "instance").map(|instance| instance.parse().unwrap()),
        client_id: "c".repeat(arg(words, "client-bytes", 1)),
        subscription: Subscription {
            topics: topics.map(|name| TopicName::new(name).unwrap()).chain(many).collect(),
            pattern: text_arg(words, "pattern").map(str::to_owned),
        },
        session_timeout: Duration::from_millis(arg(words, "session", 10_000)),
        rebalance_timeout: Duration::from_millis(arg(words, "rebalance", 60_000)),
    }
}

fn show_group(group: &Group) -> String {
    let mut text = format!("{:?} in epoch {}", group.state(), group.epoch());
    for (id, member) in group.members() {
        write!(text, "\n{}", show_member(group, id, member)).unwrap();
        if let Some(instance) = &member.instance {
            write!(text, ", instance {instance}").unwrap();
        }
        if let Some(since) = member.revoking_since {
            write!(text, ", revoking since {since}").unwrap();
        }
    }
    for ((topic, partition), committed) in group.offsets() {
        let name = group.topic_name(*topic).unwrap();
        write!(text, "\n{name}/{partition} = {}", show_committed(committed)).unwrap();
    }
    text
}

fn show_member(group: &Group, id: &MemberId, member: &Member) -> String {
    let mut text = format!("{id} revision {} epoch {}:", member.revision, member.epoch);
    for ((topic, partition), holding) in &member.holdings {
        let name = group.topic_name(*topic).unwrap();
        write!(text, " {name}/{partition}@{}", holding.granted).unwrap();
        if holding.revoking {
            let next = group.next_holder(*topic, *partition);
            write!(text, ">{}", next.map_or("", |next| next.as_str())).unwrap();
        }
    }
    text
}

fn show_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => "done".into(),
        Outcome::Committed(results) => {
            let result = |result: &Result<Committed, _>| match result {
                Ok(committed) => format!("holds {}", show_committed(committed)),
                Err(refusal) => format!("{refusal}"),
            };
            results.iter().map(result).collect::<Vec<_>>().join("\n")
        }
        Outcome::Sought(before) => {
            let before = before.iter().map(|before| match before {
                Some(committed) => format!("was {}", show_committed(committed)),
                None => "was nothing".into(),
            });
            before.collect::<Vec<_>>().join("\n")
        }
    }
}

fn show_committed(committed: &Committed) -> String {
    let Committed { offset, leader_epoch: _, metadata, time } = committed;
    match metadata.as_str() {
        "" => format!("{offset} at {time}"),
        metadata => format!("{offset} at {time} ({metadata})"),
    }
}
