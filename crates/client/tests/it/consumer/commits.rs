//! What is committed, and when.

use std::time::Duration;

use tidelog_client::{CommitError, ErrorCode, Offset, OffsetCommit, StartPolicy};

use super::{GROUP, TOPIC, builder, cluster, committed, group_is, place, take};
use crate::fake::fill;

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_marked_is_committed_and_no_record_is_skipped() {
    let cluster = cluster(1, 1, 12);
    let mut consumer = builder(&cluster).await.build().await.unwrap();
    let records = take(&mut consumer, 9).await;
    // The first position is committed before anything is handed out.
    assert_eq!(committed(&cluster, 0), Some(0));
    for (marked, expected) in [(2, 0), (8, 0), (0, 1), (1, 3), (4, 3), (3, 5)] {
        consumer.mark(&records[marked]);
        consumer.commit().await.unwrap();
        assert_eq!(committed(&cluster, 0), Some(expected), "after {marked}");
    }
    records[5..8].iter().for_each(|record| record.mark());
    consumer.close().await.unwrap();
    assert_eq!(committed(&cluster, 0), Some(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_commit_takes_what_is_marked_by_and_by() {
    let cluster = cluster(1, 2, 6);
    let consumer = builder(&cluster).await.auto_commit(Duration::from_millis(20));
    let mut consumer = consumer.build().await.unwrap();
    let records = take(&mut consumer, 12).await;
    for record in records.iter().filter(|record| record.offset < Offset(4)) {
        consumer.mark(record);
    }
    group_is(&cluster, |group| (0..2).all(|p| group.committed(TOPIC, p) == Some(4))).await;
    let journal = cluster.world.state().group(GROUP).journal.clone();
    assert!(
        !journal.iter().any(|line| line.ends_with(" 5") || line.ends_with(" 6")),
        "{journal:?}"
    );
    records.iter().for_each(|record| record.mark());
    group_is(&cluster, |group| (0..2).all(|p| group.committed(TOPIC, p) == Some(6))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_commits_and_leaves_and_a_drop_does_too() {
    for close in [true, false] {
        let cluster = cluster(2, 1, 6);
        let mut consumer = builder(&cluster).await.build().await.unwrap();
        let records = take(&mut consumer, 6).await;
        records[..4].iter().for_each(|record| consumer.mark(record));
        if close {
            consumer.close().await.unwrap();
            assert!(cluster.world.state().group(GROUP).members.is_empty());
        } else {
            drop(consumer);
        }
        group_is(&cluster, |group| group.members.is_empty()).await;
        let mut state = cluster.world.state();
        let group = state.group(GROUP);
        let commit = group.position("commit orders/0 4").unwrap();
        assert!(commit < group.position("leave 0").unwrap(), "{:?}", group.journal);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_stays_and_its_successor_takes_over() {
    let cluster = cluster(1, 2, 3);
    let mut consumer = builder(&cluster).await.instance_id("shelf-1").build().await.unwrap();
    take(&mut consumer, 6).await.iter().for_each(|record| record.mark());
    consumer.close().await.unwrap();
    assert_eq!(cluster.world.state().group(GROUP).members.len(), 1);
    let mut next = builder(&cluster).await.instance_id("shelf-1").build().await.unwrap();
    super::grow(&cluster.world, 0, 3..6);
    assert_eq!(take(&mut next, 3).await[0].offset, Offset(3));
    let journal = cluster.world.state().group(GROUP).journal.clone();
    assert!(!journal.iter().any(|line| line.starts_with("leave")), "{journal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_epoch_is_waited_out() {
    let cluster = cluster(1, 1, 3);
    let mut consumer = builder(&cluster).await.build().await.unwrap();
    take(&mut consumer, 3).await.iter().for_each(|record| record.mark());
    cluster.world.change(|state| {
        state.group(GROUP).refusals.push_back(ErrorCode::StaleMemberEpoch);
    });
    let commit = tokio::spawn(async move {
        consumer.commit().await.unwrap();
        consumer
    });
    group_is(&cluster, |group| group.position("refused orders/0 3").is_some()).await;
    cluster.world.change(|state| {
        let group = state.group(GROUP);
        group.epoch += 1;
        let epoch = group.epoch;
        let member = group.members.values_mut().next().unwrap();
        (member.epoch, member.revision) = (epoch, member.revision + 1);
    });
    let consumer = commit.await.unwrap();
    assert_eq!(committed(&cluster, 0), Some(3));
    drop(consumer);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_pass_is_tried_again_and_a_refusal_is_told() {
    let cluster = cluster(2, 1, 3);
    let mut consumer = builder(&cluster).await.build().await.unwrap();
    take(&mut consumer, 3).await.iter().for_each(|record| record.mark());
    let refuse = |code| cluster.world.change(|state| state.group(GROUP).refusals.push_back(code));
    refuse(ErrorCode::CoordinatorNotAvailable);
    refuse(ErrorCode::CoordinatorLoadInProgress);
    consumer.commit().await.unwrap();
    assert_eq!(committed(&cluster, 0), Some(3));
    let error = consumer.commit_offsets([(place(0), Offset(4))]).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
    assert!(matches!(error, CommitError::Refused { .. }) && !error.is_retriable());
    let error = consumer.commit_offsets([(place(7), Offset(1))]).await.unwrap_err();
    assert_eq!(error.to_string(), "orders/7 is not held any more");
    assert!(!error.maybe_written());
}

/// The first try takes effect and its answer gets lost; what the second is answered is no proof.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_after_a_lost_answer_leaves_the_commit_in_doubt() {
    for (code, held) in [(ErrorCode::OffsetOutOfRange, true), (ErrorCode::FencedMemberEpoch, false)]
    {
        let cluster = cluster(1, 1, 3);
        let mut consumer = builder(&cluster).await.manual_commit().build().await.unwrap();
        take(&mut consumer, 3).await.iter().for_each(|record| record.mark());
        cluster.world.change(|state| state.group(GROUP).lost_answers.push_back(code));
        let error = consumer.commit().await.unwrap_err();
        assert_eq!(matches!(error, CommitError::Refused { .. }), held, "{error}");
        assert!(error.maybe_written(), "{error}");
        assert_eq!(committed(&cluster, 0), Some(3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_committed_with_what_goes_beside_them_and_read_back() {
    let cluster = cluster(1, 2, 3);
    let mut consumer = builder(&cluster).await.build().await.unwrap();
    take(&mut consumer, 6).await;
    let offset = OffsetCommit::new(Offset(2)).metadata("half way").leader_epoch(1);
    consumer.commit_offsets([(place(0), offset)]).await.unwrap();
    // Lower: nothing changes.
    consumer.commit_offsets([(place(0), Offset(1))]).await.unwrap();
    let offsets = consumer.committed([place(0), place(1), place(5)]).await.unwrap();
    let first = offsets[&place(0)].as_ref().unwrap();
    assert_eq!((first.offset, first.leader_epoch), (Offset(2), Some(1)));
    assert_eq!(first.metadata, "half way");
    assert_eq!(offsets[&place(1)].as_ref().unwrap().offset, Offset(0));
    assert_eq!(offsets[&place(5)], None);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_group_begins_is_committed_first() {
    for (start, expected) in [(StartPolicy::Earliest, 0), (StartPolicy::Latest, 3)] {
        let cluster = cluster(2, 1, 3);
        // The first look-ups fail, and so does the first commit.
        cluster.world.change(|state| {
            state.lookups_refused = 2;
            state.group(GROUP).refusals.push_back(ErrorCode::CoordinatorNotAvailable);
        });
        let consumer = builder(&cluster).await.start(start).build().await.unwrap();
        group_is(&cluster, |group| group.committed(TOPIC, 0) == Some(expected)).await;
        drop(consumer);
        // Written between two owners, neither of whom has committed a record.
        fill(&cluster.world, TOPIC, 0, &[("3", 100)]);
        group_is(&cluster, |group| group.members.is_empty()).await;
        let mut consumer = builder(&cluster).await.start(start).build().await.unwrap();
        assert_eq!(super::next(&mut consumer).await.offset, Offset(expected as u64));
    }
}
