//! Which brokers hold which replicas.

use std::collections::BTreeMap;

use tidelog_types::BrokerId;

/// A broker and its rack, in the circle along which replicas are laid.
#[derive(Clone, Copy, Debug)]
struct Seat {
    broker: BrokerId,
    rack: usize,
}

/// Lays `replication_factor` replicas of each partition on `brokers`, the preferred leader first.
///
/// Leaders go round the circle of brokers from `rotation` on, so their numbers differ by one at
/// most. Followers come from the racks with the fewest replicas of the partition, the next in the
/// circle first; each lap begins one further, so a broker shares its partitions with all others. A
/// broker without a rack counts as a rack of its own.
///
/// # Panics
/// When there are fewer brokers than replicas, or none.
#[must_use]
pub fn place<'a>(
    brokers: impl Iterator<Item = (BrokerId, Option<&'a str>)>,
    partitions: u32,
    replication_factor: u32,
    rotation: u32,
) -> Vec<Vec<BrokerId>> {
    let (circle, racks) = seats(brokers);
    assert!(
        circle.len() >= replication_factor.max(1) as usize,
        "each replica has a broker of its own"
    );
    let seats = circle.len() as u64;
    let lay = |partition: u32| {
        let leader = (u64::from(rotation) + u64::from(partition)) % seats;
        // Counted from partition 0, so that whole laps are even wherever the rotation begins.
        let lap = u64::from(partition) / seats + u64::from(rotation) / seats;
        replicas(&circle, racks, leader as usize, lap, replication_factor as usize)
    };
    (0..partitions).map(lay).collect()
}

/// The brokers in a circle that changes the rack from seat to seat as long as it can, and the
/// number of racks.
fn seats<'a>(brokers: impl Iterator<Item = (BrokerId, Option<&'a str>)>) -> (Vec<Seat>, usize) {
    let mut by_rack: BTreeMap<(Option<&str>, Option<BrokerId>), Vec<BrokerId>> = BTreeMap::new();
    for (broker, rack) in brokers {
        let alone = if rack.is_none() { Some(broker) } else { None };
        by_rack.entry((rack, alone)).or_default().push(broker);
    }
    by_rack.values_mut().for_each(|brokers| brokers.sort_unstable());
    let tallest = by_rack.values().map(Vec::len).max().unwrap_or(0);
    let row = |n: usize| {
        by_rack.values().enumerate().filter_map(move |(rack, brokers)| {
            brokers.get(n).map(|broker| Seat { broker: *broker, rack })
        })
    };
    ((0..tallest).flat_map(row).collect(), by_rack.len())
}

fn replicas(
    circle: &[Seat],
    racks: usize,
    leader: usize,
    lap: u64,
    replicas: usize,
) -> Vec<BrokerId> {
    // Seats behind the leader, beginning one further each lap.
    let others = circle.len() - 1;
    let shift = if others == 0 { 0 } else { (lap % others as u64) as usize };
    let seat = |n: usize| circle[(leader + 1 + (shift + n) % others) % circle.len()];

    let mut in_rack = vec![0u32; racks];
    let mut taken = vec![false; others];
    let mut chosen = vec![circle[leader].broker];
    in_rack[circle[leader].rack] += 1;
    while chosen.len() < replicas {
        let free = (0..others).filter(|n| !taken[*n]);
        let next = free.min_by_key(|n| (in_rack[seat(*n).rack], *n));
        let next = next.expect("there are as many brokers as replicas");
        taken[next] = true;
        in_rack[seat(next).rack] += 1;
        chosen.push(seat(next).broker);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn spread(counts: &BTreeMap<BrokerId, u32>) -> u32 {
        counts.values().max().unwrap() - counts.values().min().unwrap()
    }

    #[test]
    fn replicas_differ_and_loads_are_even() {
        for brokers in 1..=9u32 {
            for replication_factor in 1..=brokers.min(5) {
                let partitions = brokers * 4;
                let all = (1..=brokers).map(|id| (BrokerId(id), None));
                let placed = place(all, partitions, replication_factor, 5);
                let mut leaders = BTreeMap::new();
                let mut held = BTreeMap::new();
                for replicas in &placed {
                    let distinct: BTreeSet<_> = replicas.iter().collect();
                    assert_eq!(distinct.len(), replication_factor as usize);
                    *leaders.entry(replicas[0]).or_default() += 1;
                    replicas.iter().for_each(|id| *held.entry(*id).or_default() += 1);
                }
                assert_eq!(leaders.len(), brokers as usize);
                assert_eq!(spread(&leaders), 0, "leaders on {brokers} brokers");
                assert_eq!(spread(&held), 0, "replicas on {brokers} brokers");
            }
        }
    }

    #[test]
    fn leaders_of_any_number_of_partitions_differ_by_one() {
        for partitions in 1..40 {
            let all = (1..=7).map(|id| (BrokerId(id), None));
            let mut leaders: BTreeMap<_, u32> = (1..=7).map(|id| (BrokerId(id), 0)).collect();
            for replicas in place(all, partitions, 3, partitions * 13) {
                *leaders.get_mut(&replicas[0]).unwrap() += 1;
            }
            assert!(spread(&leaders) <= 1);
        }
    }

    #[test]
    fn no_rack_holds_two_replicas_while_another_holds_none() {
        let racks = ["a", "a", "a", "b", "b", "c"];
        let brokers = || (0..6u32).map(|id| (BrokerId(id), Some(racks[id as usize])));
        for replicas in place(brokers(), 60, 3, 0) {
            let used: BTreeSet<_> = replicas.iter().map(|id| racks[id.0 as usize]).collect();
            assert_eq!(used.len(), 3, "{replicas:?}");
        }
        for replicas in place(brokers(), 60, 5, 0) {
            let in_a = replicas.iter().filter(|id| racks[id.0 as usize] == "a").count();
            assert_eq!(in_a, 2, "{replicas:?}");
        }
    }
}
