//! A clock for what is due. The runtime's timers go by milliseconds and wake late by one: what is sent late
//! for that would count as the cluster's latency.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How far two ticks are apart, and so the heaps in which records are due: a tick per record would
/// measure the clock.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// The clock, as one listener hears it. It goes on as long as there is one.
#[derive(Clone, Debug)]
pub(super) struct Pace(watch::Receiver<Instant>);

impl Pace {
    /// Starts the clock on a thread of its own, with the first tick at `begun`.
    pub(super) fn start(begun: Instant) -> io::Result<Self> {
        let (ticks, pace) = watch::channel(begun);
        thread::Builder::new().name("pace".to_owned()).spawn(move || {
            let mut next = begun;
            while ticks.send(next).is_ok() {
                next += TICK;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        })?;
        Ok(Self(pace))
    }

    /// Completes with the tick at `due`, or the first one after it. Cancel safe.
    pub(super) async fn until(&mut self, due: Instant) {
        // The clock goes on as long as this listens.
        let _ = self.0.wait_for(|now| *now >= due).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_early() {
        let begun = Instant::now();
        let mut pace = Pace::start(begun).unwrap();
        for due in [begun, begun + TICK * 5, begun + TICK * 3, begun + TICK * 20] {
            pace.until(due).await;
            assert!(Instant::now() >= due);
        }
    }
}
