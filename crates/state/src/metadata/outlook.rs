//! What becomes of the replicas of brokers that are gone, if they are made anew elsewhere.
//!
//! It is foretold with the very plan by which it is done, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_types::BrokerId;

use super::Machine;
use super::plan::{Grounds, evacuate};

/// What becomes of the replicas of one broker.
///
/// Invariant: `replicas` is the sum of `onto`, `without_place` and `without_quorum`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Partitions that should have a replica there.
    pub replicas: u32,
    /// Partitions that should have none there any more, and still count it as a member.
    pub moving: u32,
    /// How many replicas other brokers would be given.
    pub onto: BTreeMap<BrokerId, u32>,
    /// Replicas that no broker can take.
    pub without_place: u32,
    /// Replicas of partitions that cannot move: most of their voters are gone, or they never had a
    /// leader.
    pub without_quorum: u32,
}

/// What becomes of the replicas of each of the brokers `from`, if all of them are emptied, when `live` are
/// alive and `takers` may be given replicas.
#[must_use]
pub fn outlook(
    machine: &Machine,
    from: &BTreeSet<BrokerId>,
    live: &BTreeSet<BrokerId>,
    takers: &BTreeSet<BrokerId>,
) -> BTreeMap<BrokerId, Outlook> {
    let takers = takers.difference(from).copied().collect();
    let grounds = Grounds { takers: &takers, bytes: &BTreeMap::new(), moves_max: usize::MAX };
    let plan = evacuate(machine, from, grounds).moves.into_iter();
    let planned: BTreeMap<_, _> = plan.map(|one| (one.group, one.replicas)).collect();
    let mut all: BTreeMap<_, _> = from.iter().map(|id| (*id, Outlook::default())).collect();
    for (group, partition) in machine.live_partitions() {
        let after = planned.get(&group).unwrap_or(&partition.replicas);
        let has_majority = partition.has_majority(|node| live.contains(&node.broker));
        let can_move = !partition.is_creating() && has_majority;
        // A plan leaves every replica at its place in the order.
        for (old, new) in partition.replicas.iter().zip(after) {
            let Some(outlook) = all.get_mut(old) else { continue };
            outlook.replicas += 1;
            match (can_move, old == new) {
                (false, _) => outlook.without_quorum += 1,
                (true, true) => outlook.without_place += 1,
                (true, false) => *outlook.onto.entry(*new).or_default() += 1,
            }
        }
        for id in partition.brokers().difference(&partition.replicas.iter().copied().collect()) {
            if let Some(outlook) = all.get_mut(id) {
                outlook.moving += 1;
            }
        }
    }
    all
}
