//! What a node's logs asked of the disk.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a node, shared by its votes and all its logs.
#[derive(Debug, Default)]
pub struct Stats {
    syncs: AtomicU64,
    synced_bytes: AtomicU64,
}

impl Stats {
    /// How many times a file was synced.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// The bytes that were written before those syncs.
    #[must_use]
    pub fn synced_bytes(&self) -> u64 {
        self.synced_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, bytes: u64) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.synced_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
