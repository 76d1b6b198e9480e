//! How much there was to judge: a verdict over next to nothing proves nothing.

use std::collections::BTreeMap;
use std::fmt;

use crate::event::Outcome;
use crate::history::{Fact, History, Member, Slot};

/// Counts of what a history holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines.
    pub events: u64,
    /// Acked records.
    pub produced: u64,
    /// Records handed to users.
    pub deliveries: u64,
    /// Commits that were accepted.
    pub commits_accepted: u64,
    /// Commits that were refused.
    pub commits_refused: u64,
    /// Commits without an answer.
    pub commits_unknown: u64,
    /// Reads of committed offsets.
    pub reads: u64,
    /// Accepted seeks.
    pub seeks: u64,
    /// Members that were told something.
    pub members: u64,
    /// Epochs of a group under which a partition went from one member to another.
    pub rebalances: u64,
    /// Partitions that did so, each time counted.
    pub moves: u64,
}

impl Summary {
    pub(crate) fn of(history: &History) -> Self {
        let mut summary = Self { events: history.len() as u64, ..Self::default() };
        let mut told = vec![false; history.member_count()];
        let mut holders: BTreeMap<(Slot, u32), Member> = BTreeMap::new();
        for entry in history.entries() {
            match entry.fact {
                Fact::Produced { .. } => summary.produced += 1,
                Fact::Delivered { .. } => summary.deliveries += 1,
                Fact::Committed { .. } => summary.reads += 1,
                Fact::Commit { outcome, .. } => match outcome {
                    Outcome::Accepted(_) => summary.commits_accepted += 1,
                    Outcome::Refused => summary.commits_refused += 1,
                    Outcome::Unknown => summary.commits_unknown += 1,
                },
                Fact::Seek { outcome: Outcome::Accepted(_), .. } => summary.seeks += 1,
                Fact::Assigned { member, grants, .. } => {
                    told[member as usize] = true;
                    for grant in history.grants(grants) {
                        holders.entry((grant.slot, grant.granted)).or_insert(member);
                    }
                }
                Fact::Seek { .. }
                | Fact::Joined { .. }
                | Fact::Ended { .. }
                | Fact::Released { .. }
                | Fact::Repositioned { .. } => {}
            }
        }
        summary.members = told.iter().filter(|told| **told).count() as u64;
        summary.count_moves(history, &holders);
        summary
    }

    fn count_moves(&mut self, history: &History, holders: &BTreeMap<(Slot, u32), Member>) {
        let mut epochs = std::collections::HashSet::new();
        for (before, after) in holders.iter().zip(holders.iter().skip(1)) {
            let (((before, _), from), ((slot, granted), to)) = (before, after);
            if before == slot && from != to {
                self.moves += 1;
                epochs.insert((history.group_of(*slot), *granted));
            }
        }
        self.rebalances = epochs.len() as u64;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("events", self.events),
            ("produced", self.produced),
            ("deliveries", self.deliveries),
            ("commits accepted", self.commits_accepted),
            ("commits refused", self.commits_refused),
            ("commits unanswered", self.commits_unknown),
            ("reads", self.reads),
            ("seeks", self.seeks),
            ("members", self.members),
            ("rebalances", self.rebalances),
            ("partitions moved", self.moves),
        ];
        let rows = rows.map(|(name, count)| format!("{name:<32}{count:>12}"));
        f.write_str(&rows.join("\n"))
    }
}
