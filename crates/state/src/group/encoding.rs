//! Bytes that commands and the snapshot share. Their layout is drawn in `command.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use tidelog_types::{PartitionId, TopicId, TopicName};

use super::{Partition, Subscription, Topics};
use crate::DecodeError;
use crate::codec::{Reader, Writer};

pub(super) fn write_partition(writer: &mut Writer, (topic, partition): &Partition) {
    writer.u128(topic.0);
    writer.u32(partition.0);
}

pub(super) fn read_partition(reader: &mut Reader<'_>) -> Result<Partition, DecodeError> {
    Ok((TopicId(reader.u128()?), PartitionId(reader.u32()?)))
}

pub(super) fn read_partitions(reader: &mut Reader<'_>) -> Result<BTreeSet<Partition>, DecodeError> {
    reader.ascending(read_partition)
}

pub(super) fn write_subscription(writer: &mut Writer, subscription: &Subscription) {
    write_names(writer, &subscription.topics);
    writer.option(subscription.pattern.as_deref(), Writer::text);
}

pub(super) fn read_subscription(reader: &mut Reader<'_>) -> Result<Subscription, DecodeError> {
    let topics = reader.ascending(Reader::parse)?;
    Ok(Subscription { topics, pattern: reader.option(Reader::text)? })
}

/// In whole milliseconds. One that is too long for the bytes is also too long to be allowed.
pub(super) fn write_timeout(writer: &mut Writer, timeout: Duration) {
    writer.u32(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
}

pub(super) fn read_timeout(reader: &mut Reader<'_>) -> Result<Duration, DecodeError> {
    Ok(Duration::from_millis(u64::from(reader.u32()?)))
}

pub(super) fn write_topics(writer: &mut Writer, topics: &Topics) {
    writer.list(topics.known.iter(), |writer, (name, (id, partitions))| {
        writer.text(name.as_str());
        writer.u128(id.0);
        writer.u32(*partitions);
    });
    writer.list(topics.matched.iter(), |writer, (pattern, names)| {
        writer.text(pattern);
        write_names(writer, names);
    });
}

pub(super) fn read_topics(reader: &mut Reader<'_>) -> Result<Topics, DecodeError> {
    let known = reader.ascending_by_key(|reader| {
        Ok((reader.parse()?, (TopicId(reader.u128()?), reader.u32()?)))
    })?;
    let matched =
        reader.ascending_by_key(|reader| Ok((reader.text()?, reader.ascending(Reader::parse)?)))?;
    Ok(Topics { known, matched })
}

fn write_names(writer: &mut Writer, names: &BTreeSet<TopicName>) {
    writer.list(names.iter(), |writer, name| writer.text(name.as_str()));
}
