//! Commands to a coordinator, as they stand in the body of an entry.
//!
//! ```text
//! version u8 = 1 | tag u8 | group text | body, fields in the order of the enum
//!   1 join           4 expire     7 seek
//!   2 acknowledge    5 resolve    8 delete
//!   3 leave          6 commit     9 delete offsets
//!
//! join        member text | instance option text | client_id text | subscription
//!             | session_timeout_ms u32 | rebalance_timeout_ms u32
//! subscription topics list of text, ascending | pattern option text
//! topics      known   list of (name text, id u128, partitions u32), by name
//!             matched list of (pattern text, names list of text, ascending), by pattern
//! committer   member text | epoch u32
//! offset      topic u128 | name text | partition u32 | offset u64 | leader_epoch option i32
//!             | metadata text
//! partitions  list of (topic u128, partition u32), ascending
//! ```
//! What depends on anything but the machine (which topics exist, what a pattern matches, random ids)
//! is found out by the proposer and stands in the command. Each may be proposed again when its answer
//! was lost.

use std::collections::BTreeSet;
use std::time::Duration;

use tidelog_types::{GroupName, InstanceId, MemberId, Offset, PartitionId, TopicId, TopicName};

use super::encoding::{
    read_partitions, read_subscription, read_timeout, read_topics, write_partition,
    write_subscription, write_timeout, write_topics,
};
use super::{Subscription, Topics};
use crate::DecodeError;
use crate::codec::{Reader, Writer};

const VERSION: u8 = 1;

/// A command to a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A member joins, or changes what it subscribes to. Makes the group.
    Join {
        /// The group.
        group: GroupName,
        /// The member.
        join: Join,
        /// What its topics and its pattern stand for now.
        topics: Topics,
    },
    /// A member tells what it still holds, after it has given something up.
    Acknowledge {
        /// The group.
        group: GroupName,
        /// The member.
        member: MemberId,
        /// Everything that it holds.
        holdings: BTreeSet<(TopicId, PartitionId)>,
    },
    /// A member leaves. One that is not there has left.
    Leave {
        /// The group.
        group: GroupName,
        /// The member.
        member: MemberId,
    },
    /// The leader has not heard of a member for a whole session, or it gives up too slowly.
    Expire {
        /// The group.
        group: GroupName,
        /// The member.
        member: MemberId,
        /// The revision that the leader judged by: a member that changed since stays.
        revision: u64,
    },
    /// The topics of the cluster have changed.
    Resolve {
        /// The group.
        group: GroupName,
        /// What all topics and patterns of the group stand for now; replaces what was known.
        topics: Topics,
    },
    /// Offsets are committed.
    Commit {
        /// The group.
        group: GroupName,
        /// Who commits; `None` is nobody, which only a group without members takes.
        committer: Option<Committer>,
        /// What, at most once per partition.
        offsets: Vec<OffsetChange>,
    },
    /// Offsets are set, forward or back. Makes the group.
    Seek {
        /// The group.
        group: GroupName,
        /// Chosen at random and kept over repeats: done once.
        token: u128,
        /// What, at most once per partition.
        offsets: Vec<OffsetChange>,
    },
    /// The group is deleted with its offsets.
    Delete {
        /// The group.
        group: GroupName,
    },
    /// Offsets are forgotten.
    DeleteOffsets {
        /// The group.
        group: GroupName,
        /// Of which partitions.
        partitions: BTreeSet<(TopicId, PartitionId)>,
    },
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Its id.
    pub member: MemberId,
    /// Set for a static member.
    pub instance: Option<InstanceId>,
    /// Name of its client, for people.
    pub client_id: String,
    /// What it subscribes to.
    pub subscription: Subscription,
    /// How long it may be silent.
    pub session_timeout: Duration,
    /// How long giving up may take.
    pub rebalance_timeout: Duration,
}

/// Who commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committer {
    /// The member.
    pub member: MemberId,
    /// The epoch that it has.
    pub epoch: u32,
}

/// The new offset of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetChange {
    /// The topic.
    pub topic: TopicId,
    /// The topic's name, for lists.
    pub name: TopicName,
    /// The partition.
    pub partition: PartitionId,
    /// The first offset that is not done.
    pub offset: Offset,
    /// Leader epoch of the record before it, if known.
    pub leader_epoch: Option<i32>,
    /// Whatever the committer wants to keep.
    pub metadata: String,
}

impl Command {
    /// The command's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(VERSION);
        writer.u8(self.tag());
        writer.text(self.group().as_str());
        write_body(&mut writer, self);
        writer.finish()
    }

    /// The inverse of [`Command::encode`].
    ///
    /// # Errors
    /// When a newer version wrote the bytes, or they are not a command.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("group command", VERSION, bytes)?;
        let command = read_command(&mut reader)?;
        reader.finish()?;
        Ok(command)
    }

    /// The group that it is about.
    #[must_use]
    pub const fn group(&self) -> &GroupName {
        match self {
            Self::Join { group, .. }
            | Self::Acknowledge { group, .. }
            | Self::Leave { group, .. }
            | Self::Expire { group, .. }
            | Self::Resolve { group, .. }
            | Self::Commit { group, .. }
            | Self::Seek { group, .. }
            | Self::Delete { group }
            | Self::DeleteOffsets { group, .. } => group,
        }
    }

    /// Whether it makes the group when there is none.
    pub(super) const fn makes_group(&self) -> bool {
        matches!(self, Self::Join { .. } | Self::Commit { committer: None, .. } | Self::Seek { .. })
    }

    const fn tag(&self) -> u8 {
        match self {
            Self::Join { .. } => 1,
            Self::Acknowledge { .. } => 2,
            Self::Leave { .. } => 3,
            Self::Expire { .. } => 4,
            Self::Resolve { .. } => 5,
            Self::Commit { .. } => 6,
            Self::Seek { .. } => 7,
            Self::Delete { .. } => 8,
            Self::DeleteOffsets { .. } => 9,
        }
    }
}

fn write_body(writer: &mut Writer, command: &Command) {
    match command {
        Command::Join { group: _, join, topics } => {
            write_join(writer, join);
            write_topics(writer, topics);
        }
        Command::Acknowledge { group: _, member, holdings } => {
            writer.text(member.as_str());
            writer.list(holdings.iter(), write_partition);
        }
        Command::Leave { group: _, member } => writer.text(member.as_str()),
        Command::Expire { group: _, member, revision } => {
            writer.text(member.as_str());
            writer.u64(*revision);
        }
        Command::Resolve { group: _, topics } => write_topics(writer, topics),
        Command::Commit { group: _, committer, offsets } => {
            writer.option(committer.as_ref(), |writer, committer| {
                writer.text(committer.member.as_str());
                writer.u32(committer.epoch);
            });
            writer.list(offsets.iter(), write_offset);
        }
        Command::Seek { group: _, token, offsets } => {
            writer.u128(*token);
            writer.list(offsets.iter(), write_offset);
        }
        Command::Delete { group: _ } => {}
        Command::DeleteOffsets { group: _, partitions } => {
            writer.list(partitions.iter(), write_partition);
        }
    }
}

fn read_command(reader: &mut Reader<'_>) -> Result<Command, DecodeError> {
    let tag = reader.u8()?;
    let group: GroupName = reader.parse()?;
    Ok(match tag {
        1 => Command::Join { group, join: read_join(reader)?, topics: read_topics(reader)? },
        2 => Command::Acknowledge {
            group,
            member: reader.parse()?,
            holdings: read_partitions(reader)?,
        },
        3 => Command::Leave { group, member: reader.parse()? },
        4 => Command::Expire { group, member: reader.parse()?, revision: reader.u64()? },
        5 => Command::Resolve { group, topics: read_topics(reader)? },
        6 => Command::Commit {
            group,
            committer: reader
                .option(|reader| Ok(Committer { member: reader.parse()?, epoch: reader.u32()? }))?,
            offsets: reader.list(read_offset)?,
        },
        7 => Command::Seek { group, token: reader.u128()?, offsets: reader.list(read_offset)? },
        8 => Command::Delete { group },
        9 => Command::DeleteOffsets { group, partitions: read_partitions(reader)? },
        _ => return Err(reader.malformed()),
    })
}

fn write_join(writer: &mut Writer, join: &Join) {
    writer.text(join.member.as_str());
    writer.option(join.instance.as_ref().map(InstanceId::as_str), Writer::text);
    writer.text(&join.client_id);
    write_subscription(writer, &join.subscription);
    write_timeout(writer, join.session_timeout);
    write_timeout(writer, join.rebalance_timeout);
}

fn read_join(reader: &mut Reader<'_>) -> Result<Join, DecodeError> {
    Ok(Join {
        member: reader.parse()?,
        instance: reader.option(Reader::parse)?,
        client_id: reader.text()?,
        subscription: read_subscription(reader)?,
        session_timeout: read_timeout(reader)?,
        rebalance_timeout: read_timeout(reader)?,
    })
}

fn write_offset(writer: &mut Writer, change: &OffsetChange) {
    writer.u128(change.topic.0);
    writer.text(change.name.as_str());
    writer.u32(change.partition.0);
    writer.u64(change.offset.0);
    writer.option(change.leader_epoch, Writer::i32);
    writer.text(&change.metadata);
}

fn read_offset(reader: &mut Reader<'_>) -> Result<OffsetChange, DecodeError> {
    Ok(OffsetChange {
        topic: TopicId(reader.u128()?),
        name: reader.parse()?,
        partition: PartitionId(reader.u32()?),
        offset: Offset(reader.u64()?),
        leader_epoch: reader.option(Reader::i32)?,
        metadata: reader.text()?,
    })
}
