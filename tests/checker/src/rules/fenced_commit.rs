//! P8, fencing: no commit is accepted from a member that is expired or replaced, that comes with another
//! epoch than its own, or that does not hold the partition.
//!
//! What a member is may change at any moment until its call is answered, so only what is certain counts:
//! what was complete before the commit was invoked, and for what speaks for the member, all that was
//! asked for before the commit was complete.

use std::collections::HashMap;

use crate::event::Outcome;
use crate::history::{Entry, Fact, History, Member, Slot};
use crate::seeks::Seeks;
use crate::staircase::Staircase;
use crate::verdict::{Docket, Rule};

pub(crate) fn check(history: &History, seeks: &Seeks, docket: &mut Docket<'_>) {
    let known = Known::of(history, seeks);
    for entry in history.entries() {
        if let Fact::Commit { member, slot, epoch, outcome: Outcome::Accepted(_), .. } = entry.fact
            && let Some(reason) = known.fence(history, entry, member, slot, epoch)
        {
            docket.blame(Rule::FencedCommit, entry.place, || {
                let (member, slot) = (history.member_name(member), history.slot_name(slot));
                format!("{member} commits {slot} in epoch {epoch}, {reason}")
            });
        }
    }
}

/// First times: when something was asked for, and when it was known.
#[derive(Clone, Copy, Debug)]
struct First {
    invoke: u64,
    complete: u64,
}

/// All that the history tells about membership.
#[derive(Debug, Default)]
struct Known {
    /// When the first heartbeat of a member was sent.
    joined: HashMap<Member, u64>,
    /// When somebody first knew that a membership is over.
    ended: HashMap<Member, u64>,
    /// The epochs that a member was told.
    epochs: HashMap<(Member, u32), First>,
    /// The highest of them, by when it was known.
    newest: HashMap<Member, Staircase<u32>>,
    /// The grants of a partition to a member, by when they were asked for.
    granted: HashMap<(Member, Slot), Staircase<u32>>,
    /// The grants of a partition and to whom, by when they were known.
    holders: HashMap<Slot, Staircase<(u32, Member)>>,
    /// The grants that a member gave up, by when that was acknowledged.
    released: HashMap<(Member, Slot), Staircase<u32>>,
    /// When a seek was sent, by when it was answered.
    seeks: HashMap<Slot, Staircase<u64>>,
}

impl Known {
    fn of(history: &History, seeks: &Seeks) -> Self {
        let mut known = Self::default();
        for entry in history.entries() {
            known.learn(history, entry);
        }
        for slot in 0..history.slot_count() as Slot {
            for seek in seeks.of_slot(slot) {
                known.seeks.entry(slot).or_default().add(seek.at.complete, seek.at.invoke);
            }
        }
        known.newest.values_mut().for_each(Staircase::close);
        known.granted.values_mut().for_each(Staircase::close);
        known.holders.values_mut().for_each(Staircase::close);
        known.released.values_mut().for_each(Staircase::close);
        known.seeks.values_mut().for_each(Staircase::close);
        known
    }

    fn learn(&mut self, history: &History, entry: &Entry) {
        let at = entry.at;
        match entry.fact {
            Fact::Joined { member } => {
                let joined = self.joined.entry(member).or_insert(at.invoke);
                *joined = at.invoke.min(*joined);
            }
            Fact::Ended { member } => {
                let ended = self.ended.entry(member).or_insert(at.complete);
                *ended = at.complete.min(*ended);
            }
            Fact::Assigned { member, epoch, grants } => {
                let first = First { invoke: at.invoke, complete: at.complete };
                let known = self.epochs.entry((member, epoch)).or_insert(first);
                known.invoke = at.invoke.min(known.invoke);
                known.complete = at.complete.min(known.complete);
                self.newest.entry(member).or_default().add(at.complete, epoch);
                for grant in history.grants(grants) {
                    let (slot, granted) = (grant.slot, grant.granted);
                    self.granted.entry((member, slot)).or_default().add(at.invoke, granted);
                    self.holders.entry(slot).or_default().add(at.complete, (granted, member));
                }
            }
            Fact::Released { member, grants } => {
                for grant in history.grants(grants) {
                    let released = self.released.entry((member, grant.slot)).or_default();
                    released.add(at.complete, grant.granted);
                }
            }
            _ => {}
        }
    }

    /// Why the commit had to be refused, if it had to.
    fn fence(
        &self,
        history: &History,
        entry: &Entry,
        member: Member,
        slot: Slot,
        epoch: u32,
    ) -> Option<String> {
        let at = entry.at;
        if self.joined.get(&member).is_none_or(|joined| *joined > at.complete) {
            return Some("having never joined".to_owned());
        }
        if self.ended.get(&member).is_some_and(|ended| *ended < at.invoke) {
            return Some("after its membership had ended".to_owned());
        }
        let newest = self.newest.get(&member).and_then(|newest| newest.before(at.invoke));
        if let Some(newest) = newest.filter(|newest| *newest > epoch) {
            return Some(format!("after it had been told epoch {newest}"));
        }
        let first = self.epochs.get(&(member, epoch));
        let Some(first) = first.filter(|first| first.invoke <= at.complete) else {
            return Some("which it was never told".to_owned());
        };
        // Partitions that are being asked back are held and not told any more, so it is grants that
        // count, not the newest telling.
        let granted = self.granted.get(&(member, slot)).and_then(|g| g.until(at.complete));
        let Some(granted) = granted else {
            return Some("a partition that it was never granted".to_owned());
        };
        let holder = self.holders.get(&slot).and_then(|holders| holders.before(at.invoke));
        if let Some((newer, holder)) = holder.filter(|(newer, _)| *newer > granted) {
            let holder = history.member_name(holder);
            return Some(format!("after it had been granted to {holder} in epoch {newer}"));
        }
        let released = self.released.get(&(member, slot)).and_then(|r| r.before(at.invoke));
        if released.is_some_and(|released| released >= granted) {
            return Some("after it had given that up".to_owned());
        }
        let sought = self.seeks.get(&slot).and_then(|seeks| seeks.before(at.invoke));
        if sought.is_some_and(|sought| first.complete < sought) {
            return Some("an epoch from before a seek".to_owned());
        }
        None
    }
}
