//! How a replica falls asleep and wakes: see [`Quiescence`](crate::quiescence::Quiescence).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use tidelog_types::{LogIndex, NodeId, Term};
use tokio::time::{Instant, timeout};

use super::{Member, Replica};
use crate::config::{LogId, position};
use crate::latest::latest;
use crate::leadership::Role;
use crate::quiescence::Led;
use crate::store::applier::Machine;

/// How old the last answer of a member may be to a leader that offers it to sleep.
const HEARD_MAX: Duration = Duration::from_secs(1);

/// How long a leader that woke waits for its quorum to answer.
const ROUSE_PATIENCE: Duration = Duration::from_millis(500);

impl<M: Machine> Replica<M> {
    /// Wakes the group if it sleeps, and waits until a leader's lease is renewed: the engine refuses what
    /// is proposed before. For whatever this replica is about to do in its group.
    pub(crate) async fn rouse(&self) {
        self.quiescence.touch();
        // Only a leader proposes; what others are asked their engines refuse, and they sleep on.
        if self.quiescence.is_settled() || self.leadership.borrow().role != Role::Leader {
            return;
        }
        let _one = self.quiescence.settling.lock().await;
        if self.quiescence.is_settled() {
            return;
        }
        let woken = Instant::now();
        self.quiescence.wake();
        // Without a quorum the engine refuses, as it does when it is awake.
        drop(timeout(ROUSE_PATIENCE, self.renew_lease(woken)).await);
        self.quiescence.settle();
    }

    async fn renew_lease(&self, since: Instant) {
        if self.voters() == BTreeSet::from([self.me]) {
            return;
        }
        let mut metrics = self.raft.metrics();
        // An engine that has stopped refuses what comes, too.
        let _ = self.raft.trigger().heartbeat().await;
        loop {
            let is_over = latest(&metrics, |now| {
                let acked = now.last_quorum_acked.is_some_and(|at| at.elapsed() <= since.elapsed());
                acked || now.current_leader != Some(self.me)
            });
            if is_over || metrics.changed().await.is_err() {
                return;
            }
        }
    }

    pub(super) fn settle(&self) {
        let replica = self.clone();
        tokio::spawn(async move { replica.rouse().await });
    }

    /// Offers sleep to the others, if this replica leads and all have what it has.
    pub(super) fn fall_asleep(&self, able: &BTreeSet<NodeId>) {
        let now = *self.leadership.borrow();
        if now.role != Role::Leader || !now.ready {
            return;
        }
        if !self.quiescence.is_settled() {
            return self.settle();
        }
        let Some(last) = self.log.frontier().last.filter(|last| last.index < self.log.synced_end())
        else {
            return;
        };
        let led = latest(&self.raft.metrics(), |metrics| {
            let is_last = |at: &Option<LogId>| at.as_ref().map(position) == Some(last);
            let members = metrics.membership_config.membership();
            let others = members.nodes().map(|(node, ())| *node).filter(|node| *node != self.me);
            let others: Arc<[NodeId]> = others.collect();
            let has_all = |node| {
                let known = metrics.replication.iter().flatten().find(|(id, _)| *id == node);
                let heard = metrics.heartbeat.iter().flatten().find(|(id, _)| *id == node);
                let heard = heard.and_then(|(_, at)| at.as_ref());
                able.contains(node)
                    && known.is_some_and(|(_, at)| is_last(at))
                    // Its replica, not only its node.
                    && heard.is_some_and(|at| at.elapsed() < HEARD_MAX)
            };
            let is_quiet = metrics.current_term == now.term.0
                && members.get_joint_config().len() == 1
                && members.voter_ids().any(|voter| voter == self.me)
                && is_last(&metrics.local_committed)
                && is_last(&metrics.last_applied)
                && others.iter().all(has_all);
            let votes = |node: &NodeId| members.voter_ids().any(|voter| voter == *node);
            let voters = others.iter().copied().filter(votes).collect();
            is_quiet.then_some(Led { term: now.term, last: last.index, others, voters })
        });
        if let Some(led) = led {
            self.quiescence.offer(led);
        }
    }

    /// Whether this replica follows `leader` in `term` and has applied all that it has.
    pub(super) fn has_all_of(&self, leader: NodeId, term: Term, last: LogIndex) -> bool {
        let now = *self.leadership.borrow();
        let follows = matches!(now.role, Role::Follower | Role::Learner);
        let at = |at: Option<LogIndex>| at == Some(last);
        follows
            && now.leader == Some(leader)
            && now.term == term
            && at(self.log.frontier().last.map(|last| last.index))
            && at(latest(&self.raft.metrics(), |metrics| {
                metrics.last_applied.as_ref().map(|at| position(at).index)
            }))
    }
}
