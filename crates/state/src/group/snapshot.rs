//! The machine in bytes.
//!
//! ```text
//! version u8 = 1
//! applied      option (term u64, index u64)
//! retired_epoch u32
//! groups       list, by id, of (id text, epoch u32, topics, names, members, offsets, seek)
//!   topics     as in a command
//!   names      list of (topic u128, name text), by topic
//!   members    list, by id, of (id text, instance option text, client_id text, subscription,
//!              session_timeout_ms u32, rebalance_timeout_ms u32, epoch u32, revision u64,
//!              replaced option text, holdings)
//!   holdings   list of (topic u128, partition u32, granted u32, revocation option), ascending
//!   revocation to option text | since i64 | fenced u8
//!   offsets    list of (topic u128, partition u32, committed), ascending
//!   committed  offset u64 | leader_epoch option i32 | metadata text | time i64
//!   seek       option (token u128, before list of option committed)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidelog_types::{
    GroupName, InstanceId, LogIndex, LogPosition, MemberId, Offset, Term, Timestamp, TopicId,
};

use super::consumer_group::{LastSeek, Revocation};
use super::encoding::{
    read_partition, read_subscription, read_timeout, read_topics, write_partition,
    write_subscription, write_timeout, write_topics,
};
use super::{
    Committed, GROUPS_MAX, Group, Holding, MEMBERS_MAX, Machine, Member, OFFSET_METADATA_BYTES_MAX,
    Partition,
};
use crate::DecodeError;
use crate::codec::{Reader, Writer};

/// The newest version that this build reads and writes.
pub const VERSION: u8 = 1;

pub(super) fn encode(machine: &Machine) -> Vec<u8> {
    let mut writer = Writer::new(VERSION);
    writer.option(machine.applied, |writer, applied| {
        writer.u64(applied.term.0);
        writer.u64(applied.index.0);
    });
    writer.u32(machine.retired_epoch);
    writer.list(machine.groups.iter(), |writer, (name, group)| {
        writer.text(name.as_str());
        write_group(writer, group);
    });
    writer.finish()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Machine, DecodeError> {
    let mut reader = Reader::new("group snapshot", VERSION, bytes)?;
    let applied = reader.option(|reader| {
        Ok(LogPosition { term: Term(reader.u64()?), index: LogIndex(reader.u64()?) })
    })?;
    let retired_epoch = reader.u32()?;
    let groups: BTreeMap<GroupName, _> =
        reader.ascending_by_key(|reader| Ok((reader.parse()?, Arc::new(read_group(reader)?))))?;
    let malformed = reader.malformed();
    reader.finish()?;
    if groups.len() > GROUPS_MAX || !groups.values().all(|group| is_sound(group)) {
        return Err(malformed);
    }
    Ok(Machine { applied, groups, retired_epoch })
}

/// Whether a group that was read is one that commands can lead to, as far as anything relies on it.
fn is_sound(group: &Group) -> bool {
    let holders = group.holders();
    let members = || group.members.values();
    let held = members().map(|member| member.holdings.len()).sum::<usize>();
    let instances: Vec<_> = members().filter_map(|member| member.instance.as_ref()).collect();
    let unique: BTreeSet<_> = instances.iter().collect();
    let goes_on = |(key, revocation): (&Partition, &Revocation)| match &revocation.to {
        Some(to) => group.members.contains_key(to) && holders.get(key) != Some(to),
        None => true,
    };
    let epochs_ascend = |member: &Member| {
        let granted = member.holdings.values().all(|holding| holding.granted <= member.epoch);
        granted && member.epoch <= group.epoch && member.revision > 0
    };
    !group.is_void()
        && group.members.len() <= MEMBERS_MAX
        && group.topics.check().is_ok()
        && held == holders.len()
        && unique.len() == instances.len()
        && members().all(epochs_ascend)
        && group.revocations.iter().all(goes_on)
        && group.used_topics().iter().eq(group.names.keys())
}

fn write_group(writer: &mut Writer, group: &Group) {
    writer.u32(group.epoch);
    write_topics(writer, &group.topics);
    writer.list(group.names.iter(), |writer, (topic, name)| {
        writer.u128(topic.0);
        writer.text(name.as_str());
    });
    writer.list(group.members.iter(), |writer, (id, member)| {
        writer.text(id.as_str());
        write_member(writer, member, &group.revocations);
    });
    writer.list(group.offsets.iter(), |writer, (partition, committed)| {
        write_partition(writer, partition);
        write_committed(writer, committed);
    });
    writer.option(group.seek.as_ref(), |writer, seek| {
        writer.u128(seek.token);
        writer.list(seek.before.iter(), |writer, before| {
            writer.option(before.as_ref(), write_committed);
        });
    });
}

fn read_group(reader: &mut Reader<'_>) -> Result<Group, DecodeError> {
    let epoch = reader.u32()?;
    let topics = read_topics(reader)?;
    let names = reader.ascending_by_key(|reader| Ok((TopicId(reader.u128()?), reader.parse()?)))?;
    let mut revocations = BTreeMap::new();
    let members = reader
        .ascending_by_key(|reader| Ok((reader.parse()?, read_member(reader, &mut revocations)?)))?;
    let offsets =
        reader.ascending_by_key(|reader| Ok((read_partition(reader)?, read_committed(reader)?)))?;
    let seek = reader.option(|reader| {
        let token = reader.u128()?;
        Ok(LastSeek { token, before: reader.list(|reader| reader.option(read_committed))? })
    })?;
    Ok(Group { epoch, members, topics, names, revocations, offsets, seek })
}

fn write_member(
    writer: &mut Writer,
    member: &Member,
    revocations: &BTreeMap<Partition, Revocation>,
) {
    writer.option(member.instance.as_ref().map(InstanceId::as_str), Writer::text);
    writer.text(&member.client_id);
    write_subscription(writer, &member.subscription);
    write_timeout(writer, member.session_timeout);
    write_timeout(writer, member.rebalance_timeout);
    writer.u32(member.epoch);
    writer.u64(member.revision);
    writer.option(member.replaced.as_ref().map(MemberId::as_str), Writer::text);
    writer.list(member.holdings.iter(), |writer, (partition, holding)| {
        write_partition(writer, partition);
        writer.u32(holding.granted);
        writer.option(revocations.get(partition), |writer, revocation| {
            writer.option(revocation.to.as_ref().map(MemberId::as_str), Writer::text);
            writer.i64(revocation.since.0);
            writer.u8(u8::from(revocation.fenced));
        });
    });
}

fn read_member(
    reader: &mut Reader<'_>,
    revocations: &mut BTreeMap<Partition, Revocation>,
) -> Result<Member, DecodeError> {
    let instance = reader.option(Reader::parse)?;
    let client_id = reader.text()?;
    let subscription = read_subscription(reader)?;
    let session_timeout = read_timeout(reader)?;
    let rebalance_timeout = read_timeout(reader)?;
    let epoch = reader.u32()?;
    let revision = reader.u64()?;
    let replaced = reader.option(Reader::parse)?;
    let mut revoking_since: Option<Timestamp> = None;
    let holdings = reader.ascending_by_key(|reader| {
        let partition = read_partition(reader)?;
        let granted = reader.u32()?;
        let revocation = reader.option(read_revocation)?;
        let revoking = revocation.is_some();
        if let Some(revocation) = revocation {
            revoking_since =
                Some(revoking_since.map_or(revocation.since, |since| since.min(revocation.since)));
            revocations.insert(partition, revocation);
        }
        Ok((partition, Holding { granted, revoking }))
    })?;
    Ok(Member {
        instance,
        client_id,
        subscription,
        session_timeout,
        rebalance_timeout,
        epoch,
        revision,
        holdings,
        revoking_since,
        replaced,
    })
}

fn read_revocation(reader: &mut Reader<'_>) -> Result<Revocation, DecodeError> {
    let to = reader.option(Reader::parse)?;
    let since = Timestamp(reader.i64()?);
    let fenced = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(reader.malformed()),
    };
    Ok(Revocation { to, since, fenced })
}

fn write_committed(writer: &mut Writer, committed: &Committed) {
    writer.u64(committed.offset.0);
    writer.option(committed.leader_epoch, Writer::i32);
    writer.text(&committed.metadata);
    writer.i64(committed.time.0);
}

fn read_committed(reader: &mut Reader<'_>) -> Result<Committed, DecodeError> {
    let committed = Committed {
        offset: Offset(reader.u64()?),
        leader_epoch: reader.option(Reader::i32)?,
        metadata: reader.text()?,
        time: Timestamp(reader.i64()?),
    };
    let allowed =
        committed.offset.to_wire() >= 0 && committed.metadata.len() <= OFFSET_METADATA_BYTES_MAX;
    if allowed { Ok(committed) } else { Err(reader.malformed()) }
}
