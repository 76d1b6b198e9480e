//! The reader: dense and in order, across leaders, or an error that says why not.

use std::time::{Duration, Instant};

use tidelog_client::{
    Client, Offset, PartitionId, Position, ReadError, Reader, Timestamp, TopicName, Until,
};
use tokio::time::timeout;

use crate::fake::{Cluster, PATIENCE, World, fill};

const TOPIC: &str = "orders";

async fn client(cluster: &Cluster) -> Client {
    cluster.client().connect().await.unwrap()
}

/// Batches of three records: "0", "1", "2" …, made at 100, 101, 102 …
fn fill_batches(world: &World, partition: usize, batches: std::ops::Range<usize>) {
    for batch in batches {
        let values = (0..3).map(|n| (batch * 3 + n).to_string()).collect::<Vec<_>>();
        let times = (0..3).map(|n| 100 + (batch * 3 + n) as i64);
        let records = values.iter().map(String::as_str).zip(times).collect::<Vec<_>>();
        fill(world, TOPIC, partition, &records);
    }
}

async fn read_all(reader: &mut Reader) -> Result<Vec<u64>, ReadError> {
    let mut offsets = Vec::new();
    while let Some(record) = timeout(PATIENCE, reader.recv()).await.unwrap()? {
        assert_eq!(record.value.unwrap(), record.offset.to_string());
        assert_eq!(record.timestamp, Timestamp(100 + record.offset.0 as i64));
        offsets.push(record.offset.0);
    }
    Ok(offsets)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_partitions_are_read_up_to_their_end() {
    let cluster = Cluster::start(3);
    cluster.world.create(TOPIC, 3);
    for partition in 0..3 {
        fill_batches(&cluster.world, partition, 0..50);
    }
    let reader = client(&cluster).await.reader().topic(TOPIC, Position::Earliest).until(Until::End);
    let mut reader = reader.build().await.unwrap();
    let mut offsets = read_all(&mut reader).await.unwrap();
    assert_eq!(reader.recv().await.unwrap(), None);
    offsets.sort_unstable();
    let expected = (0..150).flat_map(|offset| [offset; 3]).collect::<Vec<_>>();
    assert_eq!(offsets, expected);
    for position in reader.positions() {
        assert_eq!((position.next, position.high_watermark), (Some(Offset(150)), Offset(150)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_begins_and_stops_inside_a_batch() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    fill_batches(&cluster.world, 0, 0..4);
    let client = client(&cluster).await;
    let cases = [
        (Position::Earliest, Until::End, 0..12),
        (Position::Offset(Offset(4)), Until::End, 4..12),
        (Position::Offset(Offset(4)), Until::Offset(Offset(8)), 4..8),
        (Position::Timestamp(Timestamp(107)), Until::End, 7..12),
        (Position::Timestamp(Timestamp(9_999)), Until::End, 12..12),
        (Position::Latest, Until::End, 12..12),
        (Position::Offset(Offset(12)), Until::End, 12..12),
    ];
    for (start, until, expected) in cases {
        let reader = client.reader().partition(TOPIC, PartitionId(0), start).until(until);
        let offsets = read_all(&mut reader.build().await.unwrap()).await.unwrap();
        assert_eq!(offsets, expected.collect::<Vec<_>>(), "{start:?} {until:?}");
    }
}

/// Who asked for the first record that is still there is given it, wherever that is by now; who asked for
/// an offset is told that it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn the_start_may_move_until_the_first_record_is_read() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    fill_batches(&cluster.world, 0, 0..4);
    let trim = |start| {
        cluster.world.change(|state| {
            state.partition(TOPIC, 0).unwrap().trim_on_fetch = Some(start);
        });
    };
    trim(3);
    let reader = client(&cluster).await.reader().topic(TOPIC, Position::Earliest).until(Until::End);
    let mut reader = reader.build().await.unwrap();
    for offset in 3..12 {
        let record = timeout(PATIENCE, reader.recv()).await.unwrap().unwrap().unwrap();
        assert_eq!(record.offset, Offset(offset));
    }
    assert!(timeout(PATIENCE, reader.recv()).await.unwrap().unwrap().is_none());

    trim(6);
    let reader = client(&cluster).await.reader().topic(TOPIC, Position::Offset(Offset(3)));
    let mut reader = reader.build().await.unwrap();
    let gone = timeout(PATIENCE, reader.recv()).await.unwrap().unwrap_err();
    assert!(matches!(gone, ReadError::OffsetOutOfRange { .. }), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn following_goes_on_at_new_leaders() {
    let cluster = Cluster::start(3);
    cluster.world.create(TOPIC, 1);
    fill_batches(&cluster.world, 0, 0..2);
    let reader = client(&cluster).await.reader().topic(TOPIC, Position::Earliest);
    let mut reader = reader.build().await.unwrap();
    for round in 0..20 {
        for n in 0..6 {
            let record = timeout(PATIENCE, reader.recv()).await.unwrap().unwrap().unwrap();
            assert_eq!(record.offset.0, round * 6 + n);
        }
        cluster.world.move_leader(TOPIC, 0, round as u32 % 3 + 1);
        let next = (round as usize + 1) * 2;
        fill_batches(&cluster.world, 0, next..next + 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_or_dead_leader_is_left() {
    let mut cluster = Cluster::start(3);
    cluster.world.create(TOPIC, 1);
    fill_batches(&cluster.world, 0, 0..1);
    let reader = client(&cluster).await.reader().topic(TOPIC, Position::Earliest);
    let mut reader = reader.build().await.unwrap();
    for offset in 0..3 {
        assert_eq!(reader.recv().await.unwrap().unwrap().offset, Offset(offset));
    }
    cluster.world.freeze(1);
    cluster.world.move_leader(TOPIC, 0, 2);
    fill_batches(&cluster.world, 0, 1..2);
    let began = Instant::now();
    for offset in 3..6 {
        assert_eq!(reader.recv().await.unwrap().unwrap().offset, Offset(offset));
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    cluster.world.move_leader(TOPIC, 0, 3);
    cluster.kill(2);
    fill_batches(&cluster.world, 0, 2..3);
    for offset in 6..9 {
        assert_eq!(reader.recv().await.unwrap().unwrap().offset, Offset(offset));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_batch_is_an_error_and_not_skipped() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    fill_batches(&cluster.world, 0, 0..4);
    cluster.world.change(|state| state.partition(TOPIC, 0).unwrap().log.remove(2));
    let reader = client(&cluster).await.reader().topic(TOPIC, Position::Earliest);
    let mut reader = reader.build().await.unwrap();
    for offset in 0..6 {
        assert_eq!(reader.recv().await.unwrap().unwrap().offset, Offset(offset));
    }
    let error = reader.recv().await.unwrap_err();
    assert_eq!(error.to_string(), "orders/0 goes on at offset 9, expected 6");
    assert!(error.is_fatal());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_an_error_and_not_handed_out() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    fill_batches(&cluster.world, 0, 0..2);
    cluster.world.change(|state| {
        let batch = &mut state.partition(TOPIC, 0).unwrap().log[1].1;
        let mut bytes = batch.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        *batch = bytes.into();
    });
    let reader = client(&cluster).await.reader().topic(TOPIC, Position::Earliest);
    let mut reader = reader.build().await.unwrap();
    for offset in 0..3 {
        assert_eq!(reader.recv().await.unwrap().unwrap().offset, Offset(offset));
    }
    let error = reader.recv().await.unwrap_err();
    assert!(matches!(error, ReadError::Corrupt { offset: Offset(3), .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_is_gone_is_an_error_of_its_own() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    fill_batches(&cluster.world, 0, 0..2);
    cluster.world.change(|state| state.partition(TOPIC, 0).unwrap().log_start = 3);
    let client = client(&cluster).await;
    for offset in [0, 99] {
        let start = Position::Offset(Offset(offset));
        let mut reader = client.reader().topic(TOPIC, start).build().await.unwrap();
        let error = timeout(PATIENCE, reader.recv()).await.unwrap().unwrap_err();
        assert!(matches!(error, ReadError::OffsetOutOfRange { .. }), "{error}");
        assert_eq!(reader.recv().await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_is_not_sent_more_than_its_buffer() {
    const BUFFER: usize = 64 << 10;
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    let value = "x".repeat(1_000);
    for _ in 0..400 {
        fill(&cluster.world, TOPIC, 0, &[(&value, 1)]);
    }
    let reader = client(&cluster).await.reader().topic(TOPIC, Position::Earliest);
    let mut reader = reader.buffer_bytes(BUFFER).until(Until::End).build().await.unwrap();
    reader.recv().await.unwrap().unwrap();
    let mut count = 1;
    while let Some(records) = reader.recv_batch(7, PATIENCE).await.unwrap() {
        assert!((1..=7).contains(&records.len()));
        count += records.len();
    }
    assert_eq!(count, 400);
    let ahead = cluster.world.state().fetched_ahead_max;
    // One response may overdraw.
    assert!(ahead <= (BUFFER + (1 << 20)) as u64, "{ahead}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_does_not_come_in_time_is_empty() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    let reader = client(&cluster).await.reader().topic(TOPIC, Position::Earliest);
    let mut reader = reader.build().await.unwrap();
    let records = reader.recv_batch(10, Duration::from_millis(30)).await.unwrap();
    assert_eq!(records, Some(Vec::new()));
    fill_batches(&cluster.world, 0, 0..1);
    let records = reader.recv_batch(10, PATIENCE).await.unwrap().unwrap();
    assert_eq!(records.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_told_at_once() {
    let cluster = Cluster::start(2);
    cluster.world.create(TOPIC, 1);
    let client = client(&cluster).await;
    let error = client.reader().topic("nothing", Position::Latest).build().await.unwrap_err();
    assert_eq!(error.to_string(), "topic nothing does not exist");
    let topic = TopicName::new(TOPIC).unwrap();
    let reader = client.reader().partition(topic, PartitionId(4), Position::Latest);
    let error = reader.build().await.unwrap_err();
    assert_eq!(error.to_string(), "topic orders has 1 partitions, none of them is 4");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_a_leader_is_given_up_in_the_end() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    cluster.world.change(|state| state.partition(TOPIC, 0).unwrap().leader = 0);
    let reader = client(&cluster).await.reader().topic(TOPIC, Position::Earliest);
    let reader = reader.unavailable_timeout(Duration::from_millis(200));
    let error = reader.build().await.unwrap().recv().await.unwrap_err();
    assert!(matches!(error, ReadError::Unavailable { .. }) && error.is_retriable(), "{error}");
}
