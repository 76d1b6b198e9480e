//! The bytes of commands and snapshots. Only a decision record may change these files.

use std::fmt::Write as _;
use std::time::Duration;

use tidelog_state::group;
use tidelog_state::metadata::{
    self, Address, BrokerSpec, ClusterId, ConfigChange, ConfigScope, LeaderReport, MembersReport,
    PartitionMove, Refusal, Software,
};
use tidelog_state::{DecodeError, partition};
use tidelog_types::{
    BrokerId, ErrorCode, FeatureLevel, FeatureLevels, GroupId, GroupName, Incarnation, LogIndex,
    LogPosition, MemberId, NodeId, Offset, PartitionId, ProducerEpoch, ProducerId, Term, Timestamp,
    TopicId, TopicName,
};

use crate::golden::{check, from_hex, hex};
use crate::model::batch_info;

const TOPIC: TopicId = TopicId(0x1234_5678_9abc_4def_8123_4567_89ab_cdef);

#[test]
fn partition_command() {
    let command = partition::Command::Trim { to: Offset(0x0102_0304) };
    assert_eq!(partition::Command::decode(&command.encode()), Ok(command));
    check("bytes/partition_command_v1.hex", &hex(&command.encode()));
    refuses_other_bytes(&command.encode(), partition::Command::decode);
    let goal =
        partition::Goal { to: Offset(0x0102), mature_to: Offset(0x0304), tombstones_to: Offset(5) };
    let command = partition::Command::Compact(goal);
    assert_eq!(partition::Command::decode(&command.encode()), Ok(command));
    check("bytes/partition_command_compact_v1.hex", &hex(&command.encode()));
    refuses_other_bytes(&command.encode(), partition::Command::decode);
}

#[test]
fn partition_snapshot() {
    let mut machine = partition::Machine::new();
    let (claim, none) =
        ((ProducerId(7), ProducerEpoch(1)), (ProducerId::NONE, ProducerEpoch::NONE));
    let batches = [
        batch_info(claim.0, claim.1, 0, 3),
        batch_info(none.0, none.1, -1, 2),
        batch_info(claim.0, claim.1, 3, 1),
    ];
    let at = |term, index| LogPosition { term: Term(term), index: LogIndex(index) };
    let append_time = Timestamp(1_700_000_000_000);
    machine.apply(at(0, 0), partition::Event::Membership);
    machine.apply(at(1, 1), partition::Event::Blank);
    machine.apply(
        at(1, 2),
        partition::Event::Records {
            ordinal: 0,
            base_offset: Offset(0),
            void: false,
            append_time,
            batches: &batches,
        },
    );
    machine.apply(at(3, 3), partition::Event::Blank);
    let command = partition::Command::Trim { to: Offset(2) };
    machine.apply(at(3, 4), partition::Event::Command { append_time, command });
    // A version that knows of no compaction reads it.
    let bytes = machine.encode();
    assert_eq!(partition::Machine::decode(&bytes), Ok(machine.clone()));
    check("bytes/partition_snapshot_v1.hex", &hex(&bytes));

    let goal = partition::Goal { to: Offset(5), mature_to: Offset(4), tombstones_to: Offset::ZERO };
    let command = partition::Command::Compact(goal);
    machine.apply(at(3, 5), partition::Event::Command { append_time, command });
    let bytes = machine.encode();
    assert_eq!(partition::Machine::decode(&bytes), Ok(machine));
    check("bytes/partition_snapshot_v2.hex", &hex(&bytes));
    refuses_other_bytes(&bytes, partition::Machine::decode);
}

#[test]
fn metadata_commands() {
    let mut text = String::new();
    for command in commands() {
        let bytes = command.encode();
        assert_eq!(metadata::Command::decode(&bytes).as_ref(), Ok(&command));
        refuses_other_bytes(&bytes, metadata::Command::decode);
        let debug = format!("{command:?}");
        let name = debug.split(' ').next().unwrap();
        writeln!(text, "{name}\n{}", hex(&bytes)).unwrap();
    }
    check("bytes/metadata_commands_v1.hex", &text);
}

#[test]
fn metadata_replies() {
    let refusal = Refusal { code: ErrorCode::InvalidTopic, message: "topic name is empty".into() };
    let mut replies = vec![Err(refusal)];
    let mut machine = metadata::Machine::new();
    replies.extend(apply_all(&mut machine));
    let mut text = String::new();
    for reply in replies {
        let bytes = metadata::encode_reply(&reply);
        assert_eq!(metadata::decode_reply(&bytes), Ok(reply));
        refuses_other_bytes(&bytes, metadata::decode_reply);
        writeln!(text, "{}", hex(&bytes)).unwrap();
    }
    check("bytes/metadata_replies_v1.hex", &text);
}

#[test]
fn metadata_snapshot() {
    let mut machine = metadata::Machine::new();
    apply_all(&mut machine).for_each(drop);
    for topic in machine.topics() {
        assert_eq!(metadata::Topic::decode(&topic.encode()).as_ref(), Ok(topic));
    }
    for broker in machine.brokers() {
        assert_eq!(metadata::Broker::decode(&broker.encode()).as_ref(), Ok(broker));
    }
    let bytes = machine.encode();
    assert_eq!(metadata::Machine::decode(&bytes), Ok(machine));
    check("bytes/metadata_snapshot_v3.hex", &hex(&bytes));
    refuses_other_bytes(&bytes, metadata::Machine::decode);
}

/// What is new with feature levels, and how it looks to a build from before them.
#[test]
fn metadata_commands_of_feature_levels() {
    let mut text = String::new();
    for command in commands_of_levels() {
        let bytes = command.encode();
        assert_eq!(metadata::Command::decode(&bytes).as_ref(), Ok(&command));
        refuses_other_bytes(&bytes, metadata::Command::decode);
        let debug = format!("{command:?}");
        writeln!(text, "{}\n{}", debug.split(' ').next().unwrap(), hex(&bytes)).unwrap();
    }
    check("bytes/metadata_commands_of_levels_v1.hex", &text);
}

#[test]
fn metadata_snapshot_above_the_first_feature_level() {
    let mut machine = metadata::Machine::new();
    for (index, command) in commands_of_levels().iter().enumerate() {
        let position = LogPosition { term: Term(1), index: LogIndex(index as u64) };
        let reply = machine.apply(position, command, Timestamp(1_700_000_000_000)).reply;
        assert!(reply.is_ok(), "{command:?}: {reply:?}");
        let bytes = metadata::encode_reply(&reply);
        assert_eq!(metadata::decode_reply(&bytes), Ok(reply));
        refuses_other_bytes(&bytes, metadata::decode_reply);
    }
    assert_eq!(machine.feature_level(), FeatureLevel(3));
    let bytes = machine.encode();
    assert_eq!(metadata::Machine::decode(&bytes), Ok(machine));
    check("bytes/metadata_snapshot_v4.hex", &hex(&bytes));
    refuses_other_bytes(&bytes, metadata::Machine::decode);
}

/// The first level has one form, that of the version before.
#[test]
fn the_first_feature_level_is_never_written() {
    let mut machine = metadata::Machine::new();
    apply_all(&mut machine).for_each(drop);
    assert_eq!(machine.encode()[0], 3);
    let mut raised = machine;
    let level = FeatureLevel(1);
    let at = raised.applied().unwrap();
    let next = LogPosition { term: at.term, index: at.index.next() };
    let finalize = metadata::Command::FinalizeUpgrade { level };
    let applied = raised.apply(next, &finalize, Timestamp(0));
    assert!(applied.reply.is_ok() && applied.changes.is_empty());
    assert_eq!(raised.encode()[0], 3);
}

/// As a version wrote it that knew of no brokers that leave.
#[test]
fn metadata_snapshot_of_version_2() {
    let bytes = from_hex("bytes/metadata_snapshot_v2.hex");
    assert_eq!(bytes[0], 2);
    let machine = metadata::Machine::decode(&bytes).unwrap();
    assert!(machine.brokers().len() > 0);
    assert!(machine.brokers().all(|broker| !broker.is_draining));
    assert!(machine.live_partitions().any(|(_, partition)| partition.voters_at.is_some()));
    assert_eq!(metadata::Machine::decode(&machine.encode()), Ok(machine));
}

/// As a version wrote it that knew of no moves.
#[test]
fn metadata_snapshot_of_version_1() {
    let bytes = from_hex("bytes/metadata_snapshot_v1.hex");
    assert_eq!(bytes[0], 1);
    let machine = metadata::Machine::decode(&bytes).unwrap();
    assert!(machine.live_partitions().count() > 0);
    for (_, partition) in machine.live_partitions() {
        assert_eq!((partition.voters_at, partition.revision), (None, 0));
        assert!(partition.leaving.is_empty());
    }
    assert_eq!(metadata::Machine::decode(&machine.encode()), Ok(machine));
}

#[test]
fn group_commands() {
    let mut text = String::new();
    for command in group_commands_in_turn() {
        let bytes = command.encode();
        assert_eq!(group::Command::decode(&bytes).as_ref(), Ok(&command));
        refuses_other_bytes(&bytes, group::Command::decode);
        let debug = format!("{command:?}");
        let name = debug.split(' ').next().unwrap();
        writeln!(text, "{name}\n{}", hex(&bytes)).unwrap();
    }
    check("bytes/group_commands_v1.hex", &text);
}

#[test]
fn group_snapshot() {
    let mut machine = group::Machine::new();
    for (index, command) in group_commands_in_turn().iter().enumerate() {
        let position = LogPosition { term: Term(1), index: LogIndex(index as u64) };
        let applied = machine.apply(position, command, Timestamp(1_700_000_000_000));
        assert!(applied.reply.is_ok() && applied.changed, "{command:?}: {applied:?}");
    }
    let bytes = machine.encode();
    assert_eq!(group::Machine::decode(&bytes), Ok(machine));
    check("bytes/group_snapshot_v1.hex", &hex(&bytes));
    refuses_other_bytes(&bytes, group::Machine::decode);
}

fn apply_all(machine: &mut metadata::Machine) -> impl Iterator<Item = metadata::Reply> {
    commands().into_iter().enumerate().map(|(index, command)| {
        let position = LogPosition { term: Term(1), index: LogIndex(index as u64) };
        machine.apply(position, &command, Timestamp(1_700_000_000_000)).reply
    })
}

/// One of each kind, all accepted when they are applied in turn.
fn commands() -> Vec<metadata::Command> {
    let broker = |id: u32, rack: Option<&str>| BrokerSpec {
        id: BrokerId(id),
        incarnation: Incarnation(1),
        rack: rack.map(str::to_owned),
        addresses: vec![Address { listener: "client".into(), host: "b".into(), port: 7071 }],
        software: None,
    };
    let create = |topic, name: &str| metadata::Command::CreateTopic {
        topic,
        name: name.into(),
        partitions: Some(2),
        replication_factor: None,
        configs: vec![("retention.ms".into(), "60000".into())],
        rotation: 1,
        unreachable: vec![BrokerId(2)],
    };
    let other = TopicId(0xffff_ffff_ffff_4fff_8fff_ffff_ffff_ffff);
    let set = |key: &str, value: Option<&str>| {
        vec![ConfigChange { key: key.into(), value: value.map(str::to_owned) }]
    };
    vec![
        metadata::Command::FormCluster {
            cluster: ClusterId(0xabcd),
            level: FeatureLevel::FIRST,
            brokers: vec![broker(1, Some("a")), broker(2, None)],
        },
        metadata::Command::RegisterBroker { broker: broker(2, Some("b")) },
        metadata::Command::RenewBroker { broker: BrokerId(2), token: 0x99 },
        create(TOPIC, "orders"),
        create(other, "old"),
        metadata::Command::DeleteTopic { topic: other },
        metadata::Command::SetConfigs {
            scope: ConfigScope::Cluster,
            changes: set("segment.bytes", Some("1048576")),
        },
        metadata::Command::SetConfigs {
            scope: ConfigScope::Topic(TOPIC),
            changes: set("retention.bytes", None),
        },
        metadata::Command::ReportLeaders {
            reports: vec![LeaderReport {
                group: GroupId::new(TOPIC, PartitionId(1)),
                term: Term(4),
                leader: NodeId::new(2, 2),
            }],
        },
        metadata::Command::ReportDeleted { node: NodeId::new(1, 1), topics: vec![other] },
        metadata::Command::AllocateProducerIds { broker: BrokerId(1) },
        metadata::Command::AddPartitions {
            topic: TOPIC,
            partitions: 5,
            rotation: 2,
            unreachable: vec![BrokerId(2)],
        },
        metadata::Command::RenewBroker { broker: BrokerId(3), token: 0x98 },
        metadata::Command::MovePartitions {
            moves: vec![PartitionMove {
                group: GroupId::new(TOPIC, PartitionId(1)),
                replicas: vec![BrokerId(3), BrokerId(1)],
            }],
        },
        metadata::Command::ReportMembers {
            reports: vec![MembersReport {
                group: GroupId::new(TOPIC, PartitionId(1)),
                at: LogPosition { term: Term(4), index: LogIndex(17) },
                voters: vec![NodeId::new(1, 1), NodeId::new(3, 1)],
                revision: 1,
            }],
        },
        metadata::Command::ReportLeft {
            node: NodeId::new(2, 2),
            groups: vec![GroupId::new(TOPIC, PartitionId(2))],
        },
        metadata::Command::DrainBroker { broker: BrokerId(2), draining: true },
        metadata::Command::RemoveBroker { broker: BrokerId(2) },
    ]
}

/// Those that came with feature levels, all accepted when they are applied in turn.
fn commands_of_levels() -> Vec<metadata::Command> {
    let broker = |id: u32, max: u32| BrokerSpec {
        id: BrokerId(id),
        incarnation: Incarnation(1),
        rack: None,
        addresses: vec![Address { listener: "client".into(), host: "b".into(), port: 7071 }],
        software: Some(Software::new(
            "0.1.0",
            "4f2a",
            FeatureLevels { min: FeatureLevel(1), max: FeatureLevel(max) },
        )),
    };
    let unsaid = BrokerSpec { software: None, ..broker(2, 2) };
    vec![
        metadata::Command::FormCluster {
            cluster: ClusterId(0xabcd),
            level: FeatureLevel(2),
            brokers: vec![broker(1, 2), unsaid],
        },
        metadata::Command::RegisterBroker { broker: broker(1, 3) },
        metadata::Command::RegisterBroker { broker: broker(2, 3) },
        metadata::Command::FinalizeUpgrade { level: FeatureLevel(3) },
        metadata::Command::JoinBroker { token: 0x97 },
    ]
}

/// Of each kind, all accepted and none without effect when they are applied in turn.
fn group_commands_in_turn() -> Vec<group::Command> {
    let group: GroupName = "billing".parse().unwrap();
    let orders = || TopicName::new("orders").unwrap();
    let member = |id: &str| MemberId::new(id).unwrap();
    let topics = |partitions| group::Topics {
        known: [(orders(), (TOPIC, partitions))].into(),
        matched: [("ord.*".to_owned(), [orders()].into())].into(),
    };
    let join = |id: &str, instance: Option<&str>, pattern: Option<&str>| group::Command::Join {
        group: group.clone(),
        join: group::Join {
            member: member(id),
            instance: instance.map(|instance| instance.parse().unwrap()),
            client_id: "svc".into(),
            subscription: group::Subscription {
                topics: [orders()].into(),
                pattern: pattern.map(str::to_owned),
            },
            session_timeout: Duration::from_secs(10),
            rebalance_timeout: Duration::from_secs(60),
        },
        topics: topics(4),
    };
    let change = |partition, offset, leader_epoch, metadata: &str| group::OffsetChange {
        topic: TOPIC,
        name: orders(),
        partition: PartitionId(partition),
        offset: Offset(offset),
        leader_epoch,
        metadata: metadata.into(),
    };
    let committer = Some(group::Committer { member: member("a"), epoch: 2 });
    let gone: GroupName = "gone".parse().unwrap();
    let seek = |group: &GroupName, token, offsets| group::Command::Seek {
        group: group.clone(),
        token,
        offsets,
    };
    vec![
        join("a", None, Some("ord.*")),
        join("b", Some("one"), None),
        group::Command::Acknowledge {
            group: group.clone(),
            member: member("a"),
            holdings: [(TOPIC, PartitionId(0)), (TOPIC, PartitionId(1))].into(),
        },
        group::Command::Commit {
            group: group.clone(),
            committer,
            offsets: vec![change(0, 10, Some(7), "note"), change(1, 20, None, "")],
        },
        join("c", Some("one"), None),
        group::Command::Resolve { group: group.clone(), topics: topics(6) },
        join("d", None, None),
        seek(&group, 0x77, vec![change(0, 5, None, ""), change(3, 6, None, "")]),
        join("e", None, None),
        group::Command::Expire { group: group.clone(), member: member("e"), revision: 1 },
        join("e", None, None),
        group::Command::Leave { group: group.clone(), member: member("e") },
        seek(&gone, 1, vec![change(0, 5, None, ""), change(3, 6, None, "")]),
        group::Command::DeleteOffsets {
            group: gone.clone(),
            partitions: [(TOPIC, PartitionId(3))].into(),
        },
        group::Command::Delete { group: gone },
    ]
}

/// Cut, lengthened or flipped bytes are an error or another value, never a panic.
fn refuses_other_bytes<T: std::fmt::Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
) {
    for end in 0..bytes.len() {
        decode(&bytes[..end]).unwrap_err();
    }
    let longer = [bytes, &[0]].concat();
    decode(&longer).unwrap_err();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let _either = decode(&flipped);
    }
    let newer = [&[u8::MAX], &bytes[1..]].concat();
    assert!(matches!(decode(&newer), Err(DecodeError::NewerFormat { .. })));
}
