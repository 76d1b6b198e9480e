//! Groups that never come to rest: members join, leave, crash and turn into zombies, the broker that
//! leads the group is killed again and again, and every event is judged by a checker that knows nothing
//! of the product.
//!
//! `TIDELOG_E2E_ROUNDS=110 cargo test -p tidelog --release --test e2e rebalances`: so many changes of
//! the membership instead of 12, and a kill with every second: more than 50 kills, and many more than
//! 500 rebalances, for a change of the membership moves partitions in several steps.

mod member;
mod producer;
mod recorder;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::IndexedRandom;
use tidelog_checker::History;
use tidelog_client::admin::NewTopic;
use tidelog_proto::v1::{DescribeGroupRequest, DescribeGroupResponse, GroupOffset, GroupState};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::stage::{PATIENCE, Stage, rounds, within};
use member::{End, Seat, groups};
use producer::Producing;
use recorder::{Clock, Recorder, read_offsets};

const GROUP: &str = "shop";
const TOPIC: &str = "events";
const PARTITIONS: u32 = 64;
const MEMBERS: usize = 8;

/// Records per second.
const RATE: u64 = 5_000;

/// Pause between two looks at the group.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// A kill comes with every so many changes.
const KILL_EVERY: u32 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn rebalances_and_kills_skip_nothing_and_fence_zombies() {
    let mut stage = Stage::new().await;
    stage.start_all().await;
    let client = stage.client().await;
    let topic = NewTopic::new(TOPIC.parse().unwrap()).partitions(PARTITIONS);
    for (_, created) in client.admin().create_topics([topic]).await.unwrap() {
        created.unwrap();
    }
    let clock = Clock::start();
    let bootstrap = stage.cluster.bootstrap();
    let producing = Producing::start(&client, clock, PARTITIONS, RATE).await;
    let (stop, stopped) = watch::channel(false);
    let reads = tokio::spawn(read_offsets(bootstrap.clone(), clock, stopped));
    let mut seats: Vec<Seat> = Vec::new();
    let mut recorders: Vec<Recorder> = Vec::new();
    for n in 0..MEMBERS {
        seats.push(Seat::start(&bootstrap, clock, n));
    }
    settled(&bootstrap, &seats).await;

    let (mut kills, mut longest) = (0, Duration::ZERO);
    let rounds = rounds(12);
    for round in 0..rounds {
        let kill = round % KILL_EVERY == 1;
        let changed = Instant::now();
        let ends = [End::Leave, End::Leave, End::Leave, End::Crash, End::Zombie];
        let end = *ends.choose(&mut stage.rng).unwrap();
        let leaving = seats.remove(stage.rng.random_range(0..seats.len()));
        let ended = tokio::spawn(leaving.end(end));
        seats.push(Seat::start(&bootstrap, clock, MEMBERS + round as usize));
        if kill {
            let group = group_is(&bootstrap, "it has a leader", |g| g.coordinator.is_some()).await;
            let leader = group.coordinator.unwrap().broker_id;
            stage.cluster.kill_many(&[leader]).unwrap();
            kills += 1;
        }
        settled(&bootstrap, &seats).await;
        if !kill && end == End::Leave {
            longest = longest.max(changed.elapsed());
        }
        recorders.push(within("a member ends", ended).await.unwrap());
        if kill {
            stage.start_all().await;
        }
    }

    let (produced, sent) = within("every send is acked", producing.finish()).await;
    drained(&bootstrap, &sent).await;
    for seat in seats {
        recorders.push(within("a member leaves", seat.end(End::Leave)).await);
    }
    stop.send_replace(true);
    recorders.push(within("reads end", reads).await.unwrap());
    recorders.push(produced);
    judge(recorders, sent.values().sum(), rounds, kills);
    println!(
        "{rounds} changes, {kills} kills of the coordinator, a planned one took at most {longest:?}"
    );
}

/// The group, as some broker describes it.
async fn describe(bootstrap: &[String], turn: usize) -> Option<DescribeGroupResponse> {
    let request = DescribeGroupRequest { group_id: GROUP.to_owned() };
    let mut client = groups(&bootstrap[turn % bootstrap.len()]);
    Some(client.describe_group(request).await.ok()?.into_inner())
}

/// Waits until the group is as it should be.
async fn group_is(
    bootstrap: &[String],
    what: &str,
    holds: impl Fn(&DescribeGroupResponse) -> bool,
) -> DescribeGroupResponse {
    let deadline = Instant::now() + PATIENCE;
    for turn in 0.. {
        let group = describe(bootstrap, turn).await;
        match group {
            Some(group) if holds(&group) => return group,
            seen => assert!(Instant::now() < deadline, "{what}: {seen:?}"),
        }
        sleep(LOOK_EVERY).await;
    }
    unreachable!("the loop ends with the group or the deadline")
}

/// Waits until the members are those of `seats` and every partition is where it should be.
async fn settled(bootstrap: &[String], seats: &[Seat]) {
    let wanted: BTreeSet<_> = seats.iter().map(Seat::id).collect();
    let holds = |group: &DescribeGroupResponse| {
        let members: BTreeSet<_> = group.members.iter().map(|m| m.member_id.as_str()).collect();
        let held: usize = group.members.iter().map(|member| member.holdings.len()).sum();
        members == wanted && held == PARTITIONS as usize && group.state() == GroupState::Stable
    };
    group_is(bootstrap, "the group settles", holds).await;
}

/// Waits until everything that was sent is committed.
async fn drained(bootstrap: &[String], sent: &BTreeMap<u32, u64>) {
    let holds = |group: &DescribeGroupResponse| {
        let offset = |offset: &GroupOffset| {
            Some((offset.partition, offset.committed.as_ref()?.offset as u64))
        };
        let committed: BTreeMap<_, _> = group.offsets.iter().filter_map(offset).collect();
        sent.iter().all(|(partition, end)| committed.get(partition) == Some(end))
    };
    group_is(bootstrap, "everything is committed", holds).await;
}

fn judge(recorders: Vec<Recorder>, sent: u64, rounds: u32, kills: u32) {
    let mut history = History::default();
    let mut delivered: BTreeSet<u64> = BTreeSet::new();
    for recorder in recorders {
        delivered.extend(&recorder.delivered);
        history.read(&recorder.name, &recorder.lines[..]).unwrap();
    }
    let verdict = tidelog_checker::check(&history).unwrap();
    println!("{verdict}");
    assert!(verdict.holds(), "{verdict}");
    assert_eq!(delivered.len() as u64, sent, "every record was delivered to somebody");
    let summary = &verdict.summary;
    assert!(summary.rebalances >= u64::from(rounds), "each change moves partitions: {summary:?}");
    assert!(summary.commits_accepted > 0 && summary.reads > 0, "{summary:?}");
    assert!(kills > 0 || rounds < KILL_EVERY, "the coordinator was killed");
}
