//! Records in and out, on the wire.

use std::time::Duration;

use futures_util::StreamExt;
use tidelog_proto::v1::fetch_request::Request as Asked;
use tidelog_proto::v1::list_offsets_result::Result as Listed;
use tidelog_proto::v1::offset_spec::Spec;
use tidelog_proto::v1::{
    Error, FetchCredit, FetchRecordsRequest, FetchRequest, InitProducerRequest, ListOffsetsItem,
    ListOffsetsRequest, OffsetBound, ProduceRecordsRequest, Record, TransferLeaderItem,
    TransferLeaderRequest, produce_records_result, transfer_leader_result,
};
use tidelog_types::ErrorCode;
use tokio::time::timeout;

use crate::cluster::{Cluster, PATIENCE};
use crate::records::{Produce, batch, fetch, from, read_all, values};

fn code(error: &Error) -> ErrorCode {
    error.error_code().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acked_records_are_read_back_in_order_and_bad_batches_are_refused() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(2, "orders", 2, 3).await;
    let leader = cluster.leader(1, "orders", 0).await;
    let mut produce = Produce::open(cluster.log(leader).await).await;

    for n in 0..100 {
        let value = format!("v{n}");
        produce.send("orders", 0, batch(&[&value, "x"], None)).await;
    }
    for n in 0..100_u64 {
        let (id, appended) = produce.answer().await;
        assert_eq!((id, appended.unwrap().base_offset), (n + 1, n as i64 * 2));
    }
    let found = read_all(cluster.log(leader).await, "orders", 0).await.unwrap();
    assert_eq!(found.len(), 200);
    for (n, (offset, value)) in found.iter().enumerate() {
        let expected = if n % 2 == 0 { format!("v{}", n / 2) } else { "x".to_owned() };
        assert_eq!((*offset, value), (n as u64, &expected));
    }

    let mut damaged = batch(&["x"], None).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let large = "x".repeat(1_100_000);
    let cases = [
        ("orders", 0, damaged.into(), ErrorCode::CorruptMessage),
        ("orders", 0, batch(&[&large], None), ErrorCode::MessageTooLarge),
        ("orders", 7, batch(&["x"], None), ErrorCode::UnknownTopicOrPartition),
        ("nothing", 0, batch(&["x"], None), ErrorCode::UnknownTopicOrPartition),
    ];
    for (topic, partition, batch, expected) in cases {
        let error = produce.put(topic, partition, batch).await.unwrap_err();
        assert_eq!(code(&error), expected, "{error}");
    }
    assert_eq!(produce.put("orders", 0, batch(&["z"], None)).await.unwrap().base_offset, 200);

    // Whoever does not lead says who does, and where.
    let other = 1 + leader % 3;
    let mut elsewhere = Produce::open(cluster.log(other).await).await;
    let error = elsewhere.put("orders", 0, batch(&["x"], None)).await.unwrap_err();
    assert_eq!(code(&error), ErrorCode::NotLeader);
    let hint = error.leader.unwrap();
    assert_eq!(hint.broker_id, leader);
    assert_eq!(hint.address, cluster.seat(leader).config.listener.client.bind.to_string());
    let status = read_all(cluster.log(other).await, "orders", 0).await.unwrap_err();
    assert_eq!(code(&Error::from_status(&status).unwrap()), ErrorCode::NotLeader);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resent_batch_gets_its_first_offset_after_a_change_of_leader() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(1, "orders", 1, 3).await;
    let leader = cluster.leader(1, "orders", 0).await;
    let mut client = cluster.log(leader).await;
    let held = client.init_producer(InitProducerRequest { held: None }).await.unwrap().into_inner();
    let identity = held.identity.unwrap();
    assert_eq!(identity.producer_epoch, 0);
    let again = client.init_producer(InitProducerRequest { held: Some(identity) }).await.unwrap();
    let again = again.into_inner().identity.unwrap();
    assert_eq!((again.producer_id, again.producer_epoch), (identity.producer_id, 1));
    let producer = |sequence| Some((again.producer_id, 1, sequence));

    let mut produce = Produce::open(client).await;
    let first = produce.put("orders", 0, batch(&["a", "b"], producer(0))).await.unwrap();
    assert_eq!((first.base_offset, first.duplicate), (0, false));

    let to = 1 + leader % 3;
    let item =
        TransferLeaderItem { topic: "orders".to_owned(), partition: 0, to_broker_id: Some(to) };
    let request = TransferLeaderRequest { items: vec![item], timeout_ms: 0 };
    let moved = cluster.admin(leader).await.transfer_leader(request).await.unwrap().into_inner();
    match moved.results.into_iter().next().unwrap().result.unwrap() {
        transfer_leader_result::Result::Leader(hint) => assert_eq!(hint.broker_id, to),
        transfer_leader_result::Result::Error(error) => panic!("{error}"),
    }
    assert_eq!(cluster.leader(to, "orders", 0).await, to);
    let mut produce = Produce::open(cluster.log(to).await).await;
    let begun = std::time::Instant::now();
    let resent = loop {
        match produce.put("orders", 0, batch(&["a", "b"], producer(0))).await {
            Ok(appended) => break appended,
            Err(error) => assert!(error.retriable && begun.elapsed() < PATIENCE, "{error}"),
        }
    };
    assert_eq!((resent.base_offset, resent.duplicate), (0, true));
    let next = produce.put("orders", 0, batch(&["c"], producer(2))).await.unwrap();
    assert_eq!((next.base_offset, next.duplicate), (2, false));
    let gap = produce.put("orders", 0, batch(&["e"], producer(9))).await.unwrap_err();
    assert_eq!(code(&gap), ErrorCode::OutOfOrderSequence);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_sends_as_far_as_credit_goes_and_follows() {
    let mut cluster = Cluster::start(1).await;
    cluster.create_topic(1, "orders", 1, 1).await;
    let mut produce = Produce::open(cluster.log(1).await).await;
    for n in 0..10 {
        produce.put("orders", 0, batch(&[&format!("v{n}")], None)).await.unwrap();
    }
    let mut open = from("orders", 0, 3, 0);
    (open.max_wait_ms, open.max_bytes) = (100, 1);
    let (credit, mut answers) = fetch(cluster.log(1).await, open).await.unwrap();
    let mut next = async || timeout(PATIENCE, answers.next()).await.unwrap().unwrap().unwrap();
    let first = next().await;
    assert_eq!((first.next_offset, first.high_watermark, first.batches.len()), (3, 10, 0));
    let second = next().await;
    assert!(second.batches.is_empty(), "without credit only signs of life come");
    let grant = |bytes| FetchRequest { request: Some(Asked::Credit(FetchCredit { bytes })) };
    credit.send(grant(1)).await.unwrap();
    let mut found = Vec::new();
    while found.is_empty() {
        found = values(&next().await.batches);
    }
    assert_eq!(found, [(3, "v3".to_owned())]);
    assert!(next().await.batches.is_empty(), "credit is below zero");
    credit.send(grant(1 << 20)).await.unwrap();
    while found.len() < 7 {
        found.extend(values(&next().await.batches));
    }
    produce.put("orders", 0, batch(&["late"], None)).await.unwrap();
    while found.len() < 8 {
        found.extend(values(&next().await.batches));
    }
    assert_eq!(found.last().unwrap(), &(10, "late".to_owned()));

    let beyond = fetch(cluster.log(1).await, from("orders", 0, 12, 0)).await.unwrap_err();
    assert_eq!(code(&Error::from_status(&beyond).unwrap()), ErrorCode::OffsetOutOfRange);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn structured_records_go_in_and_out_through_any_broker() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(1, "orders", 3, 3).await;
    for by in 1..=3 {
        let record = |key: Option<&str>, value: Option<&str>| Record {
            key: key.map(|key| key.to_owned().into()),
            value: value.map(|value| value.to_owned().into()),
            headers: Vec::new(),
            time_ms: Some(5_000),
        };
        let request = ProduceRecordsRequest {
            topic: "orders".to_owned(),
            partition: None,
            records: vec![
                record(Some("k1"), Some("a")),
                record(Some("k2"), None),
                record(Some(""), Some("")),
                record(Some("k1"), Some("b")),
            ],
            timeout_ms: 0,
        };
        let answer = cluster.log(by).await.produce_records(request).await.unwrap().into_inner();
        let offset = |n: usize| match answer.results[n].result.as_ref().unwrap() {
            produce_records_result::Result::Offset(offset) => *offset,
            produce_records_result::Result::Error(error) => panic!("{error}"),
        };
        let partition = answer.results[0].partition;
        assert_eq!((answer.results[3].partition, offset(3)), (partition, offset(0) + 1));
        for through in 1..=3 {
            let request = FetchRecordsRequest {
                topic: "orders".to_owned(),
                partition,
                start: Some(Spec::Offset(offset(0)).into()),
                ..FetchRecordsRequest::default()
            };
            let read = cluster.log(through).await.fetch_records(request).await.unwrap();
            let read = read.into_inner();
            let first = &read.records[0];
            assert_eq!(first.offset, offset(0));
            assert_eq!(first.record, Some(record(Some("k1"), Some("a"))));
            assert_eq!(read.next_offset, read.high_watermark);
        }
        let tombstone = FetchRecordsRequest {
            topic: "orders".to_owned(),
            partition: answer.results[1].partition,
            start: Some(Spec::Offset(offset(1)).into()),
            max_records: 1,
            ..FetchRecordsRequest::default()
        };
        let read = cluster.log(by).await.fetch_records(tombstone).await.unwrap().into_inner();
        assert_eq!(read.records.len(), 1);
        assert_eq!(read.records[0].record.as_ref().unwrap().value, None);
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_listed_by_bound_and_by_time() {
    let mut cluster = Cluster::start(1).await;
    cluster.create_topic(1, "orders", 1, 1).await;
    let mut produce = Produce::open(cluster.log(1).await).await;
    for _ in 0..5 {
        produce.put("orders", 0, batch(&["x", "y"], None)).await.unwrap();
    }
    let item = |spec| ListOffsetsItem { topic: "orders".to_owned(), partition: 0, spec };
    let items = vec![
        item(Some(OffsetBound::Earliest.into())),
        item(Some(OffsetBound::Latest.into())),
        item(Some(Spec::TimeMs(1).into())),
        item(Some(Spec::TimeMs(i64::MAX).into())),
        item(Some(Spec::Offset(3).into())),
        item(Some(Spec::Offset(10).into())),
        item(Some(Spec::Offset(11).into())),
        item(None),
    ];
    let answer = cluster.log(1).await.list_offsets(ListOffsetsRequest { items }).await.unwrap();
    let mut found: Vec<_> = answer
        .into_inner()
        .results
        .into_iter()
        .map(|result| match result.result.unwrap() {
            Listed::Found(found) => Ok((found.offset, found.time_ms)),
            Listed::Error(error) => Err(code(&error)),
        })
        .collect();
    // A plain offset is answered with the leader's append time, which is not the record's.
    let (_, appended) = found.remove(4).unwrap();
    assert!(appended > 1_767_225_600_000, "no time of 2026 or later: {appended}");
    let (out, invalid) = (Err(ErrorCode::OffsetOutOfRange), Err(ErrorCode::InvalidRequest));
    let expected =
        [Ok((0, -1)), Ok((10, -1)), Ok((0, 1_000)), Ok((10, -1)), Ok((10, -1)), out, invalid];
    assert_eq!(found, expected);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acked_records_survive_the_loss_of_their_leader_and_of_all() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(1, "orders", 1, 3).await;
    let leader = cluster.leader(1, "orders", 0).await;
    let mut produce = Produce::open(cluster.log(leader).await).await;
    for n in 0..50 {
        produce.put("orders", 0, batch(&[&format!("v{n}")], None)).await.unwrap();
    }
    drop(produce);
    cluster.stop(leader).await;
    let survivor = 1 + leader % 3;
    let next = cluster.leader(survivor, "orders", 0).await;
    assert_ne!(next, leader);
    let begun = std::time::Instant::now();
    let found = loop {
        match read_all(cluster.log(next).await, "orders", 0).await {
            Ok(found) => break found,
            Err(status) => assert!(begun.elapsed() < PATIENCE, "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(found.len(), 50);
    cluster.stop_all().await;
    for id in 1..=3 {
        cluster.start_broker(id).await;
    }
    cluster.ready().await;
    let leader = cluster.leader(1, "orders", 0).await;
    let begun = std::time::Instant::now();
    loop {
        match read_all(cluster.log(leader).await, "orders", 0).await {
            Ok(again) => {
                assert_eq!(again, found);
                break;
            }
            Err(status) => assert!(begun.elapsed() < PATIENCE, "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.stop_all().await;
}
