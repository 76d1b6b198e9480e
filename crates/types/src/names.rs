//! Topic names, by Kafka's rule.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::PartitionId;

/// The name of the internal topic whose partitions are the coordinators of consumer groups.
pub const CONSUMER_GROUPS_TOPIC: &str = "__consumer_groups";

/// The longest topic name in bytes, as in Kafka.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// A topic's name: 1 to 249 of `[a-zA-Z0-9._-]`, neither `.` nor `..`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Checks `name` against the rule.
    ///
    /// # Errors
    /// [`InvalidTopicName`] says which part of the rule is broken.
    pub fn new(name: &str) -> Result<Self, InvalidTopicName> {
        if name.is_empty() {
            return Err(InvalidTopicName::Empty);
        }
        if name.len() > TOPIC_NAME_BYTES_MAX {
            return Err(InvalidTopicName::TooLong { bytes: name.len() });
        }
        if name == "." || name == ".." {
            return Err(InvalidTopicName::Dots);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(character) = name.chars().find(|c| !allowed(*c)) {
            return Err(InvalidTopicName::Character { character });
        }
        Ok(Self(Arc::from(name)))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for TopicName {
    type Err = InvalidTopicName;

    fn from_str(name: &str) -> Result<Self, InvalidTopicName> {
        Self::new(name)
    }
}

/// Why a topic name is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidTopicName {
    /// It has no character.
    Empty,
    /// It is longer than [`TOPIC_NAME_BYTES_MAX`].
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It is `.` or `..`.
    Dots,
    /// It holds a character outside `[a-zA-Z0-9._-]`.
    Character {
        /// The first such character.
        character: char,
    },
}

impl fmt::Display for InvalidTopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("topic name is empty"),
            Self::TooLong { bytes } => {
                write!(
                    f,
                    "topic name has {bytes} bytes, at most {TOPIC_NAME_BYTES_MAX} are allowed"
                )
            }
            Self::Dots => f.write_str("topic name is '.' or '..'"),
            Self::Character { character } => {
                write!(f, "topic name holds {character:?}, only a-z A-Z 0-9 . _ - are allowed")
            }
        }
    }
}

impl std::error::Error for InvalidTopicName {}

/// One partition of a topic, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionId,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rule() {
        let long = "x".repeat(250);
        let refused: [(&str, InvalidTopicName); 6] = [
            ("", InvalidTopicName::Empty),
            (".", InvalidTopicName::Dots),
            ("..", InvalidTopicName::Dots),
            ("a b", InvalidTopicName::Character { character: ' ' }),
            ("a/b", InvalidTopicName::Character { character: '/' }),
            (&long, InvalidTopicName::TooLong { bytes: 250 }),
        ];
        for (name, reason) in refused {
            assert_eq!(TopicName::new(name), Err(reason));
        }
        for name in ["orders", "a.b_c-D9", "...", &long[..249]] {
            assert!(TopicName::new(name).is_ok(), "{name}");
        }
    }
}
