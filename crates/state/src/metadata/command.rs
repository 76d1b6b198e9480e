//! Commands to the metadata group, as they stand in the body of an entry.
//!
//! ```text
//! version u8 = 1 | tag u8 | body, fields in the order of the enum
//!   1 form cluster      4 create topic     7 report leaders
//!   2 register broker   5 delete topic     8 report deleted
//!   3 renew broker      6 set configs      9 allocate producer ids
//!   10 add partitions   11 move partitions    12 report members
//!   13 report left        14 drain broker       15 remove broker
//!   16 finalize upgrade   17 form cluster at a level above the first: cluster, level, brokers
//! ```
//! What a broker runs stands among its addresses, see `software`.
//!
//! Random values (ids, tokens, where placement begins) are chosen by the proposer and stand in the
//! command, so that every replica applies the same.

use tidelog_types::{
    BrokerId, FeatureLevel, GroupId, Incarnation, LogIndex, LogPosition, NodeId, PartitionId, Term,
    TopicId,
};

use super::{Address, BrokerSpec, ClusterId, Software};
use crate::DecodeError;
use crate::codec::{Reader, Writer};

const VERSION: u8 = 1;

/// A command to the metadata group. Each may be proposed again when its answer was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The first command of a cluster.
    FormCluster {
        /// The new cluster's id.
        cluster: ClusterId,
        /// The feature level that it begins at; all its brokers support it.
        level: FeatureLevel,
        /// Its brokers.
        brokers: Vec<BrokerSpec>,
    },
    /// A broker tells, when it starts, where it is reached; it must have an incarnation.
    RegisterBroker {
        /// The broker.
        broker: BrokerSpec,
    },
    /// A broker with an empty disk asks for a new incarnation; an unknown one joins so.
    RenewBroker {
        /// The broker.
        broker: BrokerId,
        /// Chosen at random for this request and kept over its repeats; not zero.
        token: u128,
    },
    /// A broker with an empty disk joins without an id of its own.
    JoinBroker {
        /// Chosen at random for this request and kept over its repeats; not zero.
        token: u128,
    },
    /// Creates a topic.
    CreateTopic {
        /// Its id, chosen at random.
        topic: TopicId,
        /// Its name.
        name: String,
        /// How many partitions; the default when `None`.
        partitions: Option<u32>,
        /// How many replicas each; the default when `None`.
        replication_factor: Option<u32>,
        /// Configs by Kafka's names.
        configs: Vec<(String, String)>,
        /// Where placement begins in the circle of brokers.
        rotation: u32,
        /// Brokers that the proposer cannot reach: none of them becomes an initializer, as far as
        /// others are among the replicas.
        unreachable: Vec<BrokerId>,
    },
    /// Deletes a topic; its name is free at once.
    DeleteTopic {
        /// The topic.
        topic: TopicId,
    },
    /// Changes configs, all or none.
    SetConfigs {
        /// Whose.
        scope: ConfigScope,
        /// What, by Kafka's names.
        changes: Vec<ConfigChange>,
    },
    /// Leaders report that they lead; the first report makes a partition active.
    ReportLeaders {
        /// One per partition.
        reports: Vec<LeaderReport>,
    },
    /// A node reports that it holds nothing of these deleted topics any more.
    ReportDeleted {
        /// The node.
        node: NodeId,
        /// The topics.
        topics: Vec<TopicId>,
    },
    /// Gives a topic more partitions. Proposed again, it finds them there.
    AddPartitions {
        /// The topic.
        topic: TopicId,
        /// How many it has then, the present ones included.
        partitions: u32,
        /// Where placement begins in the circle of brokers.
        rotation: u32,
        /// As when a topic is created.
        unreachable: Vec<BrokerId>,
    },
    /// Tells which brokers should hold the replicas of partitions, all or none of it. Proposed again,
    /// it finds them told so.
    MovePartitions {
        /// One per partition.
        moves: Vec<PartitionMove>,
    },
    /// Leaders report who votes in their groups; a report older than what is known is passed over.
    ReportMembers {
        /// One per partition.
        reports: Vec<MembersReport>,
    },
    /// A node reports that it holds nothing any more of partitions that have released it.
    ReportLeft {
        /// The node.
        node: NodeId,
        /// The partitions' groups.
        groups: Vec<GroupId>,
    },
    /// Tells that a broker's replicas are to go elsewhere, or that it may keep and take some after all.
    /// Proposed again, it finds that told.
    DrainBroker {
        /// The broker.
        broker: BrokerId,
        /// `false`: no more.
        draining: bool,
    },
    /// Takes a broker that is drained out of the cluster, for good. Proposed again, it finds it gone.
    RemoveBroker {
        /// The broker.
        broker: BrokerId,
    },
    /// Raises the feature level, for good. Proposed again, it finds it raised. A broker that does not know
    /// this command cannot read the metadata behind it: it must not be proposed before
    /// [`Machine::check_finalize`](super::Machine::check_finalize) allows it.
    FinalizeUpgrade {
        /// The level.
        level: FeatureLevel,
    },
    /// A broker asks for a block of producer ids. Repeated, it gets another block: ids are many.
    AllocateProducerIds {
        /// The broker, for the log's reader.
        broker: BrokerId,
    },
}

/// Whose configs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigScope {
    /// The default of all topics.
    Cluster,
    /// One topic's.
    Topic(TopicId),
}

/// One change of a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// Kafka's name of the key.
    pub key: String,
    /// The new value; `None` takes the present one away, so that the wider scope's holds.
    pub value: Option<String>,
}

/// A leader's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderReport {
    /// The partition's group.
    pub group: GroupId,
    /// The term it leads.
    pub term: Term,
    /// The leader.
    pub leader: NodeId,
}

/// Where the replicas of a partition should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMove {
    /// The partition's group.
    pub group: GroupId,
    /// The brokers; the first should lead.
    pub replicas: Vec<BrokerId>,
}

/// Who votes in a partition's group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersReport {
    /// The partition's group.
    pub group: GroupId,
    /// Where the membership stands in the group's log; it is committed.
    pub at: LogPosition,
    /// The voters; never those of a change that is only half done.
    pub voters: Vec<NodeId>,
    /// The revision of the partition's target that the leader knew before a majority of the group
    /// confirmed it as leader and it looked who votes.
    pub revision: u32,
}

impl Command {
    /// The command's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(VERSION);
        write_command(&mut writer, self);
        writer.finish()
    }

    /// The inverse of [`Command::encode`].
    ///
    /// # Errors
    /// When a newer version wrote the bytes, or they are not a command.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("metadata command", VERSION, bytes)?;
        let command = read_command(&mut reader)?;
        reader.finish()?;
        Ok(command)
    }
}

fn write_command(writer: &mut Writer, command: &Command) {
    match command {
        Command::FormCluster { cluster, level, brokers } => {
            // As before there were levels, where that says the same.
            let has_level = *level != FeatureLevel::FIRST;
            writer.u8(if has_level { 17 } else { 1 });
            writer.u128(cluster.0);
            if has_level {
                writer.u32(level.0);
            }
            writer.list(brokers.iter(), write_broker);
        }
        Command::RegisterBroker { broker } => {
            writer.u8(2);
            write_broker(writer, broker);
        }
        Command::RenewBroker { broker, token } => {
            writer.u8(3);
            writer.u32(broker.0);
            writer.u128(*token);
        }
        Command::CreateTopic {
            topic,
            name,
            partitions,
            replication_factor,
            configs,
            rotation,
            unreachable,
        } => {
            writer.u8(4);
            writer.u128(topic.0);
            writer.text(name);
            writer.option(*partitions, Writer::u32);
            writer.option(*replication_factor, Writer::u32);
            writer.list(configs.iter(), |writer, (key, value)| {
                writer.text(key);
                writer.text(value);
            });
            writer.u32(*rotation);
            writer.list(unreachable.iter(), |writer, broker| writer.u32(broker.0));
        }
        Command::DeleteTopic { topic } => {
            writer.u8(5);
            writer.u128(topic.0);
        }
        Command::SetConfigs { scope, changes } => {
            writer.u8(6);
            let topic = match scope {
                ConfigScope::Cluster => None,
                ConfigScope::Topic(topic) => Some(topic.0),
            };
            writer.option(topic, Writer::u128);
            writer.list(changes.iter(), |writer, change| {
                writer.text(&change.key);
                writer.option(change.value.as_deref(), Writer::text);
            });
        }
        Command::ReportLeaders { reports } => {
            writer.u8(7);
            writer.list(reports.iter(), |writer, report| {
                write_group(writer, report.group);
                writer.u64(report.term.0);
                writer.u64(report.leader.to_u64());
            });
        }
        Command::ReportDeleted { node, topics } => {
            writer.u8(8);
            writer.u64(node.to_u64());
            writer.list(topics.iter(), |writer, topic| writer.u128(topic.0));
        }
        Command::AllocateProducerIds { broker } => {
            writer.u8(9);
            writer.u32(broker.0);
        }
        Command::AddPartitions { topic, partitions, rotation, unreachable } => {
            writer.u8(10);
            writer.u128(topic.0);
            writer.u32(*partitions);
            writer.u32(*rotation);
            writer.list(unreachable.iter(), |writer, broker| writer.u32(broker.0));
        }
        Command::MovePartitions { moves } => {
            writer.u8(11);
            writer.list(moves.iter(), |writer, one| {
                write_group(writer, one.group);
                writer.list(one.replicas.iter(), |writer, broker| writer.u32(broker.0));
            });
        }
        Command::ReportMembers { reports } => {
            writer.u8(12);
            writer.list(reports.iter(), |writer, report| {
                write_group(writer, report.group);
                writer.u64(report.at.term.0);
                writer.u64(report.at.index.0);
                writer.list(report.voters.iter(), |writer, node| writer.u64(node.to_u64()));
                writer.u32(report.revision);
            });
        }
        Command::ReportLeft { node, groups } => {
            writer.u8(13);
            writer.u64(node.to_u64());
            writer.list(groups.iter(), |writer, group| write_group(writer, *group));
        }
        Command::DrainBroker { broker, draining } => {
            writer.u8(14);
            writer.u32(broker.0);
            writer.flag(*draining);
        }
        Command::RemoveBroker { broker } => {
            writer.u8(15);
            writer.u32(broker.0);
        }
        Command::FinalizeUpgrade { level } => {
            writer.u8(16);
            writer.u32(level.0);
        }
        Command::JoinBroker { token } => {
            writer.u8(18);
            writer.u128(*token);
        }
    }
}

fn read_command(reader: &mut Reader<'_>) -> Result<Command, DecodeError> {
    Ok(match reader.u8()? {
        1 => Command::FormCluster {
            cluster: ClusterId(reader.u128()?),
            level: FeatureLevel::FIRST,
            brokers: reader.list(read_broker)?,
        },
        2 => Command::RegisterBroker { broker: read_broker(reader)? },
        3 => Command::RenewBroker { broker: BrokerId(reader.u32()?), token: reader.u128()? },
        4 => Command::CreateTopic {
            topic: TopicId(reader.u128()?),
            name: reader.text()?,
            partitions: reader.option(Reader::u32)?,
            replication_factor: reader.option(Reader::u32)?,
            configs: reader.list(|reader| Ok((reader.text()?, reader.text()?)))?,
            rotation: reader.u32()?,
            unreachable: reader.list(|reader| reader.u32().map(BrokerId))?,
        },
        5 => Command::DeleteTopic { topic: TopicId(reader.u128()?) },
        6 => Command::SetConfigs {
            scope: match reader.option(Reader::u128)? {
                None => ConfigScope::Cluster,
                Some(topic) => ConfigScope::Topic(TopicId(topic)),
            },
            changes: reader.list(|reader| {
                Ok(ConfigChange { key: reader.text()?, value: reader.option(Reader::text)? })
            })?,
        },
        7 => Command::ReportLeaders { reports: reader.list(read_report)? },
        8 => Command::ReportDeleted {
            node: NodeId::from_u64(reader.u64()?),
            topics: reader.list(|reader| reader.u128().map(TopicId))?,
        },
        9 => Command::AllocateProducerIds { broker: BrokerId(reader.u32()?) },
        10 => Command::AddPartitions {
            topic: TopicId(reader.u128()?),
            partitions: reader.u32()?,
            rotation: reader.u32()?,
            unreachable: reader.list(|reader| reader.u32().map(BrokerId))?,
        },
        11 => Command::MovePartitions {
            moves: reader.list(|reader| {
                let group = read_group(reader)?;
                let replicas = reader.list(|reader| reader.u32().map(BrokerId))?;
                Ok(PartitionMove { group, replicas })
            })?,
        },
        12 => Command::ReportMembers { reports: reader.list(read_members)? },
        13 => Command::ReportLeft {
            node: NodeId::from_u64(reader.u64()?),
            groups: reader.list(read_group)?,
        },
        14 => Command::DrainBroker { broker: BrokerId(reader.u32()?), draining: reader.flag()? },
        15 => Command::RemoveBroker { broker: BrokerId(reader.u32()?) },
        16 => Command::FinalizeUpgrade { level: FeatureLevel(reader.u32()?) },
        17 => Command::FormCluster {
            cluster: ClusterId(reader.u128()?),
            level: read_raised_level(reader)?,
            brokers: reader.list(read_broker)?,
        },
        18 => Command::JoinBroker { token: reader.u128()? },
        _ => return Err(reader.malformed()),
    })
}

fn write_group(writer: &mut Writer, group: GroupId) {
    writer.u128(group.topic.0);
    writer.u32(group.partition.0);
}

fn read_group(reader: &mut Reader<'_>) -> Result<GroupId, DecodeError> {
    Ok(GroupId::new(TopicId(reader.u128()?), PartitionId(reader.u32()?)))
}

fn read_members(reader: &mut Reader<'_>) -> Result<MembersReport, DecodeError> {
    Ok(MembersReport {
        group: read_group(reader)?,
        at: LogPosition { term: Term(reader.u64()?), index: LogIndex(reader.u64()?) },
        voters: reader.list(|reader| reader.u64().map(NodeId::from_u64))?,
        revision: reader.u32()?,
    })
}

fn read_report(reader: &mut Reader<'_>) -> Result<LeaderReport, DecodeError> {
    Ok(LeaderReport {
        group: read_group(reader)?,
        term: Term(reader.u64()?),
        leader: NodeId::from_u64(reader.u64()?),
    })
}

fn write_broker(writer: &mut Writer, broker: &BrokerSpec) {
    writer.u32(broker.id.0);
    writer.u32(broker.incarnation.0);
    write_place(writer, broker.rack.as_deref(), &broker.addresses, broker.software.as_ref());
}

fn read_broker(reader: &mut Reader<'_>) -> Result<BrokerSpec, DecodeError> {
    let id = BrokerId(reader.u32()?);
    let incarnation = Incarnation(reader.u32()?);
    let (rack, addresses, software) = read_place(reader)?;
    Ok(BrokerSpec { id, incarnation, rack, addresses, software })
}

/// A level that is written only when it is not the first, so that equal values have equal bytes.
pub(super) fn read_raised_level(reader: &mut Reader<'_>) -> Result<FeatureLevel, DecodeError> {
    let level = FeatureLevel(reader.u32()?);
    if level == FeatureLevel::FIRST { Err(reader.malformed()) } else { Ok(level) }
}

pub(super) fn write_place(
    writer: &mut Writer,
    rack: Option<&str>,
    addresses: &[Address],
    software: Option<&Software>,
) {
    writer.option(rack, Writer::text);
    let software = software.map(Software::to_address);
    let addresses: Vec<&Address> = addresses.iter().chain(&software).collect();
    writer.list(addresses.into_iter(), |writer, address| {
        writer.text(&address.listener);
        writer.text(&address.host);
        writer.u32(u32::from(address.port));
    });
}

/// Where a broker is, and what it runs.
type Place = (Option<String>, Vec<Address>, Option<Software>);

pub(super) fn read_place(reader: &mut Reader<'_>) -> Result<Place, DecodeError> {
    let rack = reader.option(Reader::text)?;
    let mut addresses = reader.list(|reader| {
        let (listener, host) = (reader.text()?, reader.text()?);
        let port = u16::try_from(reader.u32()?).map_err(|_| reader.malformed())?;
        Ok(Address { listener, host, port })
    })?;
    // Whatever is not understood stays an address, on this build and on every other.
    let software = match addresses.last().and_then(Software::from_address) {
        None => None,
        said => {
            addresses.pop();
            said
        }
    };
    Ok((rack, addresses, software))
}
