//! Why a record was not written, or is not known to be.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tidelog_types::batch::BatchError;
use tidelog_types::{ErrorCode, Kind};

use super::Record;
use crate::Error;

/// Why a record was not written, or is not known to be. Cheap to clone: all records of a batch share
/// one.
#[derive(Clone, Debug)]
pub struct ProduceError {
    facts: Arc<Facts>,
}

#[derive(Debug)]
struct Facts {
    reason: ProduceFailure,
    maybe_written: bool,
}

/// What went wrong.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ProduceFailure {
    /// The topic or partition does not exist, or the broker refused the batch.
    #[error(transparent)]
    Client(#[from] Error),
    /// The delivery timeout passed.
    #[error("not acknowledged within {} ms{}", .after.as_millis(), lately(.last))]
    TimedOut {
        /// The delivery timeout.
        after: Duration,
        /// The last thing that went wrong.
        last: Option<Box<Error>>,
    },
    /// No room came free in the buffer for so long.
    #[error("buffer was full for {} ms", .after.as_millis())]
    BufferFull {
        /// How long the record waited.
        after: Duration,
    },
    /// The record is larger than a record may be.
    #[error("record has {bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most that is allowed.
        bytes_max: usize,
    },
    /// The records could not be made a batch.
    #[error("cannot encode the batch")]
    Encode(#[source] BatchError),
    /// The partition no longer knows this producer, while the batch was under way.
    #[error("the partition lost track of the producer's sequence")]
    SequenceLost(#[source] Error),
    /// The batch was written long ago; at which offset is no longer known.
    #[error("written, but the offset is no longer known")]
    OffsetUnknown,
    /// The producer was closed or dropped.
    #[error("the producer is closed")]
    Closed,
}

impl ProduceError {
    pub(super) fn new(reason: impl Into<ProduceFailure>, maybe_written: bool) -> Self {
        Self { facts: Arc::new(Facts { reason: reason.into(), maybe_written }) }
    }

    /// What went wrong.
    #[must_use]
    pub fn failure(&self) -> &ProduceFailure {
        &self.facts.reason
    }

    /// Whether sending the record again may succeed. The producer has retried by itself: when this is
    /// so, and [`ProduceError::maybe_written`] is too, a second send may write the record twice.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match &self.facts.reason {
            ProduceFailure::Client(error) => error.is_retriable(),
            ProduceFailure::TimedOut { .. }
            | ProduceFailure::BufferFull { .. }
            | ProduceFailure::SequenceLost(_) => true,
            ProduceFailure::TooLarge { .. }
            | ProduceFailure::Encode(_)
            | ProduceFailure::OffsetUnknown
            | ProduceFailure::Closed => false,
        }
    }

    /// Whether the producer is of no more use.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match &self.facts.reason {
            ProduceFailure::Client(error) => error.is_fatal(),
            ProduceFailure::Closed => true,
            _ => false,
        }
    }

    /// Whether the record may be in the log, or may yet get there.
    #[must_use]
    pub fn maybe_written(&self) -> bool {
        self.facts.maybe_written
    }

    /// The broker's error code, if a broker's answer was the reason.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match &self.facts.reason {
            ProduceFailure::Client(error) | ProduceFailure::SequenceLost(error) => error.code(),
            ProduceFailure::Encode(error) => Some(error.error_code()),
            ProduceFailure::TooLarge { .. } => Some(ErrorCode::MessageTooLarge),
            _ => None,
        }
    }

    /// What a caller can do.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match (self.is_fatal(), self.is_retriable()) {
            (true, _) => Kind::Fatal,
            (false, true) => Kind::Retry,
            (false, false) => Kind::Invalid,
        }
    }
}

impl fmt::Display for ProduceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.facts.reason.fmt(f)?;
        if self.facts.maybe_written { f.write_str(" (maybe written)") } else { Ok(()) }
    }
}

impl std::error::Error for ProduceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.facts.reason)
    }
}

/// Why a record was not taken at once.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum TryEnqueueError {
    /// The buffer has no room; the record comes back.
    #[error("buffer is full")]
    Full(Box<Record>),
    /// Nothing is known yet of the record's topic; the record comes back. [`super::Producer::enqueue`]
    /// or [`super::Producer::warm_up`] learns of it.
    #[error("topic has not been looked up yet")]
    NotReady(Box<Record>),
    /// The record cannot be written.
    #[error(transparent)]
    Refused(#[from] ProduceError),
}

fn lately(last: &Option<Box<Error>>) -> String {
    last.as_ref().map_or_else(String::new, |error| format!(", last: {error}"))
}
