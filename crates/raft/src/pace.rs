//! How fast replicas that join a group are sent what they lack, so that whoever moves much leaves room
//! for those who produce and consume.
//!
//! Only what goes to a node that *learns* counts, and only while it lacks much: who votes, or is about
//! to, is never held up. All learners of a node share one rate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tidelog_types::{GroupId, NodeId, Term};
use tokio::time::{Instant, sleep_until};

/// How often a node that is held up is looked at: it may have been given its vote.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The pace of what this node sends to those that learn from it.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Bytes a second; 0: as fast as it goes.
    rate_max: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Who learns in the groups that this node leads, and since which term it does. What was noted in
    /// an earlier term says nothing: somebody else may have made them voters since.
    learning: BTreeMap<GroupId, (Term, BTreeSet<NodeId>)>,
    /// When what was sent so far may have been sent.
    free_at: Instant,
}

impl Pace {
    pub(crate) fn new(rate_max: u64) -> Self {
        let state = State { learning: BTreeMap::new(), free_at: Instant::now() };
        Self { rate_max, state: Mutex::new(state) }
    }

    /// From now on these nodes learn in the group, and no others.
    pub(crate) fn learn(&self, group: GroupId, term: Term, nodes: BTreeSet<NodeId>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if nodes.is_empty() {
            state.learning.remove(&group);
        } else {
            state.learning.insert(group, (term, nodes));
        }
    }

    /// Counts bytes that go to a node, and tells when more may go there, if it is held up.
    pub(crate) fn take(
        &self,
        group: GroupId,
        term: Term,
        node: NodeId,
        bytes: usize,
    ) -> Option<Instant> {
        if self.rate_max == 0 {
            return None;
        }
        if !self.is_learning(group, term, node) {
            return None;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let takes = Duration::from_secs_f64(bytes as f64 / self.rate_max as f64);
        state.free_at = state.free_at.max(Instant::now()) + takes;
        Some(state.free_at)
    }

    /// Waits until `at`, or until the node does not learn any more. Cancel safe.
    pub(crate) async fn wait(&self, group: GroupId, term: Term, node: NodeId, at: Instant) {
        while at > Instant::now() && self.is_learning(group, term, node) {
            sleep_until(at.min(Instant::now() + LOOK_EVERY)).await;
        }
    }

    fn is_learning(&self, group: GroupId, term: Term, node: NodeId) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = state.learning.get(&group);
        noted.is_some_and(|(noted, nodes)| *noted == term && nodes.contains(&node))
    }
}

#[cfg(test)]
mod tests {
    use tidelog_types::{PartitionId, TopicId};

    use super::*;

    fn node(id: u32) -> NodeId {
        NodeId::new(id, 1)
    }

    #[tokio::test(start_paused = true)]
    async fn all_learners_share_the_rate_and_nobody_else_waits() {
        let pace = Pace::new(1_000);
        let group = |number| GroupId::new(TopicId(300), PartitionId(number));
        let wait = |number, term, id, bytes| {
            let until = pace.take(group(number), Term(term), node(id), bytes);
            until.map(|at| at.duration_since(Instant::now()).as_millis())
        };
        pace.learn(group(0), Term(3), BTreeSet::from([node(4)]));
        pace.learn(group(1), Term(1), BTreeSet::from([node(5)]));
        assert_eq!(wait(0, 3, 4, 500), Some(500));
        assert_eq!(wait(1, 1, 5, 1_000), Some(1_500));
        // Voters, other groups, and terms of which nothing is known.
        assert_eq!(
            (wait(0, 3, 5, 500), wait(2, 3, 4, 500), wait(0, 4, 4, 500)),
            (None, None, None)
        );
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(wait(0, 3, 4, 100), Some(100));
        pace.learn(group(0), Term(3), BTreeSet::new());
        assert_eq!(wait(0, 3, 4, 500), None);
        let unlimited = Pace::new(0);
        unlimited.learn(group(0), Term(3), BTreeSet::from([node(4)]));
        assert_eq!(unlimited.take(group(0), Term(3), node(4), 500), None);
    }
}
