//! The assignor against what it promises, with random members, topics and holdings.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tidelog_state::group::assign;
use tidelog_types::{MemberId, PartitionId, TopicId};

use crate::dice::{Dice, seeds};

pub(crate) type Partition = (TopicId, PartitionId);
pub(crate) type Subscribed = BTreeMap<MemberId, BTreeSet<TopicId>>;
pub(crate) type Held = BTreeMap<Partition, MemberId>;

fn member(number: usize) -> MemberId {
    MemberId::new(&format!("m{number:04}")).unwrap()
}

pub(crate) fn load(assignment: &Held, member: &MemberId) -> usize {
    assignment.values().filter(|holder| *holder == member).count()
}

/// Every partition that somebody subscribes to, and nothing else, is with a subscriber.
pub(crate) fn check_complete(
    members: &Subscribed,
    partitions: &BTreeMap<TopicId, u32>,
    assignment: &Held,
) {
    for ((topic, _), holder) in assignment {
        assert!(members[holder].contains(topic), "{holder} does not subscribe to {topic}");
    }
    let wanted = partitions.iter().filter(|(id, _)| members.values().any(|s| s.contains(id)));
    let wanted = wanted.flat_map(|(id, count)| (0..*count).map(|n| (*id, PartitionId(n))));
    assert!(wanted.eq(assignment.keys().copied()), "not everything is assigned once");
}

/// No partition can go to a subscriber that has two fewer.
pub(crate) fn check_balanced(members: &Subscribed, assignment: &Held) {
    let loads: BTreeMap<_, _> = members.keys().map(|id| (id, load(assignment, id))).collect();
    for ((topic, partition), holder) in assignment {
        for (other, _) in members.iter().filter(|(_, topics)| topics.contains(topic)) {
            let (has, least) = (loads[holder], loads[other]);
            assert!(has < least + 2, "{topic}/{partition} should go from {holder} to {other}");
        }
    }
}

/// With equal subscriptions: what members have to give up, where those that hold most may keep most.
pub(crate) fn moves_needed(held: &[usize], partitions: usize) -> usize {
    let (quota, larger) = (partitions / held.len(), partitions % held.len());
    let mut held = held.to_vec();
    held.sort_unstable_by(|a, b| b.cmp(a));
    let quotas = (0..held.len()).map(|n| quota + usize::from(n < larger));
    held.iter().zip(quotas).map(|(held, quota)| held.saturating_sub(quota)).sum()
}

/// What members give up: partitions that one of them holds and another gets.
fn moves(members: &Subscribed, held: &Held, assignment: &Held) -> usize {
    let there = held.iter().filter(|(key, holder)| {
        members.get(*holder).is_some_and(|topics| topics.contains(&key.0))
            && assignment.contains_key(key)
    });
    there.filter(|(key, holder)| assignment[key] != **holder).count()
}

struct Case {
    members: Subscribed,
    partitions: BTreeMap<TopicId, u32>,
    held: Held,
}

fn random_case(dice: &mut Dice, equal: bool) -> Case {
    let topics: Vec<_> = (0..1 + dice.below(5)).map(|n| TopicId(300 + n as u128)).collect();
    let partitions = topics.iter().map(|id| (*id, dice.below(9) as u32)).collect();
    let names: Vec<_> = (0..1 + dice.below(9)).map(member).collect();
    let any = |dice: &mut Dice| topics.iter().filter(|_| !dice.one_in(3)).copied().collect();
    let all: BTreeSet<_> = any(dice);
    let subscribed = |dice: &mut Dice| if equal { all.clone() } else { any(dice) };
    let members = names.iter().map(|id| (id.clone(), subscribed(dice))).collect();
    // Some held by members that are gone or do not subscribe, some that do not exist, at times all by
    // one.
    let (mut held, few) = (BTreeMap::new(), 1 + dice.below(names.len() + 2));
    for id in &topics {
        for partition in 0..10 {
            if !dice.one_in(4) {
                held.insert((*id, PartitionId(partition)), member(dice.below(few)));
            }
        }
    }
    Case { members, partitions, held }
}

fn check(seed: u64, equal: bool) -> usize {
    let Case { members, partitions, held } = random_case(&mut Dice(seed), equal);
    let assignment = assign(&members, &partitions, &held);
    check_complete(&members, &partitions, &assignment);
    check_balanced(&members, &assignment);
    let again = assign(&members, &partitions, &assignment);
    assert_eq!(again, assignment, "what is balanced stays");
    let moves = moves(&members, &held, &assignment);
    if equal {
        let kept = |key: &&Partition| assignment.contains_key(key);
        let held_of = |id| held.iter().filter(|(key, holder)| kept(key) && *holder == id).count();
        let held: Vec<_> = members.keys().map(held_of).collect();
        assert_eq!(moves, moves_needed(&held, assignment.len()), "as few moves as can be");
    }
    moves
}

#[test]
fn random_assignments_are_complete_balanced_and_sticky() {
    for equal in [true, false] {
        let mut moves = 0;
        for seed in seeds(3_000) {
            let run = catch_unwind(AssertUnwindSafe(|| check(seed, equal)));
            moves += run.unwrap_or_else(|_| panic!("failed with SEED={seed} equal={equal}"));
        }
        println!("{moves} moves");
    }
}

#[test]
fn few_moves_are_counted_rightly() {
    assert_eq!(moves_needed(&[4, 0], 4), 2);
    assert_eq!(moves_needed(&[3, 2, 0], 5), 1);
    assert_eq!(moves_needed(&[2, 2, 1], 5), 0);
    assert_eq!(moves_needed(&[10, 6, 0], 16), 5);
}

#[test]
fn topics_are_spread_one_by_one() {
    let topics = [1, 2, 3].map(TopicId);
    let all = BTreeSet::from(topics);
    let members = |count| (0..count).map(|n| (member(n), all.clone())).collect::<Subscribed>();
    let partitions = topics.map(|id| (id, 4)).into();
    let assignment = assign(&members(4), &partitions, &Held::new());
    let per_topic = |assignment: &Held, count: usize| {
        let one = |id: &MemberId, topic| {
            assignment.iter().filter(|(key, holder)| key.0 == topic && *holder == id).count()
        };
        let counts = |n| topics.map(|topic| one(&member(n), topic)).to_vec();
        (0..count).map(counts).collect::<Vec<_>>()
    };
    assert_eq!(per_topic(&assignment, 4), vec![vec![1, 1, 1]; 4]);

    let alone = assign(&members(1), &partitions, &Held::new());
    assert_eq!(per_topic(&assign(&members(2), &partitions, &alone), 2), vec![vec![2, 2, 2]; 2]);
}

/// The first and the third have no topic in common: the second passes on what it gets, as long as that
/// is a gain for each two of them.
#[test]
fn loads_even_out_over_members_in_between() {
    let topics = |ids: &[u128]| ids.iter().map(|id| TopicId(*id)).collect::<BTreeSet<_>>();
    let members = Subscribed::from([
        (member(0), topics(&[1])),
        (member(1), topics(&[1, 2])),
        (member(2), topics(&[2])),
    ]);
    let partitions = BTreeMap::from([(TopicId(1), 6), (TopicId(2), 3)]);
    let held = |topic, partition, n| ((TopicId(topic), PartitionId(partition)), member(n));
    let held: Held = (0..6).map(|n| held(1, n, 0)).chain((0..3).map(|n| held(2, n, 1))).collect();
    let assignment = assign(&members, &partitions, &held);
    assert_eq!([0, 1, 2].map(|n| load(&assignment, &member(n))), [4, 3, 2]);
}

/// `cargo test --release -p tidelog-state -- --ignored --nocapture assign_speed`
#[test]
#[ignore = "measures"]
#[expect(clippy::disallowed_types, reason = "it measures")]
fn assign_speed() {
    for (count, partitions, topics, classes) in [
        (64, 256, 1, 1),
        (64, 256, 16, 1),
        (1_000, 10_000, 1, 1),
        (1_000, 10_000, 100, 1),
        (1_000, 10_000, 10_000, 1),
        (1_000, 10_000, 100, 10),
        (1_000, 10_000, 100, 1_000),
    ] {
        let ids: Vec<_> = (0..topics).map(|n| TopicId(300 + n as u128)).collect();
        let per_topic: BTreeMap<_, _> = ids.iter().map(|id| (*id, partitions / topics)).collect();
        let mut dice = Dice(1);
        let mut class = |_| match classes {
            1 => ids.iter().copied().collect(),
            _ => ids.iter().filter(|_| dice.one_in(2)).copied().collect::<BTreeSet<_>>(),
        };
        let kinds: Vec<_> = (0..classes).map(&mut class).collect();
        let members: Subscribed =
            (0..count).map(|n| (member(n), kinds[n % classes].clone())).collect();
        let mut fewer = members.clone();
        fewer.remove(&member(count / 2));
        let time = |members, held: &Held| {
            let start = std::time::Instant::now();
            let assignment = assign(members, &per_topic, held);
            (start.elapsed(), assignment)
        };
        let (first, none) = time(&members, &Held::new());
        let (leave, without) = time(&fewer, &none);
        let (join, _) = time(&members, &without);
        let all = none.keys().map(|key| (*key, member(0))).collect();
        let (worst, _) = time(&members, &all);
        println!(
            "{count} members, {partitions} partitions, {topics} topics, {classes} classes: \
             first {first:?}, leave {leave:?}, join {join:?}, from one {worst:?}"
        );
    }
}
