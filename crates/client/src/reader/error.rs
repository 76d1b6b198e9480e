//! Why a partition cannot be read on.

use thiserror::Error;
use tidelog_types::batch::BatchError;
use tidelog_types::{Kind, Offset, TopicPartition};

use crate::Error;

/// Why a partition cannot be read on.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The offset to read next is not there: below the log start, by retention, or above the end.
    #[error("{partition} cannot be read from {}: {message}", at(.offset))]
    OffsetOutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The offset, if it is known already.
        offset: Option<Offset>,
        /// What the broker says.
        message: String,
    },
    /// Records are missing between two that were sent.
    #[error("{partition} goes on at offset {found}, expected {expected}")]
    Gap {
        /// The partition.
        partition: TopicPartition,
        /// The offset that should have come.
        expected: Offset,
        /// The offset that came.
        found: Offset,
    },
    /// A batch fails its checksum or is not laid out as a batch.
    #[error("{partition} is damaged at offset {offset} (broker {address})")]
    Corrupt {
        /// The partition.
        partition: TopicPartition,
        /// Where it should have been read.
        offset: Offset,
        /// The broker that sent the batch.
        address: String,
        /// What is wrong with it.
        #[source]
        source: BatchError,
    },
    /// No leader could be read from for too long.
    #[error("{partition} could not be read for {} s", .after.as_secs())]
    Unavailable {
        /// The partition.
        partition: TopicPartition,
        /// For how long.
        after: std::time::Duration,
        /// The last thing that went wrong.
        #[source]
        source: Box<Error>,
    },
    /// The broker refused, or the topic is gone.
    #[error("{partition} cannot be read")]
    Client {
        /// The partition.
        partition: TopicPartition,
        /// Why.
        #[source]
        source: Box<Error>,
    },
}

impl ReadError {
    /// The partition.
    #[must_use]
    pub fn partition(&self) -> &TopicPartition {
        match self {
            Self::OffsetOutOfRange { partition, .. }
            | Self::Gap { partition, .. }
            | Self::Corrupt { partition, .. }
            | Self::Unavailable { partition, .. }
            | Self::Client { partition, .. } => partition,
        }
    }

    /// What a caller can do.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::OffsetOutOfRange { .. } => Kind::Invalid,
            Self::Gap { .. } | Self::Corrupt { .. } => Kind::Corrupt,
            Self::Unavailable { .. } => Kind::Retry,
            Self::Client { source, .. } => source.kind(),
        }
    }

    /// Whether a new reader from the same position may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(self.kind(), Kind::Retry | Kind::Redirect)
    }

    /// Whether nothing helps.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self.kind(), Kind::Fatal | Kind::Corrupt)
    }
}

fn at(offset: &Option<Offset>) -> String {
    offset.map_or_else(|| "its start".to_owned(), |offset| format!("offset {offset}"))
}
