//! Flushes that take simulated time: what is on its way to the disk when a process dies is lost.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidelog_log::flusher::{FlushJob, Flusher};
use tokio::runtime::Handle;

use crate::dice::Dice;

/// The flusher of one broker, over all its lives.
pub(crate) struct SimFlusher {
    dice: Mutex<Dice>,
    usual_ms_max: u64,
    slow_ms: AtomicU64,
}

impl fmt::Debug for SimFlusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFlusher").finish_non_exhaustive()
    }
}

impl SimFlusher {
    /// Flushes take up to `usual_ms_max`.
    pub(crate) fn new(dice: Dice, usual_ms_max: u64) -> Arc<Self> {
        Arc::new(Self { dice: Mutex::new(dice), usual_ms_max, slow_ms: AtomicU64::new(0) })
    }

    /// From now on each flush takes up to this much longer, each another time, so that of two files the
    /// one that was submitted later may be the sooner.
    pub(crate) fn slow(&self, by: Duration) {
        self.slow_ms.store(by.as_millis() as u64, Ordering::Relaxed);
    }

    fn delay(&self) -> Duration {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        let slow_ms = self.slow_ms.load(Ordering::Relaxed);
        dice.ms(0..self.usual_ms_max + 1) + dice.ms(0..slow_ms + 1)
    }
}

impl Flusher for SimFlusher {
    fn submit(&self, job: Arc<dyn FlushJob>) {
        // Without a runtime the process is being torn down: its flushes die with it.
        let Ok(runtime) = Handle::try_current() else { return };
        let delay = self.delay();
        runtime.spawn(async move {
            tokio::time::sleep(delay).await;
            job.flush();
        });
    }
}
