//! The circuit breaker: while something that all records need is down, one of them tries, the others
//! wait.

use std::sync::Arc;

use tokio::sync::watch;

/// Open while something is down. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(super) struct Breaker {
    open: Arc<watch::Sender<bool>>,
}

/// The duty to try. Dropped it closes the breaker: whoever finds that too early opens it again.
#[derive(Debug)]
pub(super) struct Probe {
    breaker: Breaker,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { open: Arc::new(watch::Sender::new(false)) }
    }

    /// Opens it; whoever does it first has to try from then on.
    pub(super) fn trip(&self) -> Option<Probe> {
        let tripped = self.open.send_if_modified(|open| !std::mem::replace(open, true));
        tripped.then(|| Probe { breaker: self.clone() })
    }

    pub(super) fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Waits until it is closed.
    pub(super) async fn closed(&self) {
        // The sender lives as long as this.
        let _ = self.open.subscribe().wait_for(|open| !open).await;
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.breaker.open.send_replace(false);
    }
}
