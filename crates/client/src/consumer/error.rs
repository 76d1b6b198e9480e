//! Why a consumer cannot go on, or could not commit.

use std::time::Duration;

use thiserror::Error as ThisError;
use tidelog_types::{ErrorCode, GroupName, Kind, TopicPartition};

use crate::{Error, ReadError};

/// Why records do not come.
///
/// After an error that [`ConsumeError::is_retriable`] the consumer goes on by itself. After one that
/// [`ConsumeError::is_fatal`] it is of no more use. After any other, one partition stands still until
/// it is sought to another place.
#[derive(Clone, Debug, ThisError)]
#[non_exhaustive]
pub enum ConsumeError {
    /// A partition cannot be read.
    #[error(transparent)]
    Partition(#[from] ReadError),
    /// Nothing is committed for a partition, and the start policy says that this is an error.
    #[error("group {group} has committed nothing for {partition}")]
    NoOffset {
        /// The group.
        group: GroupName,
        /// The partition.
        partition: TopicPartition,
    },
    /// The place to begin at could not be found, or not be committed.
    #[error("cannot tell where to begin with {partition}")]
    Start {
        /// The partition.
        partition: TopicPartition,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// The group cannot be reached, or refuses the consumer.
    #[error("group {group} is not available")]
    Group {
        /// The group.
        group: GroupName,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// Records were handed out, and none was marked for too long: the consumer left the group. It joins
    /// again when the next record is asked for.
    #[error("no record was marked for {} ms", .after.as_millis())]
    ProcessingDeadline {
        /// The deadline.
        after: Duration,
    },
}

impl ConsumeError {
    /// What a caller can do.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Partition(error) => error.kind(),
            Self::NoOffset { .. } => Kind::Invalid,
            Self::Start { source, .. } => source.kind(),
            Self::Group { source, .. } if source.is_retriable() => Kind::Retry,
            Self::Group { .. } => Kind::Fatal,
            Self::ProcessingDeadline { .. } => Kind::Retry,
        }
    }

    /// Whether the consumer goes on by itself.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(self.kind(), Kind::Retry | Kind::Redirect)
    }

    /// Whether the consumer is of no more use.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Group { .. }) && !self.is_retriable()
    }

    /// Whether something was written all the same: never, since receiving writes nothing.
    #[must_use]
    pub fn maybe_written(&self) -> bool {
        false
    }

    /// The partition that stands still, if it is one.
    #[must_use]
    pub fn partition(&self) -> Option<&TopicPartition> {
        match self {
            Self::Partition(error) => Some(error.partition()),
            Self::NoOffset { partition, .. } | Self::Start { partition, .. } => Some(partition),
            _ => None,
        }
    }

    /// The broker's error code, if a broker's answer was the reason.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Start { source, .. } | Self::Group { source, .. } => source.code(),
            _ => None,
        }
    }
}

/// Why an offset was not committed, or is not known to be. Of several the first; the others were tried
/// all the same.
#[derive(Clone, Debug, ThisError)]
#[non_exhaustive]
pub enum CommitError {
    /// The consumer does not hold the partition, or no more in the way it did: somebody else has it, or
    /// will read it again.
    #[error("{partition} is not held any more")]
    NotHeld {
        /// The partition.
        partition: TopicPartition,
        /// Whether it may be committed all the same, by a try whose answer was lost.
        maybe_written: bool,
    },
    /// The coordinator refused the offset.
    #[error("the offset of {partition} was refused")]
    Refused {
        /// The partition.
        partition: TopicPartition,
        /// Whether it may be committed all the same, by a try whose answer was lost.
        maybe_written: bool,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// No answer came in time. The offset may be committed or not.
    #[error("the offset of {partition} was not committed within {} ms", .after.as_millis())]
    TimedOut {
        /// The partition.
        partition: TopicPartition,
        /// How long it was tried.
        after: Duration,
        /// The last thing that went wrong.
        #[source]
        source: Option<Box<Error>>,
    },
    /// The group could not be left; the session timeout ends the membership.
    #[error("the group could not be left")]
    Leave(#[source] Box<Error>),
}

impl CommitError {
    /// What a caller can do.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotHeld { .. } => Kind::Invalid,
            Self::Refused { source, .. } => source.kind(),
            Self::TimedOut { .. } | Self::Leave(_) => Kind::Retry,
        }
    }

    /// Whether the same commit may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(self.kind(), Kind::Retry | Kind::Redirect)
    }

    /// Whether the consumer is of no more use. A commit never says so; the next record does.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.kind() == Kind::Fatal
    }

    /// Whether the offset may be committed all the same.
    #[must_use]
    pub fn maybe_written(&self) -> bool {
        match self {
            Self::NotHeld { maybe_written, .. } | Self::Refused { maybe_written, .. } => {
                *maybe_written
            }
            Self::TimedOut { .. } => true,
            Self::Leave(_) => false,
        }
    }

    /// The broker's error code, if a broker's answer was the reason.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { source, .. } | Self::Leave(source) => source.code(),
            Self::TimedOut { source, .. } => source.as_ref()?.code(),
            Self::NotHeld { .. } => None,
        }
    }
}
