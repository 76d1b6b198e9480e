//! What a runner has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a runner has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunnerStats {
    /// Records that were handled.
    pub handled: u64,
    /// Records that were put aside.
    pub dead_lettered: u64,
    /// Calls of the handler, probes included.
    pub calls: u64,
    /// Calls to find out whether what was down is back.
    pub probes: u64,
}

/// Counts it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    handled: AtomicU64,
    dead_lettered: AtomicU64,
    calls: AtomicU64,
    probes: AtomicU64,
}

impl Tally {
    pub(super) fn handled(&self, records: usize) {
        self.handled.fetch_add(records as u64, Ordering::Relaxed);
    }

    pub(super) fn dead_lettered(&self) {
        self.dead_lettered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn call(&self, probe: bool) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.probes.fetch_add(u64::from(probe), Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> RunnerStats {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        RunnerStats {
            handled: of(&self.handled),
            dead_lettered: of(&self.dead_lettered),
            calls: of(&self.calls),
            probes: of(&self.probes),
        }
    }
}
