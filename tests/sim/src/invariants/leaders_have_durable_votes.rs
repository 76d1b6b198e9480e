//! When a node takes itself for a leader, the votes for it are durable on a majority of the disks of
//! its group: a vote that can be forgotten can be given twice.

use tidelog_types::{BrokerId, GroupId, Term};

use crate::cluster::REPLICAS;
use crate::votes::Votes;

/// Looks for the votes that made `leader` lead `group` in `term`; each disk's votes stand in `disks`.
pub(crate) fn check(
    leader: BrokerId,
    group: &str,
    term: Term,
    disks: &[Votes],
) -> Result<(), String> {
    let of_group = |votes: &Votes| {
        let found = votes.iter().find(|(id, _)| GroupId::to_string(id) == group);
        found.map(|(_, vote)| *vote)
    };
    let votes: Vec<_> = disks.iter().map(of_group).collect();
    let granted = votes.iter().flatten().filter(|vote| {
        let same = vote.node.is_some_and(|node| node.broker == leader);
        vote.term > term || vote.term == term && same
    });
    let granted = granted.count();
    if granted > REPLICAS as usize / 2 {
        return Ok(());
    }
    Err(format!(
        "broker {leader} leads {group} in term {term} by {granted} durable votes: {votes:?}"
    ))
}

#[cfg(test)]
mod tests {
    use tidelog_log::Vote;
    use tidelog_types::NodeId;

    use super::*;

    #[test]
    fn leader_by_its_own_vote_alone_is_found() {
        let vote = |broker| {
            let node = Some(NodeId::new(broker, 1));
            Votes::from([(GroupId::default(), Vote { term: Term(3), node, committed: false })])
        };
        let group = GroupId::default().to_string();
        let check = |disks: &[Votes]| check(BrokerId(1), &group, Term(3), disks);
        assert_eq!(check(&[vote(1), vote(1), Votes::new()]), Ok(()));
        assert!(check(&[vote(1), vote(2), Votes::new()]).is_err());
    }
}
