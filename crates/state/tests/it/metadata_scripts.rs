//! Scripts of the metadata group.
//!
//! A broker is written `1` or `1@rack`, a node `1.2` (broker 1, incarnation 2), an id as a number.

use std::fmt::Write as _;

use tidelog_state::metadata::{
    Address, BrokerSpec, Change, ClusterId, Command, ConfigChange, ConfigScope, LeaderReport,
    Machine, MembersReport, Outcome, PartitionMove, Reply, Software, TopicState, decode_reply,
    encode_reply,
};
use tidelog_types::{
    BrokerId, FeatureLevel, FeatureLevels, GroupId, Incarnation, LogIndex, LogPosition, NodeId,
    PartitionId, Term, Timestamp, TopicId,
};

use crate::golden::{arg, run_all, text_arg};

#[test]
fn scripts() {
    run_all("metadata", Machine::new, run);
}

fn run(machine: &mut Machine, words: &[&str]) -> String {
    match words[0] {
        "show" => show(machine),
        "topic" => show_topic(machine, TopicId(words[1].parse().unwrap())),
        "configs" => {
            let entries = machine.describe_configs(scope(words[1])).unwrap();
            let line = |e: &_| show_config(e);
            entries.iter().map(line).collect::<Vec<_>>().join("\n")
        }
        "hosted" => {
            let hosted = machine.hosted_by(BrokerId(words[1].parse().unwrap()));
            let line = |(group, partition): (GroupId, &tidelog_state::metadata::Partition)| {
                let nodes = machine.target_nodes(partition);
                format!("{} on {}", show_group(machine, group), show_nodes(&nodes))
            };
            hosted.map(line).collect::<Vec<_>>().join("\n")
        }
        "belongs" => {
            let node = node(words[1]);
            let on = machine.live_partitions().filter(|(_, p)| machine.belongs_on(node, p));
            on.map(|(group, _)| show_group(machine, group)).collect::<Vec<_>>().join(" ")
        }
        "newest-level" => machine.newest_common_level().to_string(),
        "require" => {
            let needed = FeatureLevel(arg(words, "level", 0));
            match machine.require(needed, "cleanup.policy=compact") {
                Ok(()) => "allowed".into(),
                Err(refusal) => refusal.to_string(),
            }
        }
        "snapshot" => {
            let bytes = machine.encode();
            let read = Machine::decode(&bytes).unwrap();
            assert_eq!(&read, machine);
            assert_eq!(read.encode(), bytes);
            *machine = read;
            format!("{} bytes, the same machine", bytes.len())
        }
        _ => {
            let command = parse(words);
            assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(&command));
            let index = machine.applied().map_or(LogIndex(0), |applied| applied.index.next());
            let position = LogPosition { term: Term(1), index };
            let before = machine.clone();
            let applied = machine.apply(position, &command, Timestamp(arg(words, "now", 0)));
            let encoded = encode_reply(&applied.reply);
            assert_eq!(decode_reply(&encoded).as_ref(), Ok(&applied.reply));
            if applied.reply.is_err() {
                let mut passed = before;
                passed.pass(position);
                assert_eq!(machine, &passed, "a refused command changes nothing");
            }
            let mut text = show_reply(&applied.reply);
            for change in &applied.changes {
                write!(text, "\n~ {}", show_change(machine, *change)).unwrap();
            }
            text
        }
    }
}

fn parse(words: &[&str]) -> Command {
    let list = |key| text_arg(words, key).into_iter().flat_map(|list| list.split(','));
    let topic = || TopicId(arg(words, "id", 0));
    match words[0] {
        "form" => Command::FormCluster {
            cluster: ClusterId(arg(words, "cluster", 0)),
            level: FeatureLevel(arg(words, "level", 1)),
            brokers: list("brokers").map(broker).collect(),
        },
        "register" => {
            let mut broker = broker(text_arg(words, "broker").unwrap());
            broker.incarnation = Incarnation(arg(words, "incarnation", 1));
            broker.software = text_arg(words, "levels").map(software);
            for listener in ["client", "internal"] {
                if let Some(address) = text_arg(words, listener) {
                    let (host, port) = address.split_once(':').unwrap();
                    broker.addresses.push(Address {
                        listener: listener.into(),
                        host: host.into(),
                        port: port.parse().unwrap(),
                    });
                }
            }
            Command::RegisterBroker { broker }
        }
        "join" => Command::JoinBroker { token: arg(words, "token", 0) },
        "renew" => Command::RenewBroker {
            broker: BrokerId(arg(words, "broker", 0)),
            token: arg(words, "token", 0),
        },
        "create" => Command::CreateTopic {
            topic: topic(),
            name: text_arg(words, "name").unwrap_or_default().into(),
            partitions: text_arg(words, "partitions").map(|n| n.parse().unwrap()),
            replication_factor: text_arg(words, "replicas").map(|n| n.parse().unwrap()),
            configs: words[1..].iter().filter_map(|word| config(word)).collect(),
            rotation: arg(words, "rotation", 0),
            unreachable: list("unreachable").map(|id| BrokerId(id.parse().unwrap())).collect(),
        },
        "add" => Command::AddPartitions {
            topic: topic(),
            partitions: arg(words, "partitions", 0),
            rotation: arg(words, "rotation", 0),
            unreachable: list("unreachable").map(|id| BrokerId(id.parse().unwrap())).collect(),
        },
        "move" => {
            Command::MovePartitions { moves: words[1..].iter().map(|word| a_move(word)).collect() }
        }
        "members" => {
            Command::ReportMembers { reports: words[1..].iter().map(|w| members(w)).collect() }
        }
        "left" => Command::ReportLeft {
            node: node(text_arg(words, "node").unwrap()),
            groups: list("groups").map(group).collect(),
        },
        "drain" => Command::DrainBroker {
            broker: BrokerId(arg(words, "broker", 0)),
            draining: text_arg(words, "cancel").is_none(),
        },
        "remove" => Command::RemoveBroker { broker: BrokerId(arg(words, "broker", 0)) },
        "finalize" => Command::FinalizeUpgrade { level: FeatureLevel(arg(words, "level", 0)) },
        "delete" => Command::DeleteTopic { topic: topic() },
        "set" => Command::SetConfigs {
            scope: scope(words[1]),
            changes: words[2..].iter().map(|word| change(word)).collect(),
        },
        "lead" => {
            Command::ReportLeaders { reports: words[1..].iter().map(|w| report(w)).collect() }
        }
        "gone" => Command::ReportDeleted {
            node: node(text_arg(words, "node").unwrap()),
            topics: list("topics").map(|id| TopicId(id.parse().unwrap())).collect(),
        },
        "producer-ids" => {
            Command::AllocateProducerIds { broker: BrokerId(arg(words, "broker", 0)) }
        }
        other => panic!("unknown command {other}"),
    }
}

fn broker(text: &str) -> BrokerSpec {
    let (id, rack) = text.split_once('@').map_or((text, None), |(id, rack)| (id, Some(rack)));
    BrokerSpec {
        id: BrokerId(id.parse().unwrap()),
        incarnation: Incarnation(1),
        rack: rack.map(str::to_owned),
        addresses: Vec::new(),
        software: None,
    }
}

/// `1-2`: a build that supports these feature levels.
fn software(text: &str) -> Software {
    let (min, max) = text.split_once('-').unwrap();
    let level = |text: &str| FeatureLevel(text.parse().unwrap());
    Software::new("0.1.0", "4f2a", FeatureLevels { min: level(min), max: level(max) })
}

fn node(text: &str) -> NodeId {
    let (broker, incarnation) = text.split_once('.').unwrap();
    NodeId::new(broker.parse().unwrap(), incarnation.parse().unwrap())
}

/// `300/2`: partition 2 of topic 300.
fn group(text: &str) -> GroupId {
    let (topic, partition) = text.split_once('/').unwrap();
    GroupId::new(TopicId(topic.parse().unwrap()), PartitionId(partition.parse().unwrap()))
}

/// `300/2:1,4`: partition 2 of topic 300 should be on brokers 1 and 4.
fn a_move(text: &str) -> PartitionMove {
    let (of, brokers) = text.split_once(':').unwrap();
    let brokers = brokers.split(',').filter(|id| !id.is_empty());
    let replicas = brokers.map(|id| BrokerId(id.parse().unwrap())).collect();
    PartitionMove { group: group(of), replicas }
}

/// `300/2:t5:i9:r1:1.1,4.1`: by entry 9 of term 5, nodes 1.1 and 4.1 vote; it is about revision 1.
fn members(text: &str) -> MembersReport {
    let parts: Vec<_> = text.split(':').collect();
    MembersReport {
        group: group(parts[0]),
        at: LogPosition {
            term: Term(parts[1][1..].parse().unwrap()),
            index: LogIndex(parts[2][1..].parse().unwrap()),
        },
        revision: parts[3][1..].parse().unwrap(),
        voters: parts[4].split(',').map(node).collect(),
    }
}

/// `300/2:t5:1.1`: partition 2 of topic 300 is led in term 5 by node 1.1.
fn report(text: &str) -> LeaderReport {
    let parts: Vec<_> = text.split([':', '/']).collect();
    let partition = PartitionId(parts[1].parse().unwrap());
    LeaderReport {
        group: GroupId::new(TopicId(parts[0].parse().unwrap()), partition),
        term: Term(parts[2][1..].parse().unwrap()),
        leader: node(parts[3]),
    }
}

/// A word with a dot before its `=` is a config.
fn config(word: &str) -> Option<(String, String)> {
    let (key, value) = word.split_once('=')?;
    key.contains('.').then(|| (key.into(), value.into()))
}

/// `key=value`, or `key` alone to take it away.
fn change(word: &str) -> ConfigChange {
    let (key, value) = word.split_once('=').map_or((word, None), |(key, v)| (key, Some(v)));
    ConfigChange { key: key.into(), value: value.map(str::to_owned) }
}

fn scope(word: &str) -> ConfigScope {
    match word {
        "cluster" => ConfigScope::Cluster,
        id => ConfigScope::Topic(TopicId(id.parse().unwrap())),
    }
}

fn show(machine: &Machine) -> String {
    let mut text = match machine.cluster() {
        Some(cluster) if machine.feature_level() == FeatureLevel::FIRST => {
            format!("cluster {}", cluster.0)
        }
        Some(cluster) => {
            format!("cluster {} at feature level {}", cluster.0, machine.feature_level())
        }
        None => "no cluster".into(),
    };
    for broker in machine.brokers() {
        write!(text, "\nbroker {}", broker.node()).unwrap();
        if let Some(rack) = &broker.rack {
            write!(text, " rack {rack}").unwrap();
        }
        if broker.is_draining {
            text.push_str(" draining");
        }
        if let Some(software) = &broker.software {
            write!(text, " {software}: {}", software.levels).unwrap();
        }
        for Address { listener, host, port } in &broker.addresses {
            write!(text, " {listener} {host}:{port}").unwrap();
        }
    }
    for topic in machine.live_topics() {
        let (name, id) = (&topic.name, topic.id.0);
        write!(text, "\ntopic {name} id {id}, {} partitions", topic.partitions.len()).unwrap();
    }
    for topic in machine.topics().filter(|topic| topic.state == TopicState::Deleting) {
        let nodes = show_nodes(topic.deleting_on());
        write!(text, "\ndeleting id {}, still on {nodes}", topic.id.0).unwrap();
    }
    text
}

fn show_topic(machine: &Machine, id: TopicId) -> String {
    let Some(topic) = machine.topic(id) else { return "unknown".into() };
    let mut text = format!("{} {:?}, created {}", topic.name, topic.state, topic.created);
    for (number, partition) in topic.partitions.iter().enumerate() {
        let replicas: Vec<_> = partition.replicas.iter().map(ToString::to_string).collect();
        let initializer = partition.initializer;
        write!(text, "\n{number} {:?} on {}", partition.state, replicas.join(" ")).unwrap();
        if partition.is_creating() {
            write!(text, ", initializer {initializer}").unwrap();
        }
        if let Some(leader) = partition.leader {
            write!(text, ", leader {} in term {}", leader.node, leader.term).unwrap();
        }
        if let Some(at) = partition.voters_at {
            write!(text, ", voters {} at {at}", show_nodes(&partition.voters)).unwrap();
        }
        for leaving in &partition.leaving {
            let how = if leaving.released { "released" } else { "leaving" };
            write!(text, ", {} {how}", leaving.node).unwrap();
        }
    }
    text
}

fn show_config(entry: &tidelog_state::metadata::ConfigEntry) -> String {
    format!("{}={} ({:?})", entry.key, entry.value, entry.source)
}

fn show_group(machine: &Machine, group: GroupId) -> String {
    let topic = machine.topic(group.topic).map_or("?", |topic| topic.name.as_str());
    format!("{topic}/{}", group.partition)
}

fn show_nodes(nodes: &[NodeId]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn show_reply(reply: &Reply) -> String {
    match reply {
        Err(refusal) => refusal.to_string(),
        Ok(Outcome::Formed { cluster }) => format!("formed as {}", cluster.0),
        Ok(Outcome::Registered { incarnation }) => format!("registered, incarnation {incarnation}"),
        Ok(Outcome::Incarnation { incarnation }) => format!("incarnation {incarnation}"),
        Ok(Outcome::TopicCreated { topic, partitions, replication_factor }) => {
            format!("created {}, {partitions} partitions x {replication_factor}", topic.0)
        }
        Ok(Outcome::TopicDeleted) => "deleted".into(),
        Ok(Outcome::ConfigsSet) => "set".into(),
        Ok(Outcome::Reported { accepted }) => format!("{accepted} accepted"),
        Ok(Outcome::PartitionsAdded { partitions }) => format!("{partitions} partitions"),
        Ok(Outcome::PartitionsMove { changed }) => format!("{changed} to move"),
        Ok(Outcome::BrokerDrains { replicas }) => format!("{replicas} replicas there"),
        Ok(Outcome::BrokerRemoved) => "removed".into(),
        Ok(Outcome::FeatureLevel { level }) => format!("feature level {level}"),
        Ok(Outcome::Joined { node }) => format!("joined as {node}"),
        Ok(Outcome::ProducerIds { first, count }) => format!("{count} from {first}"),
    }
}

fn show_change(machine: &Machine, change: Change) -> String {
    match change {
        Change::Formed => "formed".into(),
        Change::Broker(id) => format!("broker {id}"),
        Change::FeatureLevel => format!("feature level {}", machine.feature_level()),
        Change::ClusterConfig => "cluster config".into(),
        Change::TopicCreated(id) => format!("topic {} created", id.0),
        Change::TopicConfig(id) => format!("topic {} config", id.0),
        Change::TopicDeleting(id) => format!("topic {} deleting", id.0),
        Change::TopicGone(id) => format!("topic {} gone", id.0),
        Change::Partition(group) => format!("partition {}", show_group(machine, group)),
    }
}
