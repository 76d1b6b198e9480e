//! What a command came to, and its bytes: the broker that took a request gets them from the leader.
//!
//! ```text
//! version u8 = 1 | tag u8 | body
//!   0 refused: code i32, message text          5 deleted
//!   1 formed: cluster u128                     6 configs set
//!   2 registered: incarnation u32              7 reported: accepted u32
//!   3 incarnation: incarnation u32             8 producer ids: first i64, count u32
//!   4 created: topic u128, partitions u32, replication_factor u32
//!   9 partitions added: partitions u32         10 partitions move: changed u32
//!   11 broker drains: replicas u32             12 broker removed
//!   13 feature level: level u32                14 joined: node u64
//! ```

use std::fmt;

use tidelog_types::{ErrorCode, FeatureLevel, Incarnation, NodeId, ProducerId, TopicId};

use super::ClusterId;
use crate::DecodeError;
use crate::codec::{Reader, Writer};

const VERSION: u8 = 1;

/// What an accepted command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The cluster formed, now or when the same command was applied before.
    Formed {
        /// Its id.
        cluster: ClusterId,
    },
    /// The broker is registered.
    Registered {
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// The broker has a new incarnation.
    Incarnation {
        /// The incarnation to write into its data directory.
        incarnation: Incarnation,
    },
    /// The broker has an id of its own.
    Joined {
        /// Who it is from now on.
        node: NodeId,
    },
    /// The topic exists.
    TopicCreated {
        /// Its id.
        topic: TopicId,
        /// How many partitions it has.
        partitions: u32,
        /// How many replicas each has.
        replication_factor: u32,
    },
    /// The topic is deleted; its name is free.
    TopicDeleted,
    /// The configs are set.
    ConfigsSet,
    /// Reports were taken; those about unknown, deleted or newer things were not.
    Reported {
        /// How many changed something.
        accepted: u32,
    },
    /// The topic has its partitions.
    PartitionsAdded {
        /// How many it has.
        partitions: u32,
    },
    /// The partitions are to move, or are where they should be.
    PartitionsMove {
        /// How many are told something new.
        changed: u32,
    },
    /// The broker is being drained, or no more.
    BrokerDrains {
        /// Partitions that have a replica there.
        replicas: u32,
    },
    /// The broker is no part of the cluster any more.
    BrokerRemoved,
    /// The cluster has this feature level, now or since the same command was applied before.
    FeatureLevel {
        /// The level.
        level: FeatureLevel,
    },
    /// Producer ids that nobody else gets.
    ProducerIds {
        /// The first.
        first: ProducerId,
        /// How many, with this one.
        count: u32,
    },
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What a client's code looks at.
    pub code: ErrorCode,
    /// What a person reads: one line that says what is allowed.
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}

/// What the proposer of a command gets.
pub type Reply = Result<Outcome, Refusal>;

/// The reply's bytes.
#[must_use]
pub fn encode_reply(reply: &Reply) -> Vec<u8> {
    let mut writer = Writer::new(VERSION);
    match reply {
        Err(Refusal { code, message }) => {
            writer.u8(0);
            writer.i32(code.number());
            writer.text(message);
        }
        Ok(outcome) => write_outcome(&mut writer, outcome),
    }
    writer.finish()
}

/// The inverse of [`encode_reply`]. A code that this build does not know becomes
/// `UNKNOWN_SERVER_ERROR` with the same message.
///
/// # Errors
/// When a newer version wrote the bytes, or they are not a reply.
pub fn decode_reply(bytes: &[u8]) -> Result<Reply, DecodeError> {
    let mut reader = Reader::new("metadata reply", VERSION, bytes)?;
    let reply = match reader.u8()? {
        0 => {
            let code = ErrorCode::from_number(reader.i32()?);
            let code = code.unwrap_or(ErrorCode::UnknownServerError);
            Err(Refusal { code, message: reader.text()? })
        }
        1 => Ok(Outcome::Formed { cluster: ClusterId(reader.u128()?) }),
        2 => Ok(Outcome::Registered { incarnation: Incarnation(reader.u32()?) }),
        3 => Ok(Outcome::Incarnation { incarnation: Incarnation(reader.u32()?) }),
        4 => Ok(Outcome::TopicCreated {
            topic: TopicId(reader.u128()?),
            partitions: reader.u32()?,
            replication_factor: reader.u32()?,
        }),
        5 => Ok(Outcome::TopicDeleted),
        6 => Ok(Outcome::ConfigsSet),
        7 => Ok(Outcome::Reported { accepted: reader.u32()? }),
        8 => Ok(Outcome::ProducerIds { first: ProducerId(reader.i64()?), count: reader.u32()? }),
        9 => Ok(Outcome::PartitionsAdded { partitions: reader.u32()? }),
        10 => Ok(Outcome::PartitionsMove { changed: reader.u32()? }),
        11 => Ok(Outcome::BrokerDrains { replicas: reader.u32()? }),
        12 => Ok(Outcome::BrokerRemoved),
        13 => Ok(Outcome::FeatureLevel { level: FeatureLevel(reader.u32()?) }),
        14 => Ok(Outcome::Joined { node: NodeId::from_u64(reader.u64()?) }),
        _ => return Err(reader.malformed()),
    };
    reader.finish()?;
    Ok(reply)
}

fn write_outcome(writer: &mut Writer, outcome: &Outcome) {
    match outcome {
        Outcome::Formed { cluster } => {
            writer.u8(1);
            writer.u128(cluster.0);
        }
        Outcome::Registered { incarnation } => {
            writer.u8(2);
            writer.u32(incarnation.0);
        }
        Outcome::Incarnation { incarnation } => {
            writer.u8(3);
            writer.u32(incarnation.0);
        }
        Outcome::TopicCreated { topic, partitions, replication_factor } => {
            writer.u8(4);
            writer.u128(topic.0);
            writer.u32(*partitions);
            writer.u32(*replication_factor);
        }
        Outcome::TopicDeleted => writer.u8(5),
        Outcome::ConfigsSet => writer.u8(6),
        Outcome::Reported { accepted } => {
            writer.u8(7);
            writer.u32(*accepted);
        }
        Outcome::ProducerIds { first, count } => {
            writer.u8(8);
            writer.i64(first.0);
            writer.u32(*count);
        }
        Outcome::PartitionsAdded { partitions } => {
            writer.u8(9);
            writer.u32(*partitions);
        }
        Outcome::PartitionsMove { changed } => {
            writer.u8(10);
            writer.u32(*changed);
        }
        Outcome::BrokerDrains { replicas } => {
            writer.u8(11);
            writer.u32(*replicas);
        }
        Outcome::BrokerRemoved => writer.u8(12),
        Outcome::FeatureLevel { level } => {
            writer.u8(13);
            writer.u32(level.0);
        }
        Outcome::Joined { node } => {
            writer.u8(14);
            writer.u64(node.to_u64());
        }
    }
}
