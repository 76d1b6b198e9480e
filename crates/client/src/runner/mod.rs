//! The runner: a consumer that calls a handler, and takes care of what goes wrong.
//!
//! ```text
//! consumer ─> dispatcher ─> lane per key ─> attempts ─> handler
//!    ^                                         │ └─> breaker: one tries, the others wait
//!    └──────────────── mark <──────────────────┴───> dead letter
//! ```

mod attempts;
mod breaker;
mod builder;
mod dead_letter;
mod dispatch;
mod error;
mod flight;
mod handler;
mod stats;
mod work;

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use attempts::Retry;
pub use builder::RunnerBuilder;
pub use dead_letter::{
    DEAD_LETTER_ATTEMPTS, DEAD_LETTER_ERROR, DEAD_LETTER_FIRST_FAILURE, DEAD_LETTER_OFFSET,
    DEAD_LETTER_PARTITION, DEAD_LETTER_TOPIC, DeadLetters,
};
pub use error::RunError;
pub use handler::{BatchHandler, Handler, HandlerError, HandlerErrorKind};
pub use stats::RunnerStats;

use work::Shared;

/// Calls a handler for each record of topics, as a member of a group.
///
/// Records of one key are handled one after the other, in the order of their offsets; different keys
/// side by side. A record counts as done when its handler is, or when it was put aside; only then is it
/// committed. It may come again, after a crash or when its partition moves.
///
/// - A call that fails with [`HandlerErrorKind::Transient`] is made again after growing pauses; in the
///   end the record goes to a dead-letter topic, with headers that say where it comes from and why.
/// - With [`HandlerErrorKind::Poison`] it goes there at once, and so it does when the handler panics.
/// - With [`HandlerErrorKind::Unavailable`] the whole runner pauses: one record tries again, with
///   growing pauses, until what was down is back.
///
/// ```no_run
/// # async fn example(client: tidelog_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use tidelog_client::{HandlerError, ReadRecord, StartPolicy};
///
/// async fn handle(record: ReadRecord) -> Result<(), HandlerError> {
///     println!("{:?}", record.value);
///     Ok(())
/// }
///
/// let runner = client.run("billing", ["orders"], handle).start(StartPolicy::Earliest);
/// let runner = runner.build().await?;
/// // Until it is time to go.
/// let stats = runner.stop().await?;
/// println!("{} records handled", stats.handled);
/// # Ok(())
/// # }
/// ```
///
/// Dropped it stops in the background, as [`Runner::stop`] does.
pub struct Runner {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), RunError>>,
    shared: Arc<Shared>,
}

impl Runner {
    /// Takes no more records, waits for calls in progress, commits what is done and leaves the group.
    ///
    /// Cancel safe: all of that is done in the background anyway.
    ///
    /// # Errors
    /// Why the runner had stopped already, or what went wrong now.
    pub async fn stop(self) -> Result<RunnerStats, RunError> {
        self.stop.send_replace(true);
        self.wait().await
    }

    /// Waits until the runner stops by itself: by [`RunnerBuilder::until`], or since it cannot go on.
    ///
    /// Dropped before it is done it stops the runner, in the background.
    ///
    /// # Errors
    /// Why the runner cannot go on.
    pub async fn wait(self) -> Result<RunnerStats, RunError> {
        self.task.await.unwrap_or(Err(RunError::Lost))?;
        Ok(self.shared.rules.tally.stats())
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> RunnerStats {
        self.shared.rules.tally.stats()
    }

    /// Whether a dependency is down, so that no records are handled.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.shared.rules.breaker.is_open()
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
