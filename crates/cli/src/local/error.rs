//! What can go wrong with processes on this machine.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// Why a local cluster cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file, directory or process is not accessible.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Every port tried is taken.
    #[error("found no {wanted} free ports on 127.0.0.1 between {from} and {to}")]
    NoPorts {
        /// How many were wanted.
        wanted: usize,
        /// The first port tried.
        from: u16,
        /// The port after the last tried.
        to: u16,
    },
    /// A signal could not be sent.
    #[error("cannot signal broker {broker}")]
    Signal {
        /// To whom.
        broker: u32,
        /// Why not.
        source: io::Error,
    },
    /// A broker ended although nobody asked it to, or failed while stopping.
    #[error("broker {broker} ended with {status}; {} ends with:\n{tail}", log.display())]
    Exited {
        /// Which.
        broker: u32,
        /// How.
        status: ExitStatus,
        /// Its log file.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// A broker did not do in time what was waited for.
    #[error("broker {broker} {missed} within {within:?}; its log is {}", log.display())]
    TimedOut {
        /// Which.
        broker: u32,
        /// What it did not do, as in "did not stop".
        missed: &'static str,
        /// The time it had.
        within: Duration,
        /// Its log file.
        log: PathBuf,
    },
    /// The broker answered a scrape with something else than metrics.
    #[error("broker {broker} gave no metrics")]
    Metrics {
        /// Which.
        broker: u32,
        /// Why not.
        source: io::Error,
    },
    /// A directory holds a cluster that this command would damage or cannot run.
    #[error("{} {problem}", dir.display())]
    Unfit {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
}

impl Error {
    /// An [`Error::Io`] about `path`, for `map_err`.
    pub(super) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
