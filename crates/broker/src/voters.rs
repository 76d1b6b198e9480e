//! Who takes part in the metadata group: every broker follows it, and one, three or five of them vote,
//! as many as the cluster's size allows. Only the leader of the group does anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidelog_raft::{MemberError, MemberStep, Role, Target};
use tidelog_state::metadata::Machine;
use tidelog_types::NodeId;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::cluster::Cluster;
use crate::mover::shown;

/// How often it is looked at, whatever was missed: who is alive changes without a word.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Pause between two steps.
const STEP_PAUSE: Duration = Duration::from_millis(50);

/// How long one step may take: a change of members needs a majority.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// Numbers of voters: each is odd, for an even one bears no more losses than the odd one below it.
const SIZES: [usize; 3] = [5, 3, 1];

/// A broker that could vote.
#[derive(Clone, Debug)]
struct Candidate {
    node: NodeId,
    rack: Option<String>,
    /// It has said where it is reached.
    is_registered: bool,
    is_live: bool,
    /// Its replicas are to go elsewhere.
    is_draining: bool,
}

/// Keeps the members of the metadata group until the node stops.
pub(crate) async fn follow(cluster: Arc<Cluster>) {
    let mut changes = cluster.machine_changes();
    let mut on_the_way = false;
    loop {
        changes.borrow_and_update();
        on_the_way = step(&cluster, on_the_way).await;
        if on_the_way {
            sleep(STEP_PAUSE).await;
        } else if let Ok(Err(_)) = timeout(LOOK_EVERY, changes.changed()).await {
            // The replica of the metadata has stopped.
            return;
        }
    }
}

/// Takes a step, if there is one to take, and tells whether there may be more.
async fn step(cluster: &Cluster, on_the_way: bool) -> bool {
    let now = *cluster.metadata.leadership().borrow();
    let machine = cluster.machine();
    if now.role != Role::Leader || !now.ready || machine.cluster().is_none() {
        return false;
    }
    // What this leader knows is the newest there is: it has applied an entry of its own term.
    let status = cluster.metadata.raft_status();
    let voters: BTreeSet<NodeId> = status.voters.iter().copied().collect();
    let learners: BTreeSet<NodeId> = status.learners.iter().copied().collect();
    let target = target(&candidates(cluster, &machine), &voters);
    if target == (Target { voters, learners }) {
        if on_the_way {
            let (voters, learners) = (shown(&target.voters), shown(&target.learners));
            info!(%voters, %learners, "the metadata group has its members");
        }
        return false;
    }
    match timeout(STEP_TIMEOUT, cluster.metadata.step_towards(now.term, &target)).await {
        Ok(Ok(MemberStep::Changed)) => {
            let (voters, learners) = (shown(&target.voters), shown(&target.learners));
            debug!(%voters, %learners, "the metadata group came one step closer to its members");
        }
        Ok(Ok(step)) => debug!(?step, "the metadata group is on its way"),
        Ok(Err(MemberError::NotLeader)) => return false,
        Ok(Err(err)) => warn!(%err, "the metadata group does not get its members yet"),
        Err(_) => warn!("the metadata group does not get its members yet: no majority answers"),
    }
    true
}

fn candidates(cluster: &Cluster, machine: &Machine) -> Vec<Candidate> {
    let live = cluster.node.live();
    let candidate = |broker: &tidelog_state::metadata::Broker| Candidate {
        node: broker.node(),
        rack: broker.rack.clone(),
        is_registered: !broker.addresses.is_empty(),
        is_live: live.contains(&broker.node()),
        is_draining: broker.is_draining,
    };
    machine.brokers().map(candidate).collect()
}

/// The members that the group should have, which has these `voters` now.
///
/// Who votes goes on to vote, alive or not, for as long as it is in the cluster and there are not too
/// many. Others are added only while they are alive, and only as many as make the number odd. A broker
/// that is being drained votes only where fewer than three others could, or one of them is gone.
fn target(brokers: &[Candidate], voters: &BTreeSet<NodeId>) -> Target {
    let votes = |one: &&Candidate| voters.contains(&one.node);
    let (mut kept, others): (Vec<&Candidate>, Vec<&Candidate>) = brokers.iter().partition(votes);
    let could = |one: &&Candidate| one.is_registered && one.is_live && !one.is_draining;
    let mut fresh: Vec<&Candidate> = others.into_iter().filter(could).collect();
    // Too many: those that are gone are let go first, then the newest.
    kept.sort_by_key(|one| (!one.is_live, one.node));
    let all = kept.len() + fresh.len();
    let (draining, mut chosen): (Vec<&Candidate>, Vec<&Candidate>) =
        kept.into_iter().partition(|one| one.is_draining);
    let size_of = |most: usize| SIZES.into_iter().find(|size| *size <= most).unwrap_or(0);
    let size = size_of(chosen.len() + fresh.len()).max(size_of(all.min(3)));
    chosen.truncate(size);
    while chosen.len() < size && !fresh.is_empty() {
        chosen.push(fresh.remove(next_by_rack(&chosen, &fresh)));
    }
    let mut draining = draining.into_iter();
    while chosen.len() < size
        && let Some(one) = draining.next()
    {
        chosen.push(one);
    }
    for gone in chosen.iter_mut().filter(|one| !one.is_live) {
        if let Some(one) = draining.next().filter(|one| one.is_live) {
            *gone = one;
        }
    }
    let voters: BTreeSet<NodeId> = chosen.iter().map(|one| one.node).collect();
    let follows = |one: &&Candidate| one.is_registered && !voters.contains(&one.node);
    let learners = brokers.iter().filter(follows).map(|one| one.node).collect();
    Target { voters, learners }
}

/// Which of `fresh` stands in the rack with the fewest voters; without a rack it is its own.
fn next_by_rack(chosen: &[&Candidate], fresh: &[&Candidate]) -> usize {
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    for rack in chosen.iter().filter_map(|one| one.rack.as_deref()) {
        *used.entry(rack).or_default() += 1;
    }
    let voters_there =
        |one: &Candidate| one.rack.as_deref().and_then(|rack| used.get(rack)).copied().unwrap_or(0);
    let at = (0..fresh.len()).min_by_key(|at| (voters_there(fresh[*at]), fresh[*at].node));
    at.expect("there is one to take")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(id: u32) -> Candidate {
        let node = NodeId::new(id, 1);
        Candidate { node, rack: None, is_registered: true, is_live: true, is_draining: false }
    }

    fn dead(id: u32) -> Candidate {
        Candidate { is_live: false, ..broker(id) }
    }

    fn drained(id: u32) -> Candidate {
        Candidate { is_draining: true, ..broker(id) }
    }

    fn within(id: u32, rack: &str) -> Candidate {
        Candidate { rack: Some(rack.to_owned()), ..broker(id) }
    }

    /// Ids of the voters and learners that should be, when these vote now.
    fn of(brokers: &[Candidate], voters: &[u32]) -> (Vec<u32>, Vec<u32>) {
        let voters = voters.iter().map(|id| NodeId::new(*id, 1)).collect();
        let target = target(brokers, &voters);
        let ids = |nodes: BTreeSet<NodeId>| nodes.into_iter().map(|node| node.broker.0).collect();
        (ids(target.voters), ids(target.learners))
    }

    #[test]
    fn one_three_or_five_vote_and_the_others_follow() {
        let all: Vec<_> = (1..=7).map(broker).collect();
        assert_eq!(of(&all[..1], &[1]), (vec![1], vec![]));
        assert_eq!(of(&all[..2], &[1]), (vec![1], vec![2]));
        assert_eq!(of(&all[..3], &[1]), (vec![1, 2, 3], vec![]));
        assert_eq!(of(&all[..4], &[1, 2, 3]), (vec![1, 2, 3], vec![4]));
        assert_eq!(of(&all[..5], &[1, 2, 3]), (vec![1, 2, 3, 4, 5], vec![]));
        assert_eq!(of(&all, &[3, 4, 5, 6, 7]), (vec![3, 4, 5, 6, 7], vec![1, 2]));
        // Brokers have left the cluster.
        assert_eq!(of(&all[..4], &[1, 2, 3, 4, 5]), (vec![1, 2, 3], vec![4]));
        assert_eq!(of(&all[..2], &[1, 2, 3]), (vec![1], vec![2]));
        let rest = [broker(1), broker(4), broker(5)];
        assert_eq!(of(&rest, &[1, 2, 3]), (vec![1, 4, 5], vec![]));
    }

    #[test]
    fn who_is_gone_keeps_its_vote_and_is_given_none() {
        let three = [broker(1), dead(2), dead(3)];
        assert_eq!(of(&three, &[1, 2, 3]), (vec![1, 2, 3], vec![]));
        let five = [broker(1), broker(2), broker(3), broker(4), dead(5)];
        assert_eq!(of(&five, &[1, 2, 3]), (vec![1, 2, 3], vec![4, 5]));
        assert_eq!(of(&five, &[1, 2, 3, 4, 5]), (vec![1, 2, 3, 4, 5], vec![]));
        let four = [broker(1), dead(2), broker(3), broker(4)];
        assert_eq!(of(&four, &[1, 2, 3, 4]), (vec![1, 3, 4], vec![2]));
        // It has an id and has not been heard of.
        let silent = Candidate { is_registered: false, ..broker(3) };
        assert_eq!(of(&[broker(1), broker(2), silent], &[1]), (vec![1], vec![2]));
    }

    #[test]
    fn who_is_being_drained_votes_only_where_it_must() {
        let five = [drained(1), drained(2), broker(3), broker(4), broker(5)];
        assert_eq!(of(&five, &[1, 2, 3, 4, 5]), (vec![3, 4, 5], vec![1, 2]));
        assert_eq!(of(&[drained(1), broker(2), broker(3)], &[1, 2, 3]), (vec![1, 2, 3], vec![]));
        let four = [broker(1), Candidate { is_draining: true, ..dead(2) }, broker(3), broker(4)];
        assert_eq!(of(&four, &[1, 2, 3]), (vec![1, 3, 4], vec![2]));
        assert_eq!(of(&[drained(1), broker(2)], &[1]), (vec![2], vec![1]));
        assert_eq!(of(&[drained(1)], &[1]), (vec![1], vec![]));
        // It is alive, and others are not.
        let gone = [drained(1), drained(2), broker(3), dead(4), dead(5)];
        assert_eq!(of(&gone, &[1, 2, 3, 4, 5]), (vec![1, 2, 3], vec![4, 5]));
        let one_gone = [drained(1), drained(2), broker(3), broker(4), dead(5)];
        assert_eq!(of(&one_gone, &[1, 2, 3, 4, 5]), (vec![1, 3, 4], vec![2, 5]));
    }

    #[test]
    fn votes_are_spread_over_racks() {
        let brokers = [within(1, "a"), within(2, "a"), within(3, "a"), within(4, "b")];
        assert_eq!(of(&brokers, &[1]).0, [1, 2, 4]);
    }
}
