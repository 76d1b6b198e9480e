//! Plans of where replicas should rather be.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_state::metadata::{
    BrokerSpec, ClusterId, Command, Grounds, LeaderReport, Machine, Outlook, Partition, Plan,
    evacuate, outlook, rebalance,
};
use tidelog_types::{
    BrokerId, FeatureLevel, GroupId, Incarnation, LogIndex, LogPosition, Term, Timestamp, TopicId,
};

use crate::dice::{Dice, seeds};

/// A cluster with topics of three replicas, all of which have had a leader.
fn cluster(racks: &[Option<&str>], topics: &[u32], more: &[Option<&str>]) -> Machine {
    let spec = |(n, rack): (usize, &Option<&str>)| BrokerSpec {
        id: BrokerId(n as u32 + 1),
        incarnation: Incarnation(1),
        rack: rack.map(str::to_owned),
        addresses: Vec::new(),
        software: None,
    };
    let mut machine = Machine::new();
    let mut index = 0;
    let mut apply = |machine: &mut Machine, command: Command| {
        index += 1;
        let at = LogPosition { term: Term(1), index: LogIndex(index) };
        machine.apply(at, &command, Timestamp(0)).reply.unwrap();
    };
    let brokers: Vec<_> = racks.iter().enumerate().map(spec).collect();
    let form = Command::FormCluster { cluster: ClusterId(1), level: FeatureLevel::FIRST, brokers };
    apply(&mut machine, form);
    for (n, partitions) in topics.iter().enumerate() {
        let topic = TopicId(300 + n as u128);
        let create = Command::CreateTopic {
            topic,
            name: format!("t{n}"),
            partitions: Some(*partitions),
            replication_factor: Some(3),
            configs: Vec::new(),
            rotation: n as u32,
            unreachable: Vec::new(),
        };
        apply(&mut machine, create);
    }
    let report = |(group, partition): (GroupId, &Partition)| LeaderReport {
        group,
        term: Term(1),
        leader: partition.voters[0],
    };
    let reports = machine.live_partitions().map(report).collect();
    apply(&mut machine, Command::ReportLeaders { reports });
    for (n, rack) in more.iter().enumerate() {
        let broker = spec((racks.len() + n, rack));
        let renew = Command::RenewBroker { broker: broker.id, token: 7 };
        apply(&mut machine, renew);
        apply(&mut machine, Command::RegisterBroker { broker });
    }
    machine
}

fn all(machine: &Machine) -> BTreeSet<BrokerId> {
    machine.brokers().map(|broker| broker.id).collect()
}

fn plan(
    machine: &Machine,
    bytes: &BTreeMap<GroupId, u64>,
    plan: impl FnOnce(&Machine, Grounds<'_>) -> Plan,
) -> Machine {
    let takers = all(machine);
    let Plan { moves, loads } = plan(machine, Grounds { takers: &takers, bytes, moves_max: 1_000 });
    let mut after = machine.clone();
    let at = after.applied().unwrap();
    let at = LogPosition { index: at.index.next(), ..at };
    after.apply(at, &Command::MovePartitions { moves }, Timestamp(0)).reply.unwrap();
    let held = counts(&after, <[_]>::to_vec);
    let told = loads.iter().map(|(id, (_, load))| (held[id.0 as usize - 1], load.replicas));
    assert!(told.into_iter().all(|(held, told)| held == told), "{loads:?}");
    after
}

/// How many partitions another plan would move.
fn next_moves(machine: &Machine, bytes: &BTreeMap<GroupId, u64>) -> usize {
    let takers = all(machine);
    rebalance(machine, Grounds { takers: &takers, bytes, moves_max: 1_000 }).moves.len()
}

fn counts(machine: &Machine, of: impl Fn(&[BrokerId]) -> Vec<BrokerId>) -> Vec<u64> {
    let mut counts: BTreeMap<BrokerId, u64> = all(machine).into_iter().map(|id| (id, 0)).collect();
    for (_, partition) in machine.live_partitions() {
        for id in of(&partition.replicas) {
            *counts.get_mut(&id).unwrap() += 1;
        }
    }
    counts.into_values().collect()
}

fn spread(counts: &[u64]) -> u64 {
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

#[test]
fn new_brokers_get_their_share_and_little_moves() {
    let before = cluster(&[None; 3], &[12, 7, 5], &[None, None]);
    let after = plan(&before, &BTreeMap::new(), rebalance);
    let held = counts(&after, <[_]>::to_vec);
    assert!(spread(&held) <= 1, "{held:?}");
    let led = counts(&after, |replicas| vec![replicas[0]]);
    assert!(spread(&led) <= 1, "{led:?}");
    // Only what the new ones get has moved.
    let moved = after.live_partitions().zip(before.live_partitions()).map(|(new, old)| {
        new.1.replicas.iter().filter(|id| !old.1.replicas.contains(id)).count() as u64
    });
    assert_eq!(moved.sum::<u64>(), held[3] + held[4]);
    assert_eq!(next_moves(&after, &BTreeMap::new()), 0);
}

#[test]
fn a_balanced_cluster_stays_as_it_is() {
    let racks = [Some("a"), Some("a"), Some("b"), Some("b"), Some("c"), Some("c")];
    for machine in [cluster(&racks, &[12], &[]), cluster(&[None; 5], &[10, 5], &[])] {
        let takers = all(&machine);
        let grounds = Grounds { takers: &takers, bytes: &BTreeMap::new(), moves_max: 1_000 };
        assert_eq!(rebalance(&machine, grounds).moves, []);
    }
}

#[test]
fn whatever_there_was_the_plan_is_even_and_keeps_racks_apart() {
    for round in seeds(200) {
        let mut dice = Dice(round);
        let names = [Some("a"), Some("b"), Some("c")];
        let racked = round % 2 == 0;
        let rack = |n: usize| if racked { names[n % 3] } else { None };
        let brokers: Vec<_> = (0..3 + dice.below(7)).map(rack).collect();
        let more: Vec<_> = (0..dice.below(4)).map(rack).collect();
        let topics: Vec<_> = (0..1 + dice.below(5)).map(|_| 1 + dice.below(19) as u32).collect();
        let before = cluster(&brokers, &topics, &more);
        let bytes: BTreeMap<_, _> =
            before.live_partitions().map(|(group, _)| (group, dice.below(1_000) as u64)).collect();
        let after = plan(&before, &bytes, rebalance);
        let rack = |id: BrokerId| after.broker(id).unwrap().rack.clone();
        for (_, partition) in after.live_partitions() {
            let distinct: BTreeSet<_> = partition.replicas.iter().collect();
            assert_eq!(distinct.len(), 3);
            let racks: BTreeSet<_> = partition.replicas.iter().map(|id| rack(*id)).collect();
            assert!(!racked || racks.len() == 3, "{partition:?}");
        }
        let held = counts(&after, <[_]>::to_vec);
        // With racks of unequal size each replica has to stay in its rack.
        assert!(racked || spread(&held) <= 1, "{held:?} in round {round}");
        assert!(spread(&held) <= spread(&counts(&before, <[_]>::to_vec)));
        let led = counts(&after, |replicas| vec![replicas[0]]);
        assert!(spread(&led) <= 1, "{led:?} in round {round}");
        assert_eq!(next_moves(&after, &bytes), 0, "in round {round}");
    }
}

#[test]
fn bytes_are_spread_where_counts_are_even() {
    let machine = cluster(&[None; 4], &[8], &[]);
    let heavy = BrokerId(1);
    let bytes: BTreeMap<_, _> = machine
        .live_partitions()
        .map(|(group, p)| (group, if p.replicas.contains(&heavy) { 1_000 } else { 10 }))
        .collect();
    let on = |machine: &Machine| {
        let mut sums: BTreeMap<BrokerId, u64> = BTreeMap::new();
        for (group, partition) in machine.live_partitions() {
            partition.replicas.iter().for_each(|id| *sums.entry(*id).or_default() += bytes[&group]);
        }
        spread(&sums.into_values().collect::<Vec<_>>())
    };
    let after = plan(&machine, &bytes, rebalance);
    // Eighteen heavy replicas on four brokers.
    assert_eq!((on(&machine), on(&after)), (2 * 990, 990));
    assert!(spread(&counts(&after, <[_]>::to_vec)) <= 1);
}

#[test]
fn emptied_brokers_keep_nothing_and_the_others_share_it() {
    let machine = cluster(&[None; 3], &[12, 9], &[None, None]);
    let from = BTreeSet::from([BrokerId(1), BrokerId(2)]);
    let takers: BTreeSet<_> = all(&machine).difference(&from).copied().collect();
    let bytes = BTreeMap::new();
    let grounds = Grounds { takers: &takers, bytes: &bytes, moves_max: 1_000 };
    let after = plan(&machine, &bytes, |machine, _| evacuate(machine, &from, grounds));
    let held = counts(&after, <[_]>::to_vec);
    assert_eq!(held, [0, 0, 21, 21, 21]);
    // A few at a time.
    let few = evacuate(&machine, &from, Grounds { moves_max: 4, ..grounds });
    assert_eq!(few.moves.len(), 4);
    // Nobody is there to take them.
    let takers = BTreeSet::from([BrokerId(3)]);
    assert_eq!(evacuate(&machine, &from, Grounds { takers: &takers, ..grounds }).moves, []);
}

fn ids(ids: &[u32]) -> BTreeSet<BrokerId> {
    ids.iter().map(|id| BrokerId(*id)).collect()
}

#[test]
fn it_is_foretold_where_replicas_of_a_dead_broker_go_and_why_they_cannot() {
    let four = cluster(&[None; 4], &[8], &[]);
    let live = ids(&[1, 2, 3]);
    let told = outlook(&four, &ids(&[4]), &live, &live);
    let told = &told[&BrokerId(4)];
    assert_eq!((told.replicas, told.moving), (6, 0));
    assert_eq!(told.onto.values().sum::<u32>(), 6, "{told:?}");
    assert!(told.onto.keys().all(|id| live.contains(id)), "{told:?}");

    // Every other broker has one already.
    let three = cluster(&[None; 3], &[5], &[]);
    let told = outlook(&three, &ids(&[3]), &ids(&[1, 2]), &ids(&[1, 2]));
    let expected = Outlook { replicas: 5, without_place: 5, ..Outlook::default() };
    assert_eq!(told[&BrokerId(3)], expected);

    // There would be a place, but nobody who decides on the move.
    let five = cluster(&[None; 3], &[5], &[None, None]);
    let told = outlook(&five, &ids(&[2, 3]), &ids(&[1, 4, 5]), &ids(&[1, 4, 5]));
    let expected = Outlook { replicas: 5, without_quorum: 5, ..Outlook::default() };
    assert_eq!(told, [(BrokerId(2), expected.clone()), (BrokerId(3), expected)].into());
}

#[test]
fn what_is_foretold_is_what_is_done() {
    let before = cluster(&[None; 4], &[7, 5], &[None]);
    let (from, live) = (ids(&[2]), ids(&[1, 3, 4, 5]));
    let told = outlook(&before, &from, &live, &live);
    let after = plan(&before, &BTreeMap::new(), |machine, grounds| {
        evacuate(machine, &from, Grounds { takers: &live, ..grounds })
    });
    let grown = |id: &BrokerId| {
        let held = |machine: &Machine| counts(machine, <[_]>::to_vec)[id.0 as usize - 1];
        (held(&after) - held(&before)) as u32
    };
    let expected: BTreeMap<_, _> = live.iter().map(|id| (*id, grown(id))).collect();
    let expected = expected.into_iter().filter(|(_, more)| *more > 0).collect();
    assert_eq!(told[&BrokerId(2)].onto, expected);
    // Its replicas are to go, and have not gone.
    let told = &outlook(&after, &from, &live, &live)[&BrokerId(2)];
    assert_eq!(told.moving, counts(&before, <[_]>::to_vec)[1] as u32);
    assert_eq!(told.replicas, 0);
}
