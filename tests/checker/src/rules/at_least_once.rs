//! P9: at every committed offset, every record below it, from the first committed position on, had been
//! delivered to some member before. What a seek passes over counts as delivered; what it goes back
//! over is to be delivered again.
//!
//! "Before" is: its delivery was complete when the commit, or the read that shows it, was. A client may
//! hand out and mark records while a commit is being made, so the invocation would be too strict.

use crate::event::{Outcome, Span};
use crate::history::{Fact, History, Place, Slot};
use crate::intervals::Intervals;
use crate::seeks::Seeks;
use crate::verdict::{Docket, Rule};

/// What happened to one partition, in one era.
#[derive(Clone, Copy, Debug)]
struct Step {
    place: Place,
    complete: u64,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Delivered(u64),
    /// A member was moved on purpose: all before is excused.
    Excused(u64),
    /// This offset was committed.
    Committed(u64),
}

pub(crate) fn check(history: &History, seeks: &Seeks, docket: &mut Docket<'_>) {
    let mut slots: Vec<Vec<(Place, Span, What)>> = vec![Vec::new(); history.slot_count()];
    for entry in history.entries() {
        let (slot, what) = match entry.fact {
            Fact::Delivered { slot, offset, .. } => (slot, What::Delivered(offset)),
            Fact::Repositioned { slot, offset, .. } => (slot, What::Excused(offset)),
            Fact::Committed { slot, offset: Some(offset) } => (slot, What::Committed(offset)),
            Fact::Commit { slot, outcome: Outcome::Accepted(holds), .. } => {
                (slot, What::Committed(holds))
            }
            _ => continue,
        };
        slots[slot as usize].push((entry.place, entry.at, what));
    }
    for (slot, steps) in (0..).zip(&slots) {
        judge(history, seeks, slot, steps, docket);
    }
}

fn judge(
    history: &History,
    seeks: &Seeks,
    slot: Slot,
    all: &[(Place, Span, What)],
    docket: &mut Docket<'_>,
) {
    let mut eras: Vec<Vec<Step>> = vec![Vec::new(); seeks.of_slot(slot).len() + 1];
    for &(place, at, what) in all {
        for era in seeks.eras(slot, at) {
            eras[era].push(Step { place, complete: at.complete, what });
        }
    }
    // A call that overlaps a seek is in several eras, and one that explains it is enough.
    let mut doubts: Vec<Skip> = Vec::new();
    let mut cleared: Vec<Place> = Vec::new();
    for (era, mut steps) in eras.into_iter().enumerate() {
        // Deliveries first among those of one time.
        steps.sort_by_key(|s| (s.complete, matches!(s.what, What::Committed(_))));
        let base = match era.checked_sub(1) {
            Some(seek) => seeks.of_slot(slot)[seek].offset,
            None => first_position(&steps),
        };
        sweep(base, &steps, &mut doubts, &mut cleared);
    }
    cleared.sort_unstable();
    doubts.retain(|doubt| cleared.binary_search(&doubt.place).is_err());
    doubts.sort_by_key(|doubt| doubt.place);
    doubts.dedup_by_key(|doubt| doubt.place);
    for doubt in doubts {
        docket.blame(Rule::AtLeastOnce, doubt.place, || {
            let Skip { committed, missing, .. } = doubt;
            let slot = history.slot_name(slot);
            format!("{slot}: {committed} is committed, {missing} was not delivered")
        });
    }
}

/// A committed offset that has a record below it which nobody got.
#[derive(Clone, Copy, Debug)]
struct Skip {
    place: Place,
    committed: u64,
    missing: u64,
}

/// The first committed position, or the first delivered record when that is lower: then whoever wrote
/// the first position down came late.
fn first_position(steps: &[Step]) -> u64 {
    let positions = steps.iter().filter_map(|step| match step.what {
        What::Delivered(offset) | What::Committed(offset) => Some(offset),
        What::Excused(_) => None,
    });
    positions.min().unwrap_or(0)
}

fn sweep(base: u64, steps: &[Step], doubts: &mut Vec<Skip>, cleared: &mut Vec<Place>) {
    let mut delivered = Intervals::default();
    for step in steps {
        match step.what {
            What::Delivered(offset) => delivered.add(offset, offset + 1),
            What::Excused(offset) => delivered.add(base, offset),
            What::Committed(offset) => {
                let missing = delivered.end_of_run(base);
                if offset <= missing {
                    cleared.push(step.place);
                } else {
                    doubts.push(Skip { place: step.place, committed: offset, missing });
                }
            }
        }
    }
}
