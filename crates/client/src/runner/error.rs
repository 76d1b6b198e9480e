//! Why a runner stopped.

use thiserror::Error as ThisError;
use tidelog_types::{Kind, Offset, PartitionId, TopicName};

use crate::{CommitError, ConsumeError, Error, ProduceError};

/// Why a runner stopped. What was handled by then is committed, as far as that went.
#[derive(Clone, Debug, ThisError)]
#[non_exhaustive]
pub enum RunError {
    /// It could not start.
    #[error(transparent)]
    Client(#[from] Error),
    /// Records cannot be received.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    /// The last commit failed: some of what was handled comes again.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A record cannot be handled, and there is no place to put it aside.
    #[error("cannot handle {topic}/{partition} at offset {offset}: {reason}")]
    Dead {
        /// Its topic.
        topic: TopicName,
        /// Its partition.
        partition: PartitionId,
        /// Its offset.
        offset: Offset,
        /// What the handler said.
        reason: String,
    },
    /// A record that cannot be handled could not be put aside.
    #[error("cannot write to {topic}")]
    DeadLetter {
        /// The dead-letter topic.
        topic: TopicName,
        /// Why.
        #[source]
        source: ProduceError,
    },
    /// The runner itself failed.
    #[error("the runner ended without a word")]
    Lost,
}

impl RunError {
    /// What a caller can do.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Client(error) => error.kind(),
            Self::Consume(error) => error.kind(),
            Self::Commit(error) => error.kind(),
            Self::Dead { .. } => Kind::Invalid,
            Self::DeadLetter { source, .. } => source.kind(),
            Self::Lost => Kind::Fatal,
        }
    }

    /// Whether another runner may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(self.kind(), Kind::Retry | Kind::Redirect)
    }

    /// Whether the runner is of no more use: it has stopped, so it always is.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        true
    }

    /// Whether something was written all the same: a dead letter, or an offset.
    #[must_use]
    pub fn maybe_written(&self) -> bool {
        match self {
            Self::Commit(error) => error.maybe_written(),
            Self::DeadLetter { source, .. } => source.maybe_written(),
            _ => false,
        }
    }
}
