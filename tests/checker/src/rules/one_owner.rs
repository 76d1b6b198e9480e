//! A partition is told to one member in one epoch, and what is told only rises: a member's epoch, and
//! the epochs under which a partition is granted.

use std::collections::{BTreeMap, HashMap};

use crate::event::Span;
use crate::history::{Entry, Fact, Granted, History, Member, Place, Slot};
use crate::verdict::{Docket, Rule};

/// Tellings of one grant.
#[derive(Clone, Copy, Debug)]
struct Told {
    member: Member,
    place: Place,
    /// When the first of them was asked for.
    invoke: u64,
    /// When the first of them was there.
    complete: u64,
}

pub(crate) fn check(history: &History, docket: &mut Docket<'_>) {
    let mut grants: BTreeMap<(Slot, u32), Told> = BTreeMap::new();
    let mut epochs: HashMap<(Slot, u32), Member> = HashMap::new();
    let mut newest: HashMap<Member, (u32, Span)> = HashMap::new();
    for entry in history.entries() {
        let Fact::Assigned { member, epoch, grants: told } = entry.fact else { continue };
        rises(history, docket, entry, member, epoch, &mut newest);
        for grant in history.grants(told) {
            one_member(history, docket, entry, (member, epoch), grant, &mut grants, &mut epochs);
        }
    }
    in_turn(history, docket, &grants);
}

/// A member's epoch does not fall from one telling to the next.
fn rises(
    history: &History,
    docket: &mut Docket<'_>,
    entry: &Entry,
    member: Member,
    epoch: u32,
    newest: &mut HashMap<Member, (u32, Span)>,
) {
    let (before, at) = *newest.entry(member).or_insert((epoch, entry.at));
    if epoch < before && at.complete < entry.at.invoke {
        docket.blame(Rule::OneOwner, entry.place, || {
            format!("{} is told epoch {epoch} after {before}", history.member_name(member))
        });
    }
    if epoch > before {
        newest.insert(member, (epoch, entry.at));
    }
}

/// Neither in one epoch of members nor under one grant is a partition told to two.
fn one_member(
    history: &History,
    docket: &mut Docket<'_>,
    entry: &Entry,
    (member, epoch): (Member, u32),
    grant: &Granted,
    grants: &mut BTreeMap<(Slot, u32), Told>,
    epochs: &mut HashMap<(Slot, u32), Member>,
) {
    let (slot, granted) = (grant.slot, grant.granted);
    let mut blame = |sentence: String| {
        docket.blame(Rule::OneOwner, entry.place, || {
            let (member, slot) = (history.member_name(member), history.slot_name(slot));
            format!("{member} is told {slot} {sentence}")
        });
    };
    if granted > epoch {
        blame(format!("in epoch {epoch}, granted in {granted}: later than that"));
    }
    let Span { invoke, complete } = entry.at;
    let first = Told { member, place: entry.place, invoke, complete };
    let told = grants.entry((slot, granted)).or_insert(first);
    told.invoke = told.invoke.min(invoke);
    told.complete = told.complete.min(complete);
    let holder = *epochs.entry((slot, epoch)).or_insert(member);
    if told.member != member {
        let (other, place) = (history.member_name(told.member), history.place(told.place));
        blame(format!("granted in epoch {granted}, as was {other} at {place}"));
    } else if holder != member {
        blame(format!("in epoch {epoch}, as was {}", history.member_name(holder)));
    }
}

/// Nobody is told of a grant, for the first time, when a later one has been told to somebody already.
fn in_turn(history: &History, docket: &mut Docket<'_>, grants: &BTreeMap<(Slot, u32), Told>) {
    // Of the later grants of the same slot, the one that was there first.
    let mut later: Option<(Slot, u32, u64)> = None;
    for (&(slot, granted), told) in grants.iter().rev() {
        let after = later.filter(|(of, ..)| *of == slot);
        if let Some((_, newer, _)) = after.filter(|(.., complete)| *complete < told.invoke) {
            docket.blame(Rule::OneOwner, told.place, || {
                let (member, slot) = (history.member_name(told.member), history.slot_name(slot));
                format!("{member} is told {slot} of epoch {granted}, after epoch {newer} was told")
            });
        }
        if after.is_none_or(|(.., complete)| told.complete < complete) {
            later = Some((slot, granted, told.complete));
        }
    }
}
