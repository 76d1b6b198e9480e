//! How a group's members come to be those that they should be: one change at a time, by its leader.
//!
//! Each step is read off the group's own log, so any leader goes on where another stopped: a half-done
//! change is finished first; who is missing learns; once all that should vote have what the leader has,
//! they vote and the others do not, by joint consensus; who neither votes nor should is let go. A leader
//! that should not stay hands over before.

use std::collections::BTreeSet;

use openraft::ChangeMembers;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::Precondition;
use tidelog_types::{LogIndex, LogPosition, NodeId, Term};

use crate::config::{LeaderId, Members, StoredMembership, position};
use crate::leadership::Role;
use crate::replica::{Campaigner, Refused, Replica};
use crate::store::applier::Machine;

/// Entries that a learner may lack when it is given its vote. More: a majority may wait for it longer.
/// Fewer: under load it comes close enough later.
const LAG_ENTRIES_MAX: u64 = 1_000;

/// How far a group is on its way to the members that it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberStep {
    /// It is there: exactly these vote, and nobody else takes part. A majority confirmed this leader
    /// after the call began, and before it looked.
    There {
        /// Where the membership stands in the log; committed.
        at: LogPosition,
        /// Who votes.
        voters: Vec<NodeId>,
    },
    /// One change was made; there may be more to do.
    Changed,
    /// Nothing can be done until a learner has caught up, or an earlier change is committed.
    Waiting {
        /// Nodes that learn, with the entries that each still lacks.
        learners: Vec<(NodeId, u64)>,
    },
}

/// Why no step was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// This node does not lead, or not in the given term.
    #[error("not the leader of the group in that term")]
    NotLeader,
    /// The reason in one line; the change may have been made.
    #[error("{0}")]
    Failed(String),
}

/// The members that a group should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Who should vote; not empty.
    pub voters: BTreeSet<NodeId>,
    /// Who should follow without a vote.
    pub learners: BTreeSet<NodeId>,
}

/// What the log says next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Finishes a joint membership.
    Finish,
    Learn(BTreeSet<NodeId>),
    Wait(Vec<(NodeId, u64)>),
    HandOver(NodeId),
    Vote(BTreeSet<NodeId>),
    Forget(BTreeSet<NodeId>),
    Nothing,
}

impl Next {
    /// Who is to vote and lacks much.
    fn learners(&self, target: &Target) -> BTreeSet<NodeId> {
        match self {
            Self::Learn(nodes) => nodes.intersection(&target.voters).copied().collect(),
            Self::Wait(behind) => behind.iter().map(|(node, _)| *node).collect(),
            _ => BTreeSet::new(),
        }
    }
}

impl<M: Machine> Replica<M> {
    /// Takes one step towards `target`, which must have been asked for after this node was elected in
    /// `term`. Leader only. Cancelling may leave the change half done; the next step finishes it.
    pub(crate) async fn step_towards(
        &self,
        term: Term,
        target: &Target,
        campaign: &dyn Campaigner,
    ) -> Result<MemberStep, MemberError> {
        self.linearize().await.map_err(refused)?;
        let now = *self.leadership.borrow();
        if now.role != Role::Leader || now.term != term {
            return Err(MemberError::NotLeader);
        }
        let metrics = self.metrics();
        let stored: &StoredMembership = &metrics.membership_config;
        let at = stored.log_id().as_ref().map(position);
        let committed = metrics.local_committed.as_ref().map(position);
        let Some(at) = at.filter(|at| committed.is_some_and(|committed| *at <= committed)) else {
            return Ok(MemberStep::Waiting { learners: Vec::new() });
        };
        let last = metrics.last_log_index.unwrap_or_default();
        let matched = |node: &NodeId| {
            let known = metrics.replication.iter().flatten().find(|(id, _)| *id == node);
            known.and_then(|(_, at)| at.as_ref()).map(|at| LogIndex(at.index))
        };
        let lag = |node: &NodeId| last.saturating_sub(matched(node).map_or(0, |at| at.0));
        // It holds the membership by which it learns: then it holds again whatever it had before it gave
        // an earlier replica up, and its vote counts.
        let is_whole = |node: &NodeId| matched(node).is_some_and(|matched| matched >= at.index);
        let live = |node: &NodeId| campaign.is_live(*node);
        let next = next(stored.membership(), target, self.me, lag, is_whole, live);
        // Before any of it is sent.
        campaign.learn(self.group, term, next.learners(target));
        let change = match next {
            Next::Nothing => {
                let voters = stored.membership().voter_ids().collect();
                return Ok(MemberStep::There { at, voters });
            }
            Next::Wait(learners) => return Ok(MemberStep::Waiting { learners }),
            Next::HandOver(to) => {
                self.transfer(to, campaign).await.map_err(refused)?;
                return Ok(MemberStep::Changed);
            }
            Next::Finish => ChangeMembers::AddVoterIds(BTreeSet::new()),
            Next::Learn(nodes) => {
                ChangeMembers::AddNodes(nodes.into_iter().map(|node| (node, ())).collect())
            }
            Next::Vote(nodes) => ChangeMembers::ReplaceAllVoters(nodes),
            Next::Forget(nodes) => ChangeMembers::RemoveNodes(nodes),
        };
        // Only in the term for which the target was asked for, and on what was looked at.
        let as_seen = [
            Precondition::CommittedLeaderId { committed_leader_id: LeaderId::new(term.0) },
            Precondition::LastMembershipLogId { last_membership_log_id: *stored.log_id() },
        ];
        match self.raft.change_membership_if(change, false, as_seen).await {
            Ok(_) => Ok(MemberStep::Changed),
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_),
            ))) => Ok(MemberStep::Waiting { learners: Vec::new() }),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                Err(MemberError::NotLeader)
            }
            Err(err) => Err(MemberError::Failed(err.to_string())),
        }
    }
}

/// The next step of a group with these committed members.
fn next(
    members: &Members,
    target: &Target,
    me: NodeId,
    lag: impl Fn(&NodeId) -> u64,
    is_whole: impl Fn(&NodeId) -> bool,
    live: impl Fn(&NodeId) -> bool,
) -> Next {
    let configs = members.get_joint_config();
    if let Some(coming) = configs.last().filter(|_| configs.len() > 1) {
        let heir = coming.iter().find(|node| live(node)).filter(|_| !coming.contains(&me));
        return heir.map_or(Next::Finish, |heir| Next::HandOver(*heir));
    }
    let voters: BTreeSet<NodeId> = members.voter_ids().collect();
    let learners: BTreeSet<NodeId> = members.learner_ids().collect();
    let wanted = target.voters.union(&target.learners);
    let missing: BTreeSet<NodeId> =
        wanted.filter(|node| !voters.contains(node) && !learners.contains(node)).copied().collect();
    if !missing.is_empty() {
        return Next::Learn(missing);
    }
    if voters == target.voters {
        let strays: BTreeSet<NodeId> = learners.difference(&target.learners).copied().collect();
        return if strays.is_empty() { Next::Nothing } else { Next::Forget(strays) };
    }
    let target = &target.voters;
    let learning = target.intersection(&learners).map(|node| (*node, lag(node)));
    let is_behind = |(node, lag): &(NodeId, u64)| *lag > LAG_ENTRIES_MAX || !is_whole(node);
    let behind: Vec<_> = learning.filter(is_behind).collect();
    if !behind.is_empty() {
        return Next::Wait(behind);
    }
    if target.contains(&me) {
        return Next::Vote(target.clone());
    }
    match voters.intersection(target).find(|node| live(node)) {
        Some(heir) => Next::HandOver(*heir),
        // Nobody who votes is to stay: all vote for a while, and then one of the new ones leads.
        None if target.is_subset(&voters) => Next::Wait(Vec::new()),
        None => Next::Vote(voters.union(target).copied().collect()),
    }
}

fn refused(refused: Refused) -> MemberError {
    match refused {
        Refused::NotLeader(_) => MemberError::NotLeader,
        Refused::Other(reason) => MemberError::Failed(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(list: &[u32]) -> BTreeSet<NodeId> {
        list.iter().map(|broker| NodeId::new(*broker, 1)).collect()
    }

    fn node(broker: u32) -> NodeId {
        NodeId::new(broker, 1)
    }

    fn voting(list: &[u32]) -> Target {
        Target { voters: nodes(list), ..Target::default() }
    }

    /// The next step of node 1, which leads; whose lag is given is behind, and the others are not.
    fn step(configs: &[&[u32]], learners: &[u32], target: &[u32], behind: &[u32]) -> Next {
        let configs = configs.iter().map(|config| nodes(config)).collect();
        let members = Members::new_with_defaults(configs, nodes(learners));
        let lag = |node: &NodeId| {
            if nodes(behind).contains(node) { LAG_ENTRIES_MAX + 1 } else { LAG_ENTRIES_MAX }
        };
        next(&members, &voting(target), node(1), lag, |_| true, |_| true)
    }

    #[test]
    fn each_step_follows_from_the_members_alone() {
        let three: &[&[u32]] = &[&[1, 2, 3]];
        assert_eq!(step(three, &[], &[1, 2, 3], &[]), Next::Nothing);
        // One is swapped for another.
        assert_eq!(step(three, &[], &[1, 2, 4], &[]), Next::Learn(nodes(&[4])));
        assert_eq!(step(three, &[4], &[1, 2, 4], &[4]), Next::Wait(vec![(node(4), 1_001)]));
        assert_eq!(step(three, &[4], &[1, 2, 4], &[]), Next::Vote(nodes(&[1, 2, 4])));
        assert_eq!(step(&[&[1, 2, 3], &[1, 2, 4]], &[], &[1, 2, 4], &[]), Next::Finish);
        // A move that was called off leaves a learner, or a half-done change.
        assert_eq!(step(three, &[4], &[1, 2, 3], &[]), Next::Forget(nodes(&[4])));
        assert_eq!(step(&[&[1, 2, 3], &[1, 2, 4]], &[], &[1, 2, 3], &[]), Next::Finish);
        // Fewer replicas, or more.
        assert_eq!(step(three, &[], &[1], &[]), Next::Vote(nodes(&[1])));
        assert_eq!(step(&[&[1]], &[], &[1, 2, 3], &[]), Next::Learn(nodes(&[2, 3])));
    }

    #[test]
    fn a_leader_that_is_not_to_stay_hands_over_first() {
        let three: &[&[u32]] = &[&[1, 2, 3]];
        assert_eq!(step(three, &[], &[2, 3], &[]), Next::HandOver(node(2)));
        assert_eq!(step(three, &[4, 5, 6], &[4, 5, 6], &[5]), Next::Wait(vec![(node(5), 1_001)]));
        let all = nodes(&[1, 2, 3, 4, 5, 6]);
        assert_eq!(step(three, &[4, 5, 6], &[4, 5, 6], &[]), Next::Vote(all));
        assert_eq!(step(&[&[1, 2, 3, 4, 5, 6]], &[], &[4, 5, 6], &[]), Next::HandOver(node(4)));
        // Another leader began it, and died.
        assert_eq!(step(&[&[1, 2, 3], &[2, 3, 4]], &[], &[2, 3, 4], &[]), Next::HandOver(node(2)));
    }

    #[test]
    fn who_should_follow_without_a_vote_does() {
        let target = |voters: &[u32], learners: &[u32]| Target {
            voters: nodes(voters),
            learners: nodes(learners),
        };
        let step = |voters: &[u32], learners: &[u32], target: &Target| {
            let members = Members::new_with_defaults(vec![nodes(voters)], nodes(learners));
            next(&members, target, node(1), |_| 0, |_| true, |_| true)
        };
        let first = target(&[1, 2, 3], &[4]);
        assert_eq!(step(&[1, 2, 3], &[], &first), Next::Learn(nodes(&[4])));
        assert_eq!(step(&[1, 2, 3], &[4], &first), Next::Nothing);
        let five = target(&[1, 2, 3, 4, 5], &[]);
        assert_eq!(step(&[1, 2, 3], &[4], &five), Next::Learn(nodes(&[5])));
        assert_eq!(step(&[1, 2, 3], &[4, 5], &five), Next::Vote(nodes(&[1, 2, 3, 4, 5])));
        // A voter that should only follow is let go first, and learns anew.
        let fewer = target(&[1, 2, 3], &[4, 5]);
        assert_eq!(step(&[1, 2, 3, 4, 5], &[], &fewer), Next::Vote(nodes(&[1, 2, 3])));
        assert_eq!(step(&[1, 2, 3], &[], &fewer), Next::Learn(nodes(&[4, 5])));
    }

    /// Seed 62 of the simulation once: it was short of entries, and yet had none.
    #[test]
    fn nobody_votes_before_it_holds_the_membership_by_which_it_learns() {
        let members = Members::new_with_defaults(vec![nodes(&[1, 2, 3])], nodes(&[4]));
        let next =
            |whole: bool| next(&members, &voting(&[1, 2, 4]), node(1), |_| 9, |_| whole, |_| true);
        assert_eq!(next(false), Next::Wait(vec![(node(4), 9)]));
        assert_eq!(next(true), Next::Vote(nodes(&[1, 2, 4])));
    }

    #[test]
    fn leadership_goes_to_nobody_who_is_gone() {
        let members = Members::new_with_defaults(vec![nodes(&[1, 2, 3])], nodes(&[]));
        let live = |node: &NodeId| node.broker.0 == 3;
        let next = next(&members, &voting(&[2, 3]), node(1), |_| 0, |_| true, live);
        assert_eq!(next, Next::HandOver(node(3)));
    }
}
