//! Why a call of the client failed.

use std::error::Error as _;
use std::fmt::Write as _;
use std::time::Duration;

use thiserror::Error;
use tidelog_proto::v1;
use tidelog_types::{ErrorCode, InvalidTopicName, Kind, PartitionId, TopicName, TopicPartition};
use tonic::Status;

/// Why a call of the client failed. Producer and reader have errors of their own around it.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// No broker answered, of all that the client knows.
    #[error("no broker answered: {}", listed(.tried))]
    Unreachable {
        /// The addresses in the order of their failures.
        tried: Vec<Attempt>,
    },
    /// One broker could not be reached, or broke off.
    #[error("broker {address} is unavailable: {reason}")]
    Unavailable {
        /// Its address.
        address: String,
        /// What was observed.
        reason: String,
    },
    /// A broker did not answer in time.
    #[error("broker {address} gave no answer within {} ms", .after.as_millis())]
    TimedOut {
        /// Its address.
        address: String,
        /// How long the client waited.
        after: Duration,
    },
    /// A broker refused the request.
    #[error(transparent)]
    Refused(Box<BrokerError>),
    /// No such topic.
    #[error("topic {topic} does not exist")]
    UnknownTopic {
        /// The name.
        topic: TopicName,
    },
    /// The topic has no such partition.
    #[error("topic {topic} has {partitions} partitions, none of them is {partition}")]
    UnknownPartition {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// How many there are.
        partitions: u32,
    },
    /// The consumer does not hold the partition.
    #[error("{partition} is not assigned to this consumer")]
    NotAssigned {
        /// The partition.
        partition: TopicPartition,
    },
    /// A topic name breaks the rule.
    #[error(transparent)]
    InvalidTopic(#[from] InvalidTopicName),
    /// A setting is unknown, or its value not allowed.
    #[error("{key}={value:?}: {reason}")]
    Setting {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// The brokers belong to another cluster than was asked for.
    #[error("connected to cluster {found}, expected {expected}")]
    OtherCluster {
        /// The cluster asked for.
        expected: String,
        /// The cluster found.
        found: String,
    },
    /// The cluster has not formed yet.
    #[error("the cluster has not formed: {reason}")]
    NotFormed {
        /// Whom the broker waits for.
        reason: String,
    },
    /// A broker answered what no broker should.
    #[error("broker {address} answered what makes no sense: {reason}")]
    Protocol {
        /// Its address.
        address: String,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// What a caller can do.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unreachable { .. }
            | Self::Unavailable { .. }
            | Self::TimedOut { .. }
            | Self::NotFormed { .. } => Kind::Retry,
            Self::Refused(refusal) => refusal.kind(),
            Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::NotAssigned { .. }
            | Self::InvalidTopic(_)
            | Self::Setting { .. }
            | Self::OtherCluster { .. } => Kind::Invalid,
            Self::Protocol { .. } => Kind::Fatal,
        }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(self.kind(), Kind::Retry | Kind::Redirect)
    }

    /// Whether the component that failed is of no more use.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.kind() == Kind::Fatal
    }

    /// Whether what was asked for may have been done all the same, or may yet be: no answer came, or
    /// a broker says so.
    #[must_use]
    pub fn maybe_written(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Unavailable { .. } | Self::TimedOut { .. } => true,
            Self::Refused(refusal) => refusal.maybe_written,
            _ => false,
        }
    }

    /// The broker's error code, if a broker refused with one that this version knows.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(refusal) => refusal.code,
            Self::UnknownTopic { .. } | Self::UnknownPartition { .. } => {
                Some(ErrorCode::UnknownTopicOrPartition)
            }
            Self::NotFormed { .. } => Some(ErrorCode::ClusterNotFormed),
            _ => None,
        }
    }

    /// The error of a call or stream that ended with `status`.
    pub(crate) fn from_status(address: &str, status: &Status) -> Self {
        match v1::Error::from_status(status) {
            Some(error) => BrokerError::new(address, error).into(),
            None => Self::Unavailable { address: address.to_owned(), reason: reason(status) },
        }
    }

    pub(crate) fn protocol(address: &str, reason: impl Into<String>) -> Self {
        Self::Protocol { address: address.to_owned(), reason: reason.into() }
    }
}

impl From<BrokerError> for Error {
    fn from(refusal: BrokerError) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// A broker that was tried in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Its address.
    pub address: String,
    /// Why it did not answer.
    pub reason: String,
}

impl Attempt {
    pub(crate) fn new(address: &str, error: &Error) -> Self {
        let reason = match error {
            Error::Unavailable { reason, .. } => reason.clone(),
            Error::TimedOut { after, .. } => format!("no answer within {} ms", after.as_millis()),
            error => error.to_string(),
        };
        Self { address: address.to_owned(), reason }
    }
}

/// What a broker refused.
#[derive(Clone, Debug, Error)]
#[error("{name}: {message} (broker {address})")]
#[non_exhaustive]
pub struct BrokerError {
    /// The broker's address.
    pub address: String,
    /// The code; `None` when this version does not know it.
    pub code: Option<ErrorCode>,
    /// The name of the code.
    pub name: String,
    /// What the broker says.
    pub message: String,
    /// Whether the same request may succeed later, or elsewhere.
    pub retriable: bool,
    /// Whether what was asked for may have been done all the same.
    pub maybe_written: bool,
    pub(crate) leader: Option<v1::LeaderHint>,
    pub(crate) retry_after: Option<Duration>,
}

impl BrokerError {
    pub(crate) fn new(address: &str, error: v1::Error) -> Self {
        Self {
            address: address.to_owned(),
            code: error.error_code().ok(),
            retry_after: error.retry_after(),
            name: error.name,
            message: error.message,
            retriable: error.retriable,
            maybe_written: error.maybe_written,
            leader: error.leader,
        }
    }

    /// What a caller can do.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.code {
            Some(code) => code.kind(),
            None if self.retriable => Kind::Retry,
            None => Kind::Invalid,
        }
    }
}

/// The innermost cause says most: "connection refused" rather than "transport error".
fn reason(status: &Status) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = status.source();
    let mut innermost = None;
    while let Some(error) = cause {
        innermost = Some(error.to_string());
        cause = error.source();
    }
    match innermost {
        Some(innermost) => innermost,
        None if status.message().is_empty() => status.code().description().to_owned(),
        None => status.message().to_owned(),
    }
}

fn listed(tried: &[Attempt]) -> String {
    let mut text = String::new();
    for Attempt { address, reason } in tried {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{address} ({reason})");
    }
    text
}
