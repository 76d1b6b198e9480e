//! What can go wrong with a log.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tidelog_types::{GroupId, LogIndex, Offset, Term};

use crate::room::Failure;

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again: the log moved meanwhile, or there was no room.
    Retry,
    /// The request is wrong; the log is well.
    Invalid,
    /// Bytes on disk are not what was written: quarantine the replica.
    Corrupt,
    /// The log stands still for good: step out.
    Fatal,
}

/// Why a log refused, or failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No record is retained at this offset.
    #[error("offset {offset} is out of range {log_start}..{written_end}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The first offset that is retained.
        log_start: Offset,
        /// The first offset that is not written.
        written_end: Offset,
    },
    /// The entry was purged.
    #[error("entry {index} was purged, the log begins at {first}")]
    Purged {
        /// What was asked for.
        index: LogIndex,
        /// The first entry that is retained.
        first: LogIndex,
    },
    /// The entry was truncated, or its segment dropped, between the look-up and the read.
    #[error("entry {index} is gone")]
    Gone {
        /// The entry.
        index: LogIndex,
    },
    /// An entry that does not follow the log's last one.
    #[error("entry {term}/{index} does not follow {last_term}/{last_index}")]
    NotConsecutive {
        /// The term of the entry.
        term: Term,
        /// The index of the entry.
        index: LogIndex,
        /// The term of the log's last entry, or 0.
        last_term: Term,
        /// The index of the log's last entry; the one before its first when it is empty.
        last_index: i128,
    },
    /// A body that is not what its kind demands.
    #[error("entry {index} has a malformed body: {reason}")]
    BadBody {
        /// The entry.
        index: LogIndex,
        /// What is wrong.
        reason: String,
    },
    /// The chain value of an entry is not the leader's: one of the two logs is corrupt.
    #[error("entry {index} has chain {chain:08x} here, {expected:08x} at the leader")]
    ChainMismatch {
        /// The entry.
        index: LogIndex,
        /// What we derive.
        chain: u32,
        /// What the leader sent.
        expected: u32,
    },
    /// Bytes on disk that are not what was written.
    #[error("{} is corrupt at byte {position}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong.
        reason: String,
    },
    /// An earlier write or fsync failed. Nothing is retried, ever: the state of the pages is unknown.
    #[error("the log is poisoned by an earlier failure")]
    Poisoned {
        /// The first failure.
        source: Arc<io::Error>,
    },
    /// The disk is full. The log is as it was, and the same can be tried again.
    #[error("there is no room left on the disk")]
    Full,
    /// A start point or a truncation that does not fit the log.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// Reading failed, or an operation on the directory.
    #[error("{action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl Error {
    /// What the caller can do.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Gone { .. } | Self::Full => ErrorKind::Retry,
            Self::OutOfRange { .. }
            | Self::Purged { .. }
            | Self::NotConsecutive { .. }
            | Self::BadBody { .. }
            | Self::Refused { .. } => ErrorKind::Invalid,
            Self::ChainMismatch { .. } | Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Poisoned { .. } | Self::Io { .. } => ErrorKind::Fatal,
        }
    }

    /// What the disk, or the thread that asks it, said when it was to do `action` with `path`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source: Arc::new(source) }
    }
}

/// Why a log, or the votes, could not be opened or created.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Bytes that were durable are damaged or missing: quarantine, never truncate.
    #[error("{} is corrupt at byte {position}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// The first entry that is damaged or missing, where known.
        index: Option<LogIndex>,
        /// What is wrong.
        reason: String,
    },
    /// Written by a newer version.
    #[error(
        "{} has format {format}, this version reads up to {supported}: start a newer version",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// The newest format that we read.
        supported: u32,
    },
    /// The directory, or its vote record, is not there: a lost replica.
    #[error("log of {group} is missing: {reason}")]
    Missing {
        /// The group.
        group: GroupId,
        /// Which half is missing.
        reason: &'static str,
    },
    /// Damage was cut off, and what the log once held behind it is not back yet.
    #[error("log of {group} lacks what it held behind damage, and is not repaired yet")]
    Unfinished {
        /// The group.
        group: GroupId,
    },
    /// There is a log, or a vote record, already.
    #[error("log of {group} exists already")]
    Exists {
        /// The group.
        group: GroupId,
    },
    /// The votes are another node's: a swapped disk.
    #[error("{} belongs to node {found}, this is node {expected}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The node that wrote it.
        found: tidelog_types::NodeId,
        /// Who we are.
        expected: tidelog_types::NodeId,
    },
    /// The disk is full. The same can be tried again.
    #[error("{action} {}: there is no room left on the disk", path.display())]
    Full {
        /// What was being done.
        action: &'static str,
        /// On which file.
        path: PathBuf,
    },
    /// The system refused something.
    #[error("{action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    /// What a failed write comes to.
    pub(crate) fn failed(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(Failure) -> Self {
        let path = path.into();
        move |failure| match failure {
            Failure::Full(_) => Self::Full { action, path },
            Failure::Final(source) => Self::Io { action, path, source },
        }
    }

    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
