//! What a consumer must not do any more: commit what a seek has undone, follow a leader that was, come
//! back after it was replaced, or close as if its marks were committed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_client::{CommitError, Consumer, ConsumerRecord, ErrorCode, Offset, StartPolicy};
use tidelog_proto::v1;
use tokio::time::timeout;

use super::{
    Busy, GROUP, PATIENCE, TOPIC, Witness, builder, cluster, committed, group_is, holds, next,
    place, take,
};
use crate::fake::Cluster;

/// Two partitions of nine records; the first member is busy giving up the second of them.
struct Scene {
    cluster: Cluster,
    witness: Witness,
    busy: Arc<Busy>,
    first: Consumer,
    second: Consumer,
    records: Vec<ConsumerRecord>,
}

impl Scene {
    /// Six records of partition 0 are committed, and all are handed out.
    async fn set(auto_commit: Option<Duration>) -> Self {
        let cluster = cluster(1, 2, 9);
        let (witness, busy) = Witness::busy();
        let mut first = builder(&cluster).await.listener(witness.clone());
        if let Some(interval) = auto_commit {
            first = first.auto_commit(interval);
        }
        let mut first = first.build().await.unwrap();
        let records = take(&mut first, 18).await;
        let marked = records.iter().filter(|record| record.offset < Offset(6));
        marked.for_each(|record| first.mark(record));
        first.commit().await.unwrap();
        assert_eq!(committed(&cluster, 0), Some(6));
        let second = builder(&cluster).await.build().await.unwrap();
        timeout(PATIENCE, busy.entered.notified()).await.unwrap();
        Self { cluster, witness, busy, first, second, records }
    }

    /// Marks all of partition 0, and of partition 1 all but the last.
    fn mark(&self) {
        let (of_first, of_second) =
            self.records.iter().partition::<Vec<_>, _>(|record| record.partition.0 == 0);
        of_first.iter().for_each(|record| record.mark());
        let of_second = of_second.iter().filter(|record| record.offset < Offset(8));
        of_second.for_each(|record| record.mark());
    }

    /// Lets go of the listener, and sees the group go on from where it was sought to, and the second
    /// member from `second`.
    async fn play_on(mut self, second: u64) {
        assert_eq!(committed(&self.cluster, 0), Some(2));
        self.busy.let_go.notify_one();
        let again = take(&mut self.first, 7).await;
        assert_eq!((again[0].partition.0, again[0].offset), (0, Offset(2)));
        let told = self.witness.told();
        assert_eq!(told, ["assigned 0 1", "revoked 1", "lost 0", "assigned 0"]);
        holds(&self.cluster, &self.second, 1).await;
        assert_eq!(next(&mut self.second).await.offset, Offset(second));
        // From here on its marks count.
        again[..3].iter().for_each(|record| record.mark());
        self.first.commit().await.unwrap();
        let journal = self.cluster.world.state().group(GROUP).journal.clone();
        let sought = journal.iter().position(|line| line == "seek orders/0 2").unwrap();
        let after = journal[sought..].iter();
        let mut after = after.filter_map(|line| line.strip_prefix("commit orders/0 "));
        assert!(after.all(|offset| offset.parse::<u64>().unwrap() <= 5), "{journal:?}");
        assert_eq!(committed(&self.cluster, 0), Some(5));
    }
}

/// Takes partition 0 back to 2, and waits until the first member has heard of it.
async fn seek(cluster: &Cluster) {
    cluster.world.change(|state| {
        let group = state.group(GROUP);
        group.refused.clear();
        group.seek(&(TOPIC.to_owned(), 0), 2);
    });
    group_is(cluster, |group| group.knows(0)).await;
}

/// Refuses all commits of a partition from now on.
fn refuse(cluster: &Cluster, partition: u32, code: ErrorCode) {
    let place = (TOPIC.to_owned(), partition);
    cluster.world.change(|state| state.group(GROUP).refused.insert(place, code));
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_of_before_a_seek_are_not_committed_after_it_while_the_listener_is_busy() {
    let scene = Scene::set(None).await;
    scene.mark();
    seek(&scene.cluster).await;
    assert!(scene.records.iter().all(|record| record.is_held() == (record.partition.0 == 1)));
    // What is being revoked is committed still, under the new epoch.
    scene.first.commit_offsets([(place(1), Offset(6))]).await.unwrap();
    let error = scene.first.commit_offsets([(place(0), Offset(9))]).await.unwrap_err();
    assert!(matches!(error, CommitError::NotHeld { .. }), "{error}");
    assert_eq!(committed(&scene.cluster, 0), Some(2));
    scene.first.commit().await.unwrap();
    assert_eq!(committed(&scene.cluster, 1), Some(8));
    scene.play_on(8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_waits_for_its_epoch_does_not_undo_a_seek() {
    let scene = Scene::set(None).await;
    refuse(&scene.cluster, 0, ErrorCode::StaleMemberEpoch);
    scene.mark();
    let sought = async {
        let refused = "refused orders/0 9";
        group_is(&scene.cluster, |group| group.position(refused).is_some()).await;
        seek(&scene.cluster).await;
    };
    let (outcome, ()) = tokio::join!(scene.first.commit(), sought);
    assert!(matches!(outcome, Err(CommitError::NotHeld { .. })), "{outcome:?}");
    scene.play_on(8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_commit_does_not_undo_a_seek() {
    let scene = Scene::set(Some(Duration::from_millis(10))).await;
    seek(&scene.cluster).await;
    scene.mark();
    // One call commits all that is marked: partition 0 had its turn.
    group_is(&scene.cluster, |group| group.committed(TOPIC, 1) == Some(8)).await;
    scene.play_on(8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_position_does_not_undo_a_seek() {
    let cluster = cluster(1, 2, 9);
    refuse(&cluster, 0, ErrorCode::StaleMemberEpoch);
    let (witness, busy) = Witness::busy();
    let first = builder(&cluster).await.start(StartPolicy::Latest).listener(witness.clone());
    let mut first = first.build().await.unwrap();
    let refused = "refused orders/0 9";
    group_is(&cluster, |group| group.position(refused).is_some()).await;
    let _second = builder(&cluster).await.build().await.unwrap();
    timeout(PATIENCE, busy.entered.notified()).await.unwrap();
    seek(&cluster).await;
    assert_eq!(committed(&cluster, 0), Some(2));
    busy.let_go.notify_one();
    assert_eq!(take(&mut first, 7).await[0].offset, Offset(2));
    assert_eq!(committed(&cluster, 0), Some(2));
    assert_eq!(witness.told(), ["assigned 0 1", "revoked 1", "lost 0", "assigned 0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sought_and_moved_on_meanwhile_is_lost_and_let_go_at_once() {
    let mut scene = Scene::set(None).await;
    scene.mark();
    seek(&scene.cluster).await;
    scene.cluster.world.change(|state| {
        state.group(GROUP).pins.insert((TOPIC.to_owned(), 0), 1);
        state.settle(GROUP);
    });
    group_is(&scene.cluster, |group| group.knows(0)).await;
    scene.busy.let_go.notify_one();
    let began = Instant::now();
    holds(&scene.cluster, &scene.second, 2).await;
    // Not only with the next heartbeat but one, which comes after three seconds.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(scene.witness.told(), ["assigned 0 1", "revoked 1", "lost 0"]);
    let again = take(&mut scene.second, 8).await;
    let of_first = again.iter().find(|record| record.partition.0 == 0);
    assert_eq!(of_first.unwrap().offset, Offset(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_is_not_followed() {
    let cluster = cluster(1, 2, 9);
    let witness = Witness::default();
    let first = builder(&cluster).await.listener(witness.clone()).build().await.unwrap();
    holds(&cluster, &first, 2).await;
    // Of before anything was granted.
    let outdated = {
        let mut state = cluster.world.state();
        let member = state.group(GROUP).members.keys().next().unwrap().clone();
        let answer = state.group(GROUP).answer(&member, |_| String::new());
        v1::HeartbeatResponse { revision: 1, member_epoch: 0, assignment: Vec::new(), ..answer }
    };
    let second = builder(&cluster).await.build().await.unwrap();
    holds(&cluster, &second, 1).await;
    // The second member would be told as well, and it knows nothing of this revision.
    second.close().await.unwrap();
    holds(&cluster, &first, 2).await;
    group_is(&cluster, |group| group.knows(0)).await;
    let beats = cluster.world.change(|state| {
        let group = state.group(GROUP);
        group.outdated.push_back(outdated);
        group.beats
    });
    group_is(&cluster, |group| group.beats > beats && group.knows(0)).await;
    first.commit_offsets([(place(0), Offset(1)), (place(1), Offset(1))]).await.unwrap();
    assert_eq!(witness.told(), ["assigned 0 1", "revoked 1", "assigned 1"]);
    assert_eq!(first.assignment(), [place(0), place(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_expired_and_made_again_by_a_late_copy_of_its_join_joins_anew() {
    let cluster = cluster(1, 1, 3);
    let witness = Witness::default();
    let first = builder(&cluster).await.listener(witness.clone()).build().await.unwrap();
    holds(&cluster, &first, 1).await;
    cluster.world.change(|state| {
        let group = state.group(GROUP);
        group.outdated.push_back(v1::HeartbeatResponse {
            revision: 1,
            member_epoch: group.epoch + 1,
            session_timeout_ms: 10_000,
            ..v1::HeartbeatResponse::default()
        });
    });
    group_is(&cluster, |group| group.position("join 1").is_some()).await;
    assert_eq!(witness.told(), ["assigned 0", "lost 0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_that_was_replaced_does_not_come_back() {
    let cluster = cluster(2, 1, 9);
    let witness = Witness::default();
    let first = builder(&cluster).await.instance_id("shelf-1").listener(witness.clone());
    let mut first = first.build().await.unwrap();
    let old = take(&mut first, 9).await;
    let mut second = builder(&cluster).await.instance_id("shelf-1").build().await.unwrap();
    let error = timeout(PATIENCE, first.recv()).await.unwrap().unwrap_err();
    assert!(error.is_fatal() && !error.is_retriable(), "{error}");
    assert_eq!(error.code(), Some(ErrorCode::FencedInstanceId));
    assert!(timeout(PATIENCE, first.recv()).await.unwrap().unwrap().is_none());
    assert_eq!(witness.told(), ["assigned 0", "lost 0"]);
    assert!(!old[0].is_held() && first.assignment().is_empty());
    old.iter().for_each(|record| record.mark());
    first.commit().await.unwrap();
    first.close().await.unwrap();
    // All of them come again, and the second member is not disturbed.
    assert_eq!(take(&mut second, 9).await[0].offset, Offset(0));
    let journal = cluster.world.state().group(GROUP).journal.clone();
    assert_eq!(journal.iter().filter(|line| line.starts_with("join")).count(), 2, "{journal:?}");
    assert_eq!(committed(&cluster, 0), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_tells_when_the_membership_ends_before_marks_are_committed() {
    for (replaced, marked) in [(false, true), (true, true), (false, false)] {
        let cluster = cluster(1, 1, 3);
        let (witness, busy) = Witness::busy();
        let first = builder(&cluster).await.instance_id("shelf-1").listener(witness.clone());
        let mut first = first.build().await.unwrap();
        let records = take(&mut first, 3).await;
        records.iter().filter(|_| marked).for_each(|record| record.mark());
        let close = tokio::spawn(first.close());
        timeout(PATIENCE, busy.entered.notified()).await.unwrap();
        let _second = if replaced {
            Some(builder(&cluster).await.instance_id("shelf-1").build().await.unwrap())
        } else {
            let member = cluster.world.state().group(GROUP).members.keys().next().unwrap().clone();
            cluster.world.change(|state| state.group(GROUP).remove(&member));
            None
        };
        let outcome = timeout(PATIENCE, close).await.unwrap().unwrap();
        match (replaced, marked) {
            (_, false) => outcome.unwrap(),
            (false, true) => assert!(matches!(outcome, Err(CommitError::NotHeld { .. }))),
            (true, true) => {
                let error = outcome.unwrap_err();
                assert!(error.is_fatal(), "{error}");
                assert_eq!(error.code(), Some(ErrorCode::FencedInstanceId));
            }
        }
        assert_eq!(committed(&cluster, 0), Some(0));
        assert_eq!(witness.told(), ["assigned 0", "revoked 0", "lost 0"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_ends_by_its_deadline_and_tells_why() {
    let cluster = cluster(1, 1, 3);
    let within = Duration::from_millis(300);
    let client = cluster.client().request_timeout(within).connect().await.unwrap();
    let consumer = client.consumer(GROUP).topics([TOPIC]).start(StartPolicy::Earliest);
    let mut consumer = consumer.manual_commit().build().await.unwrap();
    take(&mut consumer, 3).await.iter().for_each(|record| record.mark());
    // No new epoch comes.
    refuse(&cluster, 0, ErrorCode::StaleMemberEpoch);
    let began = Instant::now();
    let error = consumer.commit().await.unwrap_err();
    let elapsed = began.elapsed();
    assert!((within..within * 5).contains(&elapsed), "{elapsed:?}");
    assert!(error.maybe_written() && error.is_retriable(), "{error}");
    assert_eq!(error.code(), Some(ErrorCode::StaleMemberEpoch));
    cluster.world.change(|state| state.group(GROUP).refused.clear());
    consumer.commit().await.unwrap();
}
