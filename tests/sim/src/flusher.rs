//! Flushes that take simulated time, or hang: what is on its way to the disk when a process dies is
//! lost.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidelog_log::flusher::{FlushJob, Flusher};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::dice::Dice;

/// The flusher of one broker, over all its lives.
pub(crate) struct SimFlusher {
    dice: Mutex<Dice>,
    usual_ms_max: u64,
    slow_ms: AtomicU64,
    /// Of so many flushes in a hundred nothing is heard while the disk hangs; zero when it does not.
    hangs_percent: watch::Sender<u64>,
}

impl fmt::Debug for SimFlusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFlusher").finish_non_exhaustive()
    }
}

impl SimFlusher {
    /// Flushes take up to `usual_ms_max`.
    pub(crate) fn new(dice: Dice, usual_ms_max: u64) -> Arc<Self> {
        let (dice, slow_ms) = (Mutex::new(dice), AtomicU64::new(0));
        Arc::new(Self { dice, usual_ms_max, slow_ms, hangs_percent: watch::Sender::new(0) })
    }

    /// From now on each flush takes up to this much longer, each another time, so that of two files the
    /// one that was submitted later may be the sooner.
    pub(crate) fn slow(&self, by: Duration) {
        self.slow_ms.store(by.as_millis() as u64, Ordering::Relaxed);
    }

    /// From now on `percent` of the flushes hang, until it is zero again. A file whose flush hangs is
    /// stuck, while others go on.
    pub(crate) fn hang(&self, percent: u64) {
        self.hangs_percent.send_replace(percent);
    }

    fn hangs(&self) -> bool {
        let percent = *self.hangs_percent.borrow();
        percent > 0 && self.dice().percent(percent)
    }

    fn dice(&self) -> MutexGuard<'_, Dice> {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delay(&self) -> Duration {
        let mut dice = self.dice();
        let slow_ms = self.slow_ms.load(Ordering::Relaxed);
        dice.ms(0..self.usual_ms_max + 1) + dice.ms(0..slow_ms + 1)
    }
}

impl Flusher for SimFlusher {
    fn submit(&self, job: Arc<dyn FlushJob>) {
        // Without a runtime the process is being torn down: its flushes die with it.
        let Ok(runtime) = Handle::try_current() else { return };
        let (delay, hangs) = (self.delay(), self.hangs());
        let mut hanging = self.hangs_percent.subscribe();
        runtime.spawn(async move {
            tokio::time::sleep(delay).await;
            // The sender lives as long as the machine; without one nothing hangs.
            if hangs && hanging.wait_for(|percent| *percent == 0).await.is_err() {
                return;
            }
            job.flush();
        });
    }
}
