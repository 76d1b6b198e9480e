//! SIGINT and SIGTERM.

use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::Failure;

/// What a process exits with when it is interrupted twice: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;

/// Tells that the user wants the command to end.
///
/// The first signal asks for an orderly end, the second ends the process on the spot.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    asked: watch::Receiver<bool>,
}

impl Interrupt {
    /// Listens from now on. Wants a runtime.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::because("listen for signals", &error));
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let (ask, asked) = watch::channel(false);
        tokio::spawn(async move {
            next(&mut interrupt, &mut terminate).await;
            ask.send_replace(true);
            next(&mut interrupt, &mut terminate).await;
            process::exit(INTERRUPTED);
        });
        Ok(Self { asked })
    }

    /// Waits for the first signal. Cancel safe.
    pub(crate) async fn asked(&mut self) {
        // The sender lives in a task that never ends, so an error means that the runtime stops.
        let _ = self.asked.wait_for(|asked| *asked).await;
    }

    /// Whether the first signal has come.
    pub(crate) fn was_asked(&self) -> bool {
        *self.asked.borrow()
    }
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
