//! The seeks of a history. They part the time of a partition into eras: era `n` ends with seek `n`, at
//! some moment of its call, and era `n + 1` begins there.

use std::ops::RangeInclusive;

use crate::Error;
use crate::event::{Outcome, Span};
use crate::history::{Fact, History, Place, Slot};

/// A seek that was accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sought {
    pub(crate) place: Place,
    pub(crate) at: Span,
    pub(crate) offset: u64,
    pub(crate) before: Option<u64>,
}

/// The accepted seeks of each slot, in their order.
#[derive(Debug)]
pub(crate) struct Seeks(Vec<Vec<Sought>>);

impl Seeks {
    pub(crate) fn of(history: &History) -> Result<Self, Error> {
        let mut slots = vec![Vec::new(); history.slot_count()];
        for entry in history.entries() {
            let Fact::Seek { slot, offset, outcome } = entry.fact else { continue };
            let before = match outcome {
                Outcome::Refused => continue,
                Outcome::Accepted(before) => before,
                Outcome::Unknown => {
                    let what =
                        "a seek without an answer leaves nothing to be said of its partition";
                    return Err(history.impossible(entry.place, what));
                }
            };
            slots[slot as usize].push(Sought { place: entry.place, at: entry.at, offset, before });
        }
        for seeks in &mut slots {
            seeks.sort_by_key(|seek| seek.at.invoke);
            if let Some(pair) = seeks.windows(2).find(|p| p[1].at.invoke <= p[0].at.complete) {
                let what = "seeks of one partition overlap";
                return Err(history.impossible(pair[1].place, what));
            }
        }
        Ok(Self(slots))
    }

    /// The seeks of a slot.
    pub(crate) fn of_slot(&self, slot: Slot) -> &[Sought] {
        &self.0[slot as usize]
    }

    /// The eras that a call may belong to; more than one when it overlaps a seek.
    pub(crate) fn eras(&self, slot: Slot, at: Span) -> RangeInclusive<usize> {
        let seeks = self.of_slot(slot);
        let first = seeks.partition_point(|seek| seek.at.complete < at.invoke);
        let last = seeks.partition_point(|seek| seek.at.invoke <= at.complete);
        first..=last
    }
}
