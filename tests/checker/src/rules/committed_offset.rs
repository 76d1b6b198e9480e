//! P8: the committed offset of a partition is a linearizable register. A commit raises it or leaves it,
//! a seek sets it, a read shows it; it never goes back but by a seek and never turns to none.
//!
//! Within an era (see [`crate::seeks`]) the register only rises, which makes the question easy: take the
//! values in rising order and let the register reach each as early as it can, which is when all lower
//! ones have been seen for the last time and somebody has sent it. If it reaches one too late for a call
//! that showed it, no order of the calls explains the era; otherwise this one does.
//!
//! A commit without an answer may count in each era after it was sent, not in one alone: milder than the
//! truth, and never wrong.

use std::collections::HashMap;

use crate::Error;
use crate::event::{Outcome, Span};
use crate::history::{Fact, History, Place, Slot};
use crate::seeks::Seeks;
use crate::verdict::{Docket, Rule};

/// How many calls may overlap one seek: both eras are tried for each.
const AMBIGUOUS_MAX: usize = 12;

/// A call that showed the register.
#[derive(Clone, Copy, Debug)]
struct Shown {
    place: Place,
    at: Span,
    value: Option<u64>,
    /// It is a commit of this value, so it may be what raised the register to it.
    raises: bool,
}

/// All calls of one slot.
#[derive(Debug, Default)]
struct Calls {
    shown: Vec<Shown>,
    /// Commits without an answer: the first invocation for each value.
    unknown: HashMap<u64, u64>,
}

/// Why no order explains the calls.
#[derive(Clone, Debug)]
struct Flaw {
    place: Place,
    sentence: String,
}

pub(crate) fn check(
    history: &History,
    seeks: &Seeks,
    docket: &mut Docket<'_>,
) -> Result<(), Error> {
    let slots = calls(history, docket);
    for (slot, calls) in (0..).zip(&slots) {
        let search = Search::new(slot, calls, seeks, history)?;
        if let Err(flaw) = search.from(0, 0, None, &[]) {
            docket.blame(Rule::CommittedOffset, flaw.place, || {
                format!("{}: {}", history.slot_name(slot), flaw.sentence)
            });
        }
    }
    Ok(())
}

fn calls(history: &History, docket: &mut Docket<'_>) -> Vec<Calls> {
    let mut slots: Vec<Calls> = (0..history.slot_count()).map(|_| Calls::default()).collect();
    for entry in history.entries() {
        let (place, at) = (entry.place, entry.at);
        match entry.fact {
            Fact::Committed { slot, offset } => {
                let shown = Shown { place, at, value: offset, raises: false };
                slots[slot as usize].shown.push(shown);
            }
            Fact::Commit { slot, offset, outcome: Outcome::Accepted(holds), .. } => {
                if holds < offset {
                    docket.blame(Rule::CommittedOffset, place, || {
                        let slot = history.slot_name(slot);
                        format!("{slot}: a commit of {offset} is answered with {holds}")
                    });
                }
                let raises = holds == offset;
                let shown = Shown { place, at, value: Some(holds), raises };
                slots[slot as usize].shown.push(shown);
            }
            Fact::Commit { slot, offset, outcome: Outcome::Unknown, .. } => {
                let unknown = &mut slots[slot as usize].unknown;
                let invoke = unknown.entry(offset).or_insert(at.invoke);
                *invoke = at.invoke.min(*invoke);
            }
            _ => {}
        }
    }
    slots
}

/// Looks for an order of one slot's calls.
#[derive(Debug)]
struct Search<'a> {
    slot: Slot,
    calls: &'a Calls,
    seeks: &'a Seeks,
    history: &'a History,
    /// Per era, the calls that can belong to no other.
    certain: Vec<Vec<Shown>>,
    /// Per era, the calls that may belong to it or to later ones.
    open: Vec<Vec<Shown>>,
}

impl<'a> Search<'a> {
    fn new(
        slot: Slot,
        calls: &'a Calls,
        seeks: &'a Seeks,
        history: &'a History,
    ) -> Result<Self, Error> {
        let eras = seeks.of_slot(slot).len() + 1;
        let mut certain = vec![Vec::new(); eras];
        let mut open = vec![Vec::new(); eras];
        for shown in &calls.shown {
            let range = seeks.eras(slot, shown.at);
            let place = if range.start() == range.end() { &mut certain } else { &mut open };
            place[*range.start()].push(*shown);
        }
        if let Some(era) = open.iter().position(|open| open.len() > AMBIGUOUS_MAX) {
            let what = "too many calls overlap this seek to say what was before it";
            return Err(history.impossible(seeks.of_slot(slot)[era].place, what));
        }
        Ok(Self { slot, calls, seeks, history, certain, open })
    }

    /// Explains era `era` and all later ones. The era begins at `start` with `initial`; `left` are calls
    /// that earlier eras did not take.
    fn from(
        &self,
        era: usize,
        start: u64,
        initial: Option<u64>,
        left: &[Shown],
    ) -> Result<(), Flaw> {
        let ends_at = |shown: &Shown| *self.seeks.eras(self.slot, shown.at).end();
        let (due, free): (Vec<Shown>, Vec<Shown>) =
            left.iter().chain(&self.open[era]).partition(|shown| ends_at(shown) == era);
        let mut flaw = None;
        // From all to none: most calls that overlap a seek were there before it.
        for taken in (0..1_u32 << free.len()).rev() {
            let is_taken = |at: usize| taken & (1 << at) != 0;
            let mut shown = self.certain[era].clone();
            shown.extend(&due);
            shown.extend((0..free.len()).filter(|at| is_taken(*at)).map(|at| free[at]));
            let left: Vec<Shown> =
                (0..free.len()).filter(|at| !is_taken(*at)).map(|at| free[at]).collect();
            let Err(found) = self.era(era, start, initial, shown, &left) else { return Ok(()) };
            flaw.get_or_insert(found);
        }
        Err(flaw.expect("the empty choice is one"))
    }

    fn era(
        &self,
        era: usize,
        start: u64,
        initial: Option<u64>,
        mut shown: Vec<Shown>,
        left: &[Shown],
    ) -> Result<(), Flaw> {
        let Some(seek) = self.seeks.of_slot(self.slot).get(era) else {
            return self.rise(start, initial, shown).map(drop);
        };
        let (place, at, before) = (seek.place, seek.at, seek.before);
        if let Some(beyond) = shown.iter().find(|shown| shown.value > before) {
            let (value, before) = (name(beyond.value), name(before));
            let sentence = format!("{value} is shown here, and the seek after it found {before}");
            return Err(Flaw { place: beyond.place, sentence });
        }
        shown.push(Shown { place, at, value: before, raises: false });
        let end = self.rise(start, initial, shown)?.max(at.invoke);
        if end > at.complete {
            let sentence = format!("the seek found {}, which was too early", name(before));
            return Err(Flaw { place, sentence });
        }
        self.from(era + 1, end, Some(seek.offset), left)
    }

    /// Lets the register rise through the values shown; the earliest moment at which all are.
    fn rise(&self, start: u64, initial: Option<u64>, mut shown: Vec<Shown>) -> Result<u64, Flaw> {
        shown.sort_by_key(|shown| shown.value);
        let mut reached = start;
        // Whoever made it so late, for people.
        let mut because: Option<Place> = None;
        for same in shown.chunk_by(|a, b| a.value == b.value) {
            let value = same[0].value;
            let earliest = same.iter().min_by_key(|shown| shown.at.complete);
            let earliest = earliest.expect("a chunk is not empty");
            if value < initial {
                let sentence = format!("{} is shown, below {}", name(value), name(initial));
                return Err(Flaw { place: earliest.place, sentence });
            }
            if value > initial {
                let sent = self.sent(same, value).ok_or_else(|| Flaw {
                    place: earliest.place,
                    sentence: format!("{} is shown, which nobody committed", name(value)),
                })?;
                if sent > reached {
                    reached = sent;
                    because = None;
                }
            }
            if reached > earliest.at.complete {
                let why = match because {
                    Some(place) => {
                        format!("a lower one later, at {}", self.history.place(place))
                    }
                    None => "it was sent later".to_owned(),
                };
                let sentence = format!("{} is shown here, though {why}", name(value));
                return Err(Flaw { place: earliest.place, sentence });
            }
            let last = same.iter().max_by_key(|shown| shown.at.invoke);
            let last = last.expect("a chunk is not empty");
            if last.at.invoke > reached {
                reached = last.at.invoke;
                because = Some(last.place);
            }
        }
        Ok(reached)
    }

    /// When the first commit of a value was invoked.
    fn sent(&self, same: &[Shown], value: Option<u64>) -> Option<u64> {
        let accepted = same.iter().filter(|shown| shown.raises).map(|shown| shown.at.invoke);
        let unknown = value.and_then(|value| self.calls.unknown.get(&value).copied());
        accepted.chain(unknown).min()
    }
}

fn name(value: Option<u64>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}
