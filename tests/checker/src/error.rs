//! Why a history could not be judged. A broken promise is no error but a verdict.

use std::io;

/// What is wrong with a history.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It could not be read to its end.
    #[error("{source_name}: cannot be read")]
    Read {
        /// Name of the file.
        source_name: String,
        /// Why not.
        source: io::Error,
    },
    /// A line is no event.
    #[error("{source_name}:{line}: not an event")]
    NotAnEvent {
        /// Name of the file.
        source_name: String,
        /// Number of the line, from 1.
        line: u32,
        /// Why not.
        source: serde_json::Error,
    },
    /// A line is an event that cannot have happened.
    #[error("{source_name}:{line}: {what}")]
    Impossible {
        /// Name of the file.
        source_name: String,
        /// Number of the line, from 1.
        line: u32,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There is nothing to judge, and that proves nothing.
    #[error("the history has no events")]
    Empty,
}
