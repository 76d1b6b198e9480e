//! What clients saw: sends, acks and reads, with their times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidelog_client::{Offset, PartitionId};

/// A place in the topic.
pub(crate) type Place = (PartitionId, Offset);

/// A record that was acked.
#[derive(Clone, Debug)]
pub(crate) struct Ack {
    /// Its value, which no other record has.
    pub(crate) value: String,
    /// Who sent it: no two producers, nor two lives of one, have the same.
    pub(crate) producer: u64,
    /// Where it lies.
    pub(crate) place: Place,
    /// When the send was called.
    pub(crate) invoked: Duration,
    /// When it had returned.
    pub(crate) completed: Duration,
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    /// The name of the invariant.
    pub(crate) invariant: &'static str,
    /// What was seen.
    pub(crate) what: String,
}

/// Everything that clients saw.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Values that were sent, acked or not.
    pub(crate) sent: BTreeSet<String>,
    /// What was acked, in the order of the acks.
    pub(crate) acks: Vec<Ack>,
    /// What readers were given while faults were about, first seen.
    pub(crate) read: BTreeMap<Place, String>,
    /// The whole topic as it was read in the end.
    pub(crate) end: Option<BTreeMap<Place, String>>,
    /// What went wrong already.
    pub(crate) violations: Vec<Violation>,
}

/// The history of one run. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<History>>);

impl Shared {
    /// The history, to look at or to add to.
    pub(crate) fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a broken promise.
    pub(crate) fn violated(&self, invariant: &'static str, what: String) {
        self.lock().violations.push(Violation { invariant, what });
    }
}
