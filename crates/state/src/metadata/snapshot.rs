//! The metadata machine in bytes.
//!
//! ```text
//! version u8 = 4, at the first feature level 3
//! applied      option (term u64, index u64)
//! cluster      option u128
//! feature_level u32, in version 4
//! producer_id_next i64
//! configs      list of (key text, value text)
//! brokers      list of (id u32, incarnation u32, token u128, rack option text, addresses,
//!              draining u8), by id
//!   addresses  list of (listener text, host text, port u32)
//! removed      list of (id u32, incarnation u32), by id
//! topics       list, by id, of (id u128, name text, state u8, created i64, configs,
//!              partitions, deleting_on list of u64)
//!   partitions list of (state u8, replicas list of u32, voters list of u64, initializer u64,
//!              leader option (term u64, node u64), voters_at option (term u64, index u64),
//!              revision u32, leaving list of (node u64, released u8))
//! ```
//! In version 1 a partition ended with its leader, for none ever moved; up to version 2 no broker was
//! drained or removed. Up to version 3 there were no feature levels, which is to say the first: there
//! nothing newer is written, so that the version before can come back.
//!
//! What a broker runs stands among its addresses, see `software`.
//!
//! Configs stand as text, so that a later version may widen what a key takes.

use std::collections::BTreeMap;

use tidelog_types::{
    BrokerId, FeatureLevel, Incarnation, LogIndex, LogPosition, NodeId, Term, Timestamp, TopicId,
    TopicName,
};

use super::command::{read_place, read_raised_level, write_place};
use super::{
    Broker, ClusterId, ConfigOverrides, Leader, Leaving, Machine, Partition, PartitionState, Topic,
    TopicState,
};
use crate::DecodeError;
use crate::codec::{Reader, Writer};

/// The newest version that this build reads and writes.
pub const VERSION: u8 = 4;

/// The version of clusters at the first feature level, and of single topics and brokers.
const VERSION_OF_FIRST_LEVEL: u8 = 3;

pub(super) fn encode(machine: &Machine) -> Vec<u8> {
    let is_first = machine.feature_level == FeatureLevel::FIRST;
    let mut writer = Writer::new(if is_first { VERSION_OF_FIRST_LEVEL } else { VERSION });
    writer.option(machine.applied, write_position);
    writer.option(machine.cluster, |writer, cluster| writer.u128(cluster.0));
    if !is_first {
        writer.u32(machine.feature_level.0);
    }
    writer.i64(machine.producer_id_next);
    write_configs(&mut writer, &machine.configs);
    writer.list(machine.brokers.values(), write_broker);
    writer.list(machine.removed.iter(), |writer, (id, incarnation)| {
        writer.u32(id.0);
        writer.u32(incarnation.0);
    });
    writer.list(machine.topics.values(), write_topic);
    writer.finish()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Machine, DecodeError> {
    let mut reader = Reader::new("metadata snapshot", VERSION, bytes)?;
    let applied = reader.option(read_position)?;
    let cluster = reader.option(|reader| reader.u128().map(ClusterId))?;
    let feature_level = match reader.version() {
        0..=3 => FeatureLevel::FIRST,
        _ => read_raised_level(&mut reader)?,
    };
    let producer_id_next = reader.i64()?;
    let configs = read_configs(&mut reader)?;
    let brokers = reader.list(read_broker)?;
    let mut removed = Vec::new();
    if reader.version() >= 3 {
        removed =
            reader.list(|reader| Ok((BrokerId(reader.u32()?), Incarnation(reader.u32()?))))?;
    }
    let topics = reader.list(read_topic)?;
    let malformed = reader.malformed();
    reader.finish()?;

    let live = topics.iter().filter(|topic| topic.state == TopicState::Live);
    let names: BTreeMap<_, _> = live.clone().map(|topic| (topic.name.clone(), topic.id)).collect();
    let unambiguous = names.len() == live.count()
        && brokers.windows(2).all(|pair| pair[0].id < pair[1].id)
        && removed.windows(2).all(|pair| pair[0].0 < pair[1].0)
        && topics.windows(2).all(|pair| pair[0].id < pair[1].id);
    if !unambiguous {
        return Err(malformed);
    }
    let brokers = brokers.into_iter().map(|broker| (broker.id, broker)).collect();
    let topics = topics.into_iter().map(|topic| (topic.id, topic)).collect();
    let removed = removed.into_iter().collect();
    Ok(Machine {
        applied,
        cluster,
        feature_level,
        brokers,
        removed,
        topics,
        names,
        configs,
        producer_id_next,
    })
}

impl Topic {
    /// The topic's bytes, as they stand in the snapshot, for views that keep one value per topic.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(VERSION_OF_FIRST_LEVEL);
        write_topic(&mut writer, self);
        writer.finish()
    }

    /// The inverse of [`Topic::encode`].
    ///
    /// # Errors
    /// When a newer version wrote the bytes, or they do not describe a topic.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("topic", VERSION, bytes)?;
        let topic = read_topic(&mut reader)?;
        reader.finish()?;
        Ok(topic)
    }
}

impl Broker {
    /// The broker's bytes, as they stand in the snapshot.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(VERSION_OF_FIRST_LEVEL);
        write_broker(&mut writer, self);
        writer.finish()
    }

    /// The inverse of [`Broker::encode`].
    ///
    /// # Errors
    /// When a newer version wrote the bytes, or they do not describe a broker.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("broker", VERSION, bytes)?;
        let broker = read_broker(&mut reader)?;
        reader.finish()?;
        Ok(broker)
    }
}

fn write_broker(writer: &mut Writer, broker: &Broker) {
    writer.u32(broker.id.0);
    writer.u32(broker.incarnation.0);
    writer.u128(broker.incarnation_token);
    write_place(writer, broker.rack.as_deref(), &broker.addresses, broker.software.as_ref());
    writer.flag(broker.is_draining);
}

fn read_broker(reader: &mut Reader<'_>) -> Result<Broker, DecodeError> {
    let id = BrokerId(reader.u32()?);
    let incarnation = Incarnation(reader.u32()?);
    let incarnation_token = reader.u128()?;
    let (rack, addresses, software) = read_place(reader)?;
    let is_draining = reader.version() >= 3 && reader.flag()?;
    Ok(Broker { id, incarnation, rack, addresses, software, is_draining, incarnation_token })
}

fn write_configs(writer: &mut Writer, configs: &ConfigOverrides) {
    writer.list(configs.iter(), |writer, (key, value)| {
        writer.text(key.name());
        writer.text(&value.to_string());
    });
}

fn read_configs(reader: &mut Reader<'_>) -> Result<ConfigOverrides, DecodeError> {
    let pairs = reader.list(|reader| Ok((reader.text()?, reader.text()?)))?;
    let mut configs = ConfigOverrides::default();
    configs
        .change(pairs.iter().map(|(key, value)| (key.as_str(), Some(value.as_str()))))
        .map_err(|_| reader.malformed())?;
    Ok(configs)
}

fn write_topic(writer: &mut Writer, topic: &Topic) {
    writer.u128(topic.id.0);
    writer.text(topic.name.as_str());
    writer.u8(match topic.state {
        TopicState::Live => 0,
        TopicState::Deleting => 1,
    });
    writer.i64(topic.created.0);
    write_configs(writer, &topic.configs);
    writer.list(topic.partitions.iter(), write_partition);
    writer.list(topic.deleting_on.iter(), |writer, node| writer.u64(node.to_u64()));
}

fn read_topic(reader: &mut Reader<'_>) -> Result<Topic, DecodeError> {
    let id = TopicId(reader.u128()?);
    let name = TopicName::new(&reader.text()?).map_err(|_| reader.malformed())?;
    let state = match reader.u8()? {
        0 => TopicState::Live,
        1 => TopicState::Deleting,
        _ => return Err(reader.malformed()),
    };
    let created = Timestamp(reader.i64()?);
    let configs = read_configs(reader)?;
    let partitions = reader.list(read_partition)?;
    let deleting_on = reader.list(read_node)?;
    Ok(Topic { id, name, state, created, configs, partitions, deleting_on })
}

fn write_partition(writer: &mut Writer, partition: &Partition) {
    writer.u8(match partition.state {
        PartitionState::Creating => 0,
        PartitionState::Active => 1,
    });
    writer.list(partition.replicas.iter(), |writer, broker| writer.u32(broker.0));
    writer.list(partition.voters.iter(), |writer, node| writer.u64(node.to_u64()));
    writer.u64(partition.initializer.to_u64());
    writer.option(partition.leader, |writer, leader| {
        writer.u64(leader.term.0);
        writer.u64(leader.node.to_u64());
    });
    writer.option(partition.voters_at, write_position);
    writer.u32(partition.revision);
    writer.list(partition.leaving.iter(), |writer, leaving| {
        writer.u64(leaving.node.to_u64());
        writer.flag(leaving.released);
    });
}

fn read_partition(reader: &mut Reader<'_>) -> Result<Partition, DecodeError> {
    let state = match reader.u8()? {
        0 => PartitionState::Creating,
        1 => PartitionState::Active,
        _ => return Err(reader.malformed()),
    };
    let replicas = reader.list(|reader| reader.u32().map(BrokerId))?;
    let voters = reader.list(read_node)?;
    let initializer = read_node(reader)?;
    let leader = reader
        .option(|reader| Ok(Leader { term: Term(reader.u64()?), node: read_node(reader)? }))?;
    let (mut voters_at, mut revision, mut leaving) = (None, 0, Vec::new());
    if reader.version() >= 2 {
        voters_at = reader.option(read_position)?;
        revision = reader.u32()?;
        leaving = reader.list(read_leaving)?;
    }
    Ok(Partition { state, replicas, voters, voters_at, revision, leaving, initializer, leader })
}

fn read_leaving(reader: &mut Reader<'_>) -> Result<Leaving, DecodeError> {
    Ok(Leaving { node: read_node(reader)?, released: reader.flag()? })
}

fn write_position(writer: &mut Writer, position: LogPosition) {
    writer.u64(position.term.0);
    writer.u64(position.index.0);
}

fn read_position(reader: &mut Reader<'_>) -> Result<LogPosition, DecodeError> {
    Ok(LogPosition { term: Term(reader.u64()?), index: LogIndex(reader.u64()?) })
}

fn read_node(reader: &mut Reader<'_>) -> Result<NodeId, DecodeError> {
    reader.u64().map(NodeId::from_u64)
}
