//! Why a demo could not be finished. A failed audit is no error but a result.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::local;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The processes of the cluster.
    #[error(transparent)]
    Local(#[from] local::Error),
    /// The cluster did not answer a client.
    #[error(transparent)]
    Client(#[from] tidelog_client::Error),
    /// A reader cannot go on.
    #[error(transparent)]
    Read(#[from] tidelog_client::ReadError),
    /// A producer cannot go on.
    #[error(transparent)]
    Produce(#[from] tidelog_client::ProduceError),
    /// A file or directory of the demo.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The topic did not come up or a leader did not come back in time.
    #[error("{what} within {seconds} s")]
    TimedOut {
        /// What was waited for, as in "orders/1 had no leader".
        what: String,
        /// How long.
        seconds: u64,
    },
    /// The process that reads everything back failed.
    #[error("the process that reads back ended with {0}")]
    ReadBack(ExitStatus),
    /// It answered something else than a verdict.
    #[error("the process that reads back gave no verdict")]
    Verdict(#[source] serde_json::Error),
}

impl Error {
    /// An [`Error::Io`] about `path`, for `map_err`.
    pub(super) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// A failure with an ack file; its message has the path when one is known.
    pub(super) fn acks(source: io::Error) -> Self {
        Self::Io { action: "write", path: PathBuf::from("the file of acks"), source }
    }
}
