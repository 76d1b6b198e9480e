//! What is seen from outside while a cluster runs: who leads, and what is durable on its disks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidelog_types::{BrokerId, Term};

use crate::disk::TracedDisk;
use crate::history::Shared;
use crate::invariants::{
    leaders_have_durable_votes, votes_cover_the_log, votes_never_go_back, wiped_brokers_stay_out,
};
use crate::trace::Trace;
use crate::votes::{self, Votes};

/// How often votes are compared.
const VOTES_EVERY: Duration = Duration::from_millis(200);

/// How often the ends of logs are read: that reads a segment of each group.
const LOGS_EVERY: Duration = Duration::from_secs(2);

/// A broker's line about itself, up to the group.
const LED: &str = "became leader group=";

/// Looks between the steps of a simulation.
pub(crate) struct Observer {
    trace: Trace,
    history: Shared,
    disks: Vec<TracedDisk>,
    /// Bytes of the trace that were read.
    read: usize,
    votes: Vec<Votes>,
    votes_at: Duration,
    logs_at: Duration,
    /// Who was the last to lead each group.
    leaders: BTreeMap<String, BrokerId>,
    /// The broker that lost its disk, and the votes that were on it.
    wiped: Option<(u32, Votes)>,
    /// Replicas with damage on their disks: the broker and the group.
    rotten: BTreeSet<(u32, String)>,
}

impl Observer {
    /// Nothing has been seen yet.
    pub(crate) fn new(trace: Trace, history: Shared, disks: Vec<TracedDisk>) -> Self {
        let votes = vec![Votes::new(); disks.len()];
        let (votes_at, logs_at) = (Duration::ZERO, Duration::ZERO);
        let (leaders, wiped, rotten) = (BTreeMap::new(), None, BTreeSet::new());
        Self { trace, history, disks, read: 0, votes, votes_at, logs_at, leaders, wiped, rotten }
    }

    /// `broker` is about to get another disk, an empty one.
    pub(crate) fn wipes(&mut self, broker: u32) {
        self.look_at_votes();
        let votes = std::mem::take(&mut self.votes[broker as usize - 1]);
        self.wiped = Some((broker, votes));
    }

    /// A bit has flipped on the disk of `broker`, in the log of `group`.
    pub(crate) fn rotted(&mut self, broker: u32, group: String) {
        self.rotten.insert((broker, group));
    }

    /// Replicas that must find their damage and step out until it is mended: the broker and the group.
    pub(crate) const fn rotten(&self) -> &BTreeSet<(u32, String)> {
        &self.rotten
    }

    /// Who was the last to lead the `n`th group, counted round and round.
    pub(crate) fn leader(&self, n: u64) -> Option<BrokerId> {
        let n = n.checked_rem(self.leaders.len() as u64)?;
        self.leaders.values().nth(n as usize).copied()
    }

    /// Looks at what has happened up to `now`.
    pub(crate) fn step(&mut self, now: Duration) {
        let elected = self.elected();
        let logs_due = now >= self.logs_at;
        if now >= self.votes_at || logs_due || !elected.is_empty() {
            self.votes_at = now + VOTES_EVERY;
            self.look_at_votes();
        }
        for (leader, group, term) in elected {
            // A vote counts that reached the candidate before, or after, its disk was lost.
            let mut votes = self.votes.clone();
            if let Some((broker, lost)) = &self.wiped {
                votes[*broker as usize - 1].clone_from(lost);
            }
            let found = leaders_have_durable_votes::check(leader, &group, term, &votes);
            self.history.note("leaders_have_durable_votes", found);
            self.leaders.insert(group, leader);
        }
        if logs_due {
            self.logs_at = now + LOGS_EVERY;
            for (n, disk) in self.disks.iter().enumerate() {
                let terms = votes::last_terms(disk);
                let found = votes_cover_the_log::check(n as u32 + 1, &self.votes[n], &terms);
                self.history.note("votes_cover_the_log", found);
            }
        }
    }

    /// Who began to lead since the last look.
    fn elected(&mut self) -> Vec<(BrokerId, String, Term)> {
        let from = self.read;
        let (elected, read) = self.trace.look(|text| {
            let new = text[from..].lines().filter(|line| line.contains(LED));
            (new.filter_map(parse).collect(), text.len())
        });
        self.read = read;
        elected
    }

    fn look_at_votes(&mut self) {
        for n in 0..self.disks.len() {
            match votes::durable(&self.disks[n]) {
                Ok(votes) => {
                    let found = votes_never_go_back::check(n as u32 + 1, &self.votes[n], &votes);
                    self.history.note("votes_never_go_back", found);
                    let wiped =
                        self.wiped.as_ref().is_some_and(|(broker, _)| *broker == n as u32 + 1);
                    self.history.note(
                        "wiped_brokers_stay_out",
                        wiped_brokers_stay_out::check(wiped, &votes),
                    );
                    self.votes[n] = votes;
                }
                Err(what) => self.history.note("votes_never_go_back", Err(what)),
            }
        }
    }
}

/// The broker, the group and the term of a line of a new leader.
fn parse(line: &str) -> Option<(BrokerId, String, Term)> {
    let broker = line.split("name=\"broker-").nth(1)?.split('"').next()?.parse().ok()?;
    let (group, term) = line.split(LED).nth(1)?.split_once(" epoch=")?;
    let term = term.split_whitespace().next()?.parse().ok()?;
    Some((BrokerId(broker), group.to_owned(), Term(term)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_of_a_new_leader_is_read() {
        let line = "1 log INFO node{name=\"broker-2\"}: x: became leader group=abc-0 epoch=7";
        assert_eq!(parse(line), Some((BrokerId(2), "abc-0".to_owned(), Term(7))));
    }
}
