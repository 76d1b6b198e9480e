//! Records on their way: paused, sought, bounded, split up.

use std::time::Duration;

use futures_util::StreamExt;
use tidelog_client::{ConsumeError, Error, Offset, Position, StartPolicy, Timestamp};
use tokio::time::{sleep, timeout};

use super::{
    GROUP, PATIENCE, TOPIC, Witness, builder, client, cluster, committed, group_is, grow, holds,
    next, place, take,
};
use crate::fake::{Cluster, fill};

#[tokio::test(flavor = "multi_thread")]
async fn paused_partitions_wait_and_the_others_go_on() {
    let cluster = cluster(1, 2, 30);
    let mut consumer = builder(&cluster).await.build().await.unwrap();
    holds(&cluster, &consumer, 2).await;
    consumer.pause([place(0), place(9)]);
    assert_eq!(consumer.paused(), [place(0)]);
    let records = take(&mut consumer, 30).await;
    assert!(records.iter().all(|record| record.partition.0 == 1));
    assert_eq!(consumer.recv_batch(5, Duration::from_millis(50)).await.unwrap().unwrap().len(), 0);
    let lag = consumer.lag();
    assert_eq!(lag.iter().map(|lag| lag.records).collect::<Vec<_>>(), [Some(30), Some(0)]);
    consumer.resume([place(0)]);
    let records = take(&mut consumer, 30).await;
    assert_eq!((records[0].partition.0, records[0].offset), (0, Offset(0)));
    let positions = consumer.positions();
    assert!(positions.iter().all(|at| at.next == Some(Offset(30))), "{positions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seek_goes_on_elsewhere_and_forgets_what_was_handed_out() {
    let cluster = cluster(1, 1, 9);
    let mut consumer = builder(&cluster).await.build().await.unwrap();
    let old = take(&mut consumer, 9).await;
    old[..3].iter().for_each(|record| record.mark());
    consumer.seek(&place(0), Position::Earliest).await.unwrap();
    let again = take(&mut consumer, 9).await;
    assert_eq!(again[0].offset, Offset(0));
    // Marks of before count for what was before; they do not reach into what came after.
    old.iter().for_each(|record| record.mark());
    again[..2].iter().for_each(|record| record.mark());
    consumer.commit().await.unwrap();
    assert_eq!(committed(&cluster, 0), Some(3));
    consumer.seek(&place(0), Position::Timestamp(Timestamp(101))).await.unwrap();
    assert!(consumer.recv_batch(1, Duration::from_millis(50)).await.unwrap().unwrap().is_empty());
    consumer.seek(&place(0), Position::Offset(Offset(7))).await.unwrap();
    assert_eq!(next(&mut consumer).await.offset, Offset(7));
    let error = consumer.seek(&place(4), Position::Latest).await.unwrap_err();
    assert!(matches!(error, Error::NotAssigned { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_is_told_and_a_seek_passes_it() {
    let cluster = cluster(1, 1, 9);
    cluster.world.change(|state| {
        state.group(GROUP).seek(&(TOPIC.to_owned(), 0), 2);
        state.partition(TOPIC, 0).unwrap().log_start = 6;
    });
    let mut consumer = builder(&cluster).await.build().await.unwrap();
    let error = timeout(PATIENCE, consumer.recv()).await.unwrap().unwrap_err();
    assert_eq!(error.partition(), Some(&place(0)));
    assert!(!error.is_retriable() && !error.is_fatal(), "{error}");
    consumer.seek(&place(0), Position::Earliest).await.unwrap();
    assert_eq!(next(&mut consumer).await.offset, Offset(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_has_committed_nothing_is_an_error_when_it_should_be() {
    let cluster = cluster(1, 1, 3);
    let consumer = builder(&cluster).await.start(StartPolicy::Error);
    let mut consumer = consumer.build().await.unwrap();
    let error = timeout(PATIENCE, consumer.recv()).await.unwrap().unwrap_err();
    assert!(matches!(error, ConsumeError::NoOffset { .. }), "{error}");
    assert_eq!(committed(&cluster, 0), None);
    consumer.seek(&place(0), Position::Offset(Offset(1))).await.unwrap();
    assert_eq!(next(&mut consumer).await.offset, Offset(1));
    assert_eq!(committed(&cluster, 0), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_just_added_is_begun_though_brokers_have_not_heard_of_it() {
    let cluster = cluster(3, 2, 3);
    let mut consumer = builder(&cluster).await.build().await.unwrap();
    take(&mut consumer, 6).await;
    cluster.world.change(|state| {
        // More than the look-up asks before it gives up: the coordinator knows best.
        state.descriptions_behind = 20;
        state.add_partitions(TOPIC, 1);
    });
    grow(&cluster.world, 2, 0..3);
    cluster.world.change(|state| state.settle(GROUP));
    let records = take(&mut consumer, 3).await;
    assert!(records.iter().all(|record| record.partition.0 == 2));
    assert_eq!(cluster.world.state().descriptions_behind, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_does_not_read_is_not_sent_more_than_its_buffer() {
    const BUFFER: usize = 64 << 10;
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    let value = "x".repeat(1_000);
    for _ in 0..400 {
        fill(&cluster.world, TOPIC, 0, &[(&value, 1)]);
    }
    let mut consumer = builder(&cluster).await.buffer_bytes(BUFFER).build().await.unwrap();
    next(&mut consumer).await;
    let mut count = 1;
    while count < 400 {
        let records = consumer.recv_batch(7, PATIENCE).await.unwrap().unwrap();
        assert!((1..=7).contains(&records.len()));
        count += records.len();
    }
    let ahead = cluster.world.state().fetched_ahead_max;
    // One response may overdraw.
    assert!(ahead <= (BUFFER + (1 << 20)) as u64, "{ahead}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_processing_keeps_the_membership() {
    let cluster = cluster(1, 1, 3);
    let consumer = builder(&cluster).await.session_timeout(Duration::from_secs(1));
    let mut consumer = consumer.build().await.unwrap();
    let record = next(&mut consumer).await;
    // As an application does that is busy for longer than the session timeout.
    sleep(Duration::from_millis(1_800)).await;
    consumer.mark(&record);
    consumer.commit().await.unwrap();
    assert_eq!(committed(&cluster, 0), Some(1));
    let mut state = cluster.world.state();
    let silent = state.group(GROUP).members.values().next().unwrap().silent_max;
    assert!(silent > Duration::ZERO && silent < Duration::from_millis(900), "{silent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_marks_nothing_by_the_deadline_leaves_and_may_come_back() {
    let cluster = cluster(1, 1, 3);
    let deadline = Duration::from_millis(300);
    let witness = Witness::default();
    let consumer = builder(&cluster).await.processing_deadline(Some(deadline));
    let mut consumer = consumer.listener(witness.clone()).build().await.unwrap();
    let records = take(&mut consumer, 3).await;
    records[0].mark();
    group_is(&cluster, |group| group.members.is_empty() && !group.gone.is_empty()).await;
    // What was marked is committed.
    assert_eq!(committed(&cluster, 0), Some(1));
    let error = timeout(PATIENCE, consumer.recv()).await.unwrap().unwrap_err();
    assert!(matches!(error, ConsumeError::ProcessingDeadline { .. }), "{error}");
    assert!(error.is_retriable());
    let again = take(&mut consumer, 2).await;
    assert_eq!(again[0].offset, Offset(1));
    assert_eq!(witness.told(), ["assigned 0", "lost 0", "assigned 0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_partition_has_a_stream_that_ends_when_it_goes() {
    let cluster = cluster(1, 2, 6);
    let mut consumer = builder(&cluster).await.build().await.unwrap();
    let mut partitions = consumer.partition_streams();
    let mut streams = Vec::new();
    while streams.len() < 2 {
        streams.push(timeout(PATIENCE, partitions.next()).await.unwrap().unwrap().unwrap());
    }
    streams.sort_by_key(|stream| stream.partition().clone());
    let mut second = streams.pop().unwrap();
    let mut first = streams.pop().unwrap();
    for offset in 0..6 {
        let record = timeout(PATIENCE, second.next()).await.unwrap().unwrap().unwrap();
        assert_eq!((record.partition.0, record.offset), (1, Offset(offset)));
        record.mark();
    }
    let other = builder(&cluster).await.build().await.unwrap();
    assert!(timeout(PATIENCE, second.next()).await.unwrap().is_none());
    holds(&cluster, &other, 1).await;
    assert_eq!(committed(&cluster, 1), Some(6));
    for offset in 0..6 {
        let record = timeout(PATIENCE, first.next()).await.unwrap().unwrap().unwrap();
        assert_eq!((record.partition.0, record.offset), (0, Offset(offset)));
    }
    // It comes again, and so does a stream.
    other.close().await.unwrap();
    let mut again = timeout(PATIENCE, partitions.next()).await.unwrap().unwrap().unwrap();
    grow(&cluster.world, 1, 6..9);
    let record = timeout(PATIENCE, again.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(record.offset, Offset(6));
    consumer.close().await.unwrap();
    assert!(timeout(PATIENCE, partitions.next()).await.unwrap().is_none());
    assert!(timeout(PATIENCE, first.next()).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_subscribes_to_what_it_matches() {
    let cluster = cluster(1, 1, 3);
    let consumer = client(&cluster).await.consumer(GROUP).topic_pattern("ord.*");
    let mut consumer = consumer.start(StartPolicy::Earliest).build().await.unwrap();
    assert_eq!(take(&mut consumer, 3).await.len(), 3);
}
