//! What a broker counts; `/metrics` shows it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::budget::Budget;
use crate::limits;

/// A number that only goes up.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    /// Takes one place unless `most` are taken; the place is given back when dropped.
    pub(crate) fn enter(self: &std::sync::Arc<Self>, most: u64) -> Option<Place> {
        let free = |taken: u64| (taken < most).then_some(taken + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        Some(Place(std::sync::Arc::clone(self)))
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A place under a [`Gauge`].
#[derive(Debug)]
pub(crate) struct Place(std::sync::Arc<Gauge>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The bytes that all subscriptions may hold.
#[derive(Debug)]
pub(crate) struct SubscribeBytes(pub(crate) std::sync::Arc<Budget>);

impl Default for SubscribeBytes {
    fn default() -> Self {
        Self(Budget::new(limits::SUBSCRIBE_BYTES_MAX))
    }
}

/// The counters of one broker, since it started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Batches that were acked.
    pub(crate) produce_batches: Counter,
    /// Records in them.
    pub(crate) produce_records: Counter,
    /// Bytes in them.
    pub(crate) produce_bytes: Counter,
    /// Batches that were answered with an error.
    pub(crate) produce_errors: Counter,
    /// Batches that were not taken for lack of room.
    pub(crate) produce_throttled: Counter,
    /// Batches sent to consumers.
    pub(crate) fetch_batches: Counter,
    /// Records in them.
    pub(crate) fetch_records: Counter,
    /// Bytes in them.
    pub(crate) fetch_bytes: Counter,
    /// Calls of the client listener that are under way, streams among them.
    pub(crate) calls: std::sync::Arc<Gauge>,
    /// Fetch streams that are open.
    pub(crate) fetch_streams: std::sync::Arc<Gauge>,
    /// Calls of the admin service that are under way.
    pub(crate) admin_calls: std::sync::Arc<Gauge>,
    /// Calls with structured records that are under way.
    pub(crate) records_calls: std::sync::Arc<Gauge>,
    /// Calls of the group service that are under way.
    pub(crate) group_calls: std::sync::Arc<Gauge>,
    /// Subscriptions that are open.
    pub(crate) subscriptions: std::sync::Arc<Gauge>,
    /// Bytes of records that subscriptions have read and HTTP/2 has not passed on.
    pub(crate) subscribe_bytes: SubscribeBytes,
    /// Leaderships handed over to their preferred replica.
    pub(crate) rebalanced: Counter,
}
