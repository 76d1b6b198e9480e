//! Where replicas should rather be: away from brokers that are emptied, or spread evenly over all.
//!
//! A plan is a list of moves and changes nothing. It is made from the metadata, and from what only
//! brokers know: who may be given replicas, and how many bytes partitions have.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidelog_types::{BrokerId, GroupId, NodeId};

use super::{Broker, Machine, PartitionMove};

/// How far the bytes on two brokers may lie apart, in hundredths of what each holds on average, before
/// replicas are swapped for it, and by how much a swap has to bring them closer. Smaller: more is moved
/// for little, and back again as partitions grow.
const BYTES_APART_PERCENT: u64 = 10;

/// What a plan goes by besides the metadata.
#[derive(Clone, Copy, Debug)]
pub struct Grounds<'a> {
    /// Brokers that may be given replicas: alive, and not being drained.
    pub takers: &'a BTreeSet<BrokerId>,
    /// Bytes of partitions' logs; none are known of those that are missing.
    pub bytes: &'a BTreeMap<GroupId, u64>,
    /// The most partitions that move.
    pub moves_max: usize,
}

/// What is to move, and what that makes of the brokers that may take replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is to move.
    pub moves: Vec<PartitionMove>,
    /// What each broker carries, before and after.
    pub loads: BTreeMap<BrokerId, (Load, Load)>,
}

/// What a broker carries, by the partitions' targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Replicas.
    pub replicas: u64,
    /// Bytes of their logs, as far as they are known.
    pub bytes: u64,
    /// Partitions that it should lead.
    pub leaders: u64,
}

/// Moves that take replicas off the brokers `from`, each to the broker that then holds the fewest, from
/// a rack that has the fewest of the partition.
///
/// A partition for which there is no such broker is left out, and so is one without a first leader.
#[must_use]
pub fn evacuate(machine: &Machine, from: &BTreeSet<BrokerId>, grounds: Grounds<'_>) -> Plan {
    let mut board = Board::new(machine, grounds);
    for at in 0..board.places.len() {
        if !board.has_room(1) {
            break;
        }
        let leaving: Vec<_> =
            board.places[at].replicas.iter().copied().filter(|id| from.contains(id)).collect();
        for old in leaving {
            if let Some(new) = board.best_for(at, old) {
                board.put(at, old, new);
            }
        }
    }
    board.plan()
}

/// Moves after which brokers hold as many replicas as each other, as far as racks allow, then about as
/// many bytes, and should lead as many partitions.
#[must_use]
pub fn rebalance(machine: &Machine, grounds: Grounds<'_>) -> Plan {
    let mut board = Board::new(machine, grounds);
    board.spread_over_racks();
    board.even_counts();
    board.even_bytes();
    board.even_leaders();
    board.plan()
}

/// A partition, and where its replicas are planned.
#[derive(Debug)]
struct Place {
    group: GroupId,
    before: Vec<BrokerId>,
    replicas: Vec<BrokerId>,
    bytes: u64,
    /// Brokers that still delete a replica of it.
    barred: Vec<BrokerId>,
}

/// All partitions that can be moved, and what that makes of the brokers.
#[derive(Debug)]
struct Board<'a> {
    places: Vec<Place>,
    loads: BTreeMap<BrokerId, Load>,
    loads_before: BTreeMap<BrokerId, Load>,
    /// Racks of all brokers; one without is a rack of its own.
    racks: BTreeMap<BrokerId, (Option<&'a str>, Option<BrokerId>)>,
    moves_max: usize,
    /// Partitions that move by now.
    moved: usize,
}

impl<'a> Board<'a> {
    fn new(machine: &'a Machine, grounds: Grounds<'_>) -> Self {
        let rack = |broker: &'a Broker| {
            let rack = broker.rack.as_deref();
            (broker.id, (rack, rack.is_none().then_some(broker.id)))
        };
        let deletes = |node: NodeId| machine.broker(node.broker).map(Broker::node) == Some(node);
        let places = machine.live_partitions().filter(|(_, partition)| !partition.is_creating());
        let places = places.map(|(group, partition)| Place {
            group,
            before: partition.replicas.clone(),
            replicas: partition.replicas.clone(),
            bytes: grounds.bytes.get(&group).copied().unwrap_or_default(),
            barred: partition
                .leaving
                .iter()
                .filter(|leaving| leaving.released && deletes(leaving.node))
                .map(|leaving| leaving.node.broker)
                .collect(),
        });
        let mut board = Self {
            places: places.collect(),
            loads: grounds.takers.iter().map(|id| (*id, Load::default())).collect(),
            loads_before: BTreeMap::new(),
            racks: machine.brokers().map(rack).collect(),
            moves_max: grounds.moves_max,
            moved: 0,
        };
        for place in &board.places {
            for (n, id) in place.replicas.iter().enumerate() {
                if let Some(load) = board.loads.get_mut(id) {
                    load.replicas += 1;
                    load.bytes += place.bytes;
                    load.leaders += u64::from(n == 0);
                }
            }
        }
        board.loads_before = board.loads.clone();
        board
    }

    /// Whatever differs from what is.
    fn plan(self) -> Plan {
        let moved = self.places.into_iter().filter(|place| place.replicas != place.before);
        let moves = moved.map(|Place { group, replicas, .. }| PartitionMove { group, replicas });
        let both =
            self.loads_before.into_iter().map(|(id, before)| (id, (before, self.loads[&id])));
        Plan { moves: moves.collect(), loads: both.collect() }
    }

    /// Whether so many more partitions may move.
    fn has_room(&self, more: usize) -> bool {
        self.moved + more <= self.moves_max
    }

    /// Changes where a partition should be, and counts whether it moves by that.
    fn change(&mut self, at: usize, change: impl FnOnce(&mut Vec<BrokerId>)) {
        let place = &mut self.places[at];
        let moved = place.replicas != place.before;
        change(&mut place.replicas);
        self.moved += usize::from(place.replicas != place.before);
        self.moved -= usize::from(moved);
    }

    /// How many replicas of a partition stand in the rack of `broker`, not counting the one on `without`.
    fn in_rack_of(&self, at: usize, broker: BrokerId, without: BrokerId) -> usize {
        let others = self.places[at].replicas.iter().filter(|id| **id != without);
        others.filter(|id| self.racks.get(id) == self.racks.get(&broker)).count()
    }

    fn may_take(&self, at: usize, broker: BrokerId) -> bool {
        let place = &self.places[at];
        !place.replicas.contains(&broker) && !place.barred.contains(&broker)
    }

    /// Who should have the replica instead of `old`.
    fn best_for(&self, at: usize, old: BrokerId) -> Option<BrokerId> {
        let free = self.loads.iter().filter(|(id, _)| self.may_take(at, **id));
        let key = |(id, load): &(&BrokerId, &Load)| {
            (self.in_rack_of(at, **id, old), load.replicas, load.bytes, **id)
        };
        free.min_by_key(key).map(|(id, _)| *id)
    }

    /// Puts a replica elsewhere, at the same place in the order.
    fn put(&mut self, at: usize, old: BrokerId, new: BrokerId) {
        let place = &self.places[at];
        let n = place.replicas.iter().position(|id| *id == old).expect("it holds a replica");
        let (bytes, leads) = (place.bytes, u64::from(n == 0));
        self.change(at, |replicas| replicas[n] = new);
        if let Some(load) = self.loads.get_mut(&old) {
            load.replicas -= 1;
            load.bytes -= bytes;
            load.leaders -= leads;
        }
        if let Some(load) = self.loads.get_mut(&new) {
            load.replicas += 1;
            load.bytes += bytes;
            load.leaders += leads;
        }
    }

    /// Moves replicas out of racks that have several of a partition while others have none.
    fn spread_over_racks(&mut self) {
        for at in 0..self.places.len() {
            if !self.has_room(1) {
                return;
            }
            for old in self.places[at].replicas.clone() {
                let crowd = self.in_rack_of(at, old, old);
                let Some(new) = self.best_for(at, old).filter(|_| crowd > 0) else { continue };
                if self.in_rack_of(at, new, old) < crowd {
                    self.put(at, old, new);
                }
            }
        }
    }

    /// Takers by what they carry, the least first.
    fn by_load(&self, key: impl Fn(&Load) -> u64) -> Vec<(BrokerId, u64)> {
        let mut all: Vec<_> = self.loads.iter().map(|(id, load)| (*id, key(load))).collect();
        all.sort_by_key(|(id, carried)| (*carried, *id));
        all
    }

    /// Brokers between which something should go, the furthest apart first.
    fn pairs(&self, key: impl Fn(&Load) -> u64, apart: u64) -> Vec<(BrokerId, BrokerId)> {
        let all = self.by_load(key);
        let mut pairs = Vec::new();
        for (high, more) in all.iter().rev() {
            let lower = all.iter().take_while(|(_, less)| more - more.min(less) >= apart);
            pairs.extend(lower.map(|(low, less)| (more - less, *high, *low)));
        }
        pairs.sort_by_key(|(by, high, low)| (std::cmp::Reverse(*by), *high, *low));
        pairs.into_iter().map(|(_, high, low)| (high, low)).collect()
    }

    /// Partitions of which a replica could go from one broker to the other without crowding a rack.
    fn movable(&self, from: BrokerId, to: BrokerId) -> impl Iterator<Item = usize> {
        (0..self.places.len()).filter(move |at| {
            self.places[*at].replicas.contains(&from)
                && self.may_take(*at, to)
                && self.in_rack_of(*at, to, from) <= self.in_rack_of(*at, from, from)
        })
    }

    fn even_counts(&mut self) {
        // Each pass moves one replica from a broker with at least two more, so it ends.
        while self.has_room(1) {
            let pairs = self.pairs(|load| load.replicas, 2);
            let step = pairs.into_iter().find_map(|(high, low)| {
                // The one after which the bytes of both are closest.
                let gap = self.loads[&high].bytes as i128 - self.loads[&low].bytes as i128;
                let off = |at: &usize| (gap - 2 * i128::from(self.places[*at].bytes)).abs();
                Some((self.movable(high, low).min_by_key(off)?, high, low))
            });
            let Some((at, high, low)) = step else { return };
            self.put(at, high, low);
        }
    }

    /// Swaps replicas of large partitions for those of small ones.
    fn even_bytes(&mut self) {
        let all: u64 = self.loads.values().map(|load| load.bytes).sum();
        let average = all / self.loads.len().max(1) as u64;
        let apart = (average / 100 * BYTES_APART_PERCENT).max(1);
        // Each pass brings two brokers closer; there are never more passes than partitions.
        for _ in 0..self.places.len() {
            if !self.has_room(2) {
                return;
            }
            let pairs = self.pairs(|load| load.bytes, apart);
            let step = pairs
                .into_iter()
                .find_map(|(high, low)| Some((self.swap(high, low, apart)?, high, low)));
            let Some(((large, small), high, low)) = step else { return };
            self.put(large, high, low);
            self.put(small, low, high);
        }
    }

    /// Two partitions whose swap brings the bytes of two brokers closest, at least `by_at_least` closer.
    fn swap(&self, high: BrokerId, low: BrokerId, by_at_least: u64) -> Option<(usize, usize)> {
        let gap = self.loads[&high].bytes - self.loads[&low].bytes;
        let mut back: Vec<_> = self.movable(low, high).collect();
        back.sort_by_key(|at| (self.places[*at].bytes, *at));
        let best = self.movable(high, low).filter_map(|large| {
            // The small one that is closest to half of the gap below the large one.
            let bytes = self.places[large].bytes;
            let ideal = bytes.saturating_sub(gap / 2);
            let n = back.partition_point(|at| self.places[*at].bytes < ideal);
            let near = back[n.saturating_sub(1)..].iter().take(2);
            let moved = near.filter_map(|small| {
                let by = bytes.checked_sub(self.places[*small].bytes)?;
                let left = gap.abs_diff(2 * by);
                (left + by_at_least <= gap).then_some((left, large, *small))
            });
            moved.min()
        });
        best.min().map(|(_, large, small)| (large, small))
    }

    /// Changes who should lead among the replicas that are there, until no broker should lead two more
    /// than another that could have one of them, directly or by way of others.
    fn even_leaders(&mut self) {
        loop {
            let by_leaders = self.by_load(|load| load.leaders);
            let path = by_leaders.iter().rev().find_map(|(id, leads)| self.path(*id, *leads));
            let Some(path) = path.filter(|path| self.has_room(path.len())) else { return };
            for (at, to) in path {
                let replicas = &self.places[at].replicas;
                let n = replicas.iter().position(|id| *id == to).expect("it holds a replica");
                let from = replicas[0];
                self.change(at, |replicas| replicas.swap(0, n));
                self.loads.entry(from).and_modify(|load| load.leaders -= 1);
                self.loads.entry(to).and_modify(|load| load.leaders += 1);
            }
        }
    }

    /// The shortest way to hand on one leadership after the other, from a broker to one that leads at
    /// least two fewer.
    fn path(&self, from: BrokerId, leads: u64) -> Option<Vec<(usize, BrokerId)>> {
        let mut led: BTreeMap<BrokerId, Vec<usize>> = BTreeMap::new();
        for (at, place) in self.places.iter().enumerate() {
            led.entry(place.replicas[0]).or_default().push(at);
        }
        let mut came_by: BTreeMap<BrokerId, (usize, BrokerId)> = BTreeMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(here) = queue.pop_front() {
            for at in led.get(&here).into_iter().flatten() {
                for next in &self.places[*at].replicas[1..] {
                    let Some(load) = self.loads.get(next).filter(|_| *next != from) else {
                        continue;
                    };
                    if came_by.contains_key(next) {
                        continue;
                    }
                    came_by.insert(*next, (*at, here));
                    if load.leaders + 2 <= leads {
                        return Some(way_back(&came_by, from, *next));
                    }
                    queue.push_back(*next);
                }
            }
        }
        None
    }
}

/// The steps that led from `from` to `to`, the last first: each frees a place for the one before it.
fn way_back(
    came_by: &BTreeMap<BrokerId, (usize, BrokerId)>,
    from: BrokerId,
    to: BrokerId,
) -> Vec<(usize, BrokerId)> {
    let (mut steps, mut at) = (Vec::new(), to);
    while at != from {
        let (partition, before) = came_by[&at];
        steps.push((partition, at));
        at = before;
    }
    steps
}
