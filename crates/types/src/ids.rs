//! Ids of brokers, replicas, topics, groups and producers.

use std::fmt;
use std::str::FromStr;

/// A broker's number, chosen by the operator and unique in the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerId(pub u32);

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which life of a broker: raised by the metadata group when a broker comes back with an empty disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u32);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A Raft node: one incarnation of a broker.
///
/// Raft must never meet a voter that forgot its vote, so a wiped broker is another node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// The broker.
    pub broker: BrokerId,
    /// Its incarnation.
    pub incarnation: Incarnation,
}

impl NodeId {
    /// The node of `broker` in `incarnation`.
    #[must_use]
    pub const fn new(broker: u32, incarnation: u32) -> Self {
        Self { broker: BrokerId(broker), incarnation: Incarnation(incarnation) }
    }

    /// Broker in the high half, incarnation in the low half: the form on disk and on the wire.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        (self.broker.0 as u64) << 32 | self.incarnation.0 as u64
    }

    /// The inverse of [`NodeId::to_u64`].
    #[must_use]
    pub const fn from_u64(packed: u64) -> Self {
        Self::new((packed >> 32) as u32, packed as u32)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.broker, self.incarnation)
    }
}

/// The number of a partition in its topic, from zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u32);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A topic's UUID. A topic deleted and created again under its old name has another one.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u128);

impl TopicId {
    /// The internal topic whose partitions are the coordinators of consumer groups.
    pub const CONSUMER_GROUPS: Self = Self(1);

    /// Whether the topic is the cluster's own: its log holds commands, not records.
    #[must_use]
    pub const fn is_internal(self) -> bool {
        self.0 < 256
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            (b >> 96) as u32,
            (b >> 80) as u16,
            (b >> 64) as u16,
            (b >> 48) as u16,
            b & 0xffff_ffff_ffff,
        )
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TopicId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let hex: String = text.chars().filter(|c| *c != '-').collect();
        if hex.len() != 32 || text.len() != 36 {
            return Err(InvalidId);
        }
        u128::from_str_radix(&hex, 16).map(Self).map_err(|_| InvalidId)
    }
}

/// An id that is not written as ids are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidId;

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed id")
    }
}

impl std::error::Error for InvalidId {}

/// A Raft group: a partition of a topic, or one of the cluster's own groups.
///
/// The cluster's own groups live under reserved topic ids, which no UUID of version 4 can equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    /// The topic, or a reserved id.
    pub topic: TopicId,
    /// The partition, or the number of the internal group.
    pub partition: PartitionId,
}

impl GroupId {
    /// The metadata group.
    pub const METADATA: Self = Self { topic: TopicId(0), partition: PartitionId(0) };

    /// The group of a topic's partition.
    #[must_use]
    pub const fn new(topic: TopicId, partition: PartitionId) -> Self {
        Self { topic, partition }
    }

    /// The 20 bytes of this id on disk and on the wire: topic, then partition, both big endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(&self.topic.0.to_be_bytes());
        bytes[16..].copy_from_slice(&self.partition.0.to_be_bytes());
        bytes
    }

    /// The inverse of [`GroupId::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; 20]) -> Self {
        let mut topic = [0; 16];
        topic.copy_from_slice(&bytes[..16]);
        let mut partition = [0; 4];
        partition.copy_from_slice(&bytes[16..]);
        Self {
            topic: TopicId(u128::from_be_bytes(topic)),
            partition: PartitionId(u32::from_be_bytes(partition)),
        }
    }
}

impl fmt::Display for GroupId {
    /// `metadata`, or `<topic id>-<partition>`; also the name of the group's directory.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::METADATA {
            return f.write_str("metadata");
        }
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl FromStr for GroupId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text == "metadata" {
            return Ok(Self::METADATA);
        }
        let (topic, partition) = text.rsplit_once('-').ok_or(InvalidId)?;
        let partition = partition.parse().map_err(|_| InvalidId)?;
        Ok(Self::new(topic.parse()?, PartitionId(partition)))
    }
}

/// An idempotent producer's id, handed out by the metadata group; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

impl ProducerId {
    /// No producer id: the batch is not deduplicated.
    pub const NONE: Self = Self(-1);
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An idempotent producer's epoch: a higher one fences the lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerEpoch(pub i16);

impl ProducerEpoch {
    /// No epoch: stands beside [`ProducerId::NONE`].
    pub const NONE: Self = Self(-1);
}

impl fmt::Display for ProducerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for NodeId {
    /// As [`NodeId::from_u64`].
    fn from(packed: u64) -> Self {
        Self::from_u64(packed)
    }
}
