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

/// What a call showed of a committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// This one.
    Offset(Offset),
    /// That none was committed.
    Nothing,
    /// Nothing is known of its outcome.
    Unknown,
}

/// A call on the committed offset of a group without members.
#[derive(Clone, Debug)]
pub(crate) struct RegisterCall {
    /// The partition.
    pub(crate) partition: PartitionId,
    /// What it commits, if it does.
    pub(crate) commit: Option<u64>,
    /// When it was called.
    pub(crate) invoked: Duration,
    /// When it had returned.
    pub(crate) completed: Duration,
    /// What it showed.
    pub(crate) shown: Shown,
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    /// The name of the invariant.
    pub(crate) invariant: &'static str,
    /// What was seen.
    pub(crate) what: String,
}

/// How brokers came and went, by their ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    /// Those that joined and do their part.
    pub(crate) joined: BTreeSet<u32>,
    /// Drains that were called off.
    pub(crate) called_off: u64,
    /// Those that were drained until they held nothing.
    pub(crate) drained: BTreeSet<u32>,
    /// Those that the cluster does not list any more, and since when it is known.
    pub(crate) removed: BTreeMap<u32, Duration>,
}

/// Everything that clients saw.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Values that were sent, acked or not.
    pub(crate) sent: BTreeSet<String>,
    /// What was acked, in the order of the acks.
    pub(crate) acks: Vec<Ack>,
    /// Of each partition the acked record with the highest offset.
    pub(crate) acked_last: BTreeMap<PartitionId, (Place, String)>,
    /// What readers were given while faults were about, first seen.
    pub(crate) read: BTreeMap<Place, String>,
    /// Calls on the offsets of a group without members.
    pub(crate) register: Vec<RegisterCall>,
    /// What members of the other group were handed.
    pub(crate) delivered: BTreeSet<Place>,
    /// What that group had committed in the end.
    pub(crate) committed: BTreeMap<PartitionId, Offset>,
    /// The whole topic as it was read in the end.
    pub(crate) end: Option<BTreeMap<Place, String>>,
    /// Records that were sent to the compacted topic, and those that were left in the end.
    pub(crate) viewed: Option<(u64, u64)>,
    /// How brokers came and went.
    pub(crate) changes: Changes,
    /// What went wrong already.
    pub(crate) violations: Vec<Violation>,
}

impl History {
    /// Notes an ack.
    pub(crate) fn ack(&mut self, ack: Ack) {
        let last = self.acked_last.get(&ack.place.0);
        if last.is_none_or(|(place, _)| *place < ack.place) {
            self.acked_last.insert(ack.place.0, (ack.place, ack.value.clone()));
        }
        self.acks.push(ack);
    }
}

/// The history of one run. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<History>>);

impl Shared {
    /// The history, to look at or to add to.
    pub(crate) fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was broken so far, unless somebody is at the history now.
    pub(crate) fn try_violations(&self) -> Option<Vec<Violation>> {
        self.0.try_lock().ok().map(|history| history.violations.clone())
    }

    /// Notes what a check of `invariant` found, if it did.
    pub(crate) fn note(&self, invariant: &'static str, outcome: Result<(), String>) {
        if let Err(what) = outcome {
            self.violated(invariant, what);
        }
    }

    /// Notes a broken promise.
    pub(crate) fn violated(&self, invariant: &'static str, what: String) {
        self.lock().violations.push(Violation { invariant, what });
    }
}

/// Histories for the tests of invariants.
#[cfg(test)]
pub(crate) mod examples {
    use super::*;

    /// The place of `offset` in the first partition.
    pub(crate) fn place(offset: u64) -> Place {
        (PartitionId(0), Offset(offset))
    }

    /// `values` as they lie in the first partition, one behind the other.
    pub(crate) fn topic(values: &[&str]) -> BTreeMap<Place, String> {
        let records = (0..).zip(values);
        records.map(|(offset, value)| (place(offset), (*value).to_owned())).collect()
    }

    /// An ack for `value` at `offset`, for a send that took from one second to another.
    pub(crate) fn ack(value: &str, offset: u64, from: u64, to: u64) -> Ack {
        let (invoked, completed) = (Duration::from_secs(from), Duration::from_secs(to));
        Ack { value: value.to_owned(), producer: 1, place: place(offset), invoked, completed }
    }
}
