//! Subscriptions: a client with nothing but stubs is a member of a group.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt, pending};
use prost::Message;
use tidelog_proto::v1::group_service_client::GroupServiceClient;
use tidelog_proto::v1::offset_spec::Spec;
use tidelog_proto::v1::subscribe_request::Request as Ask;
use tidelog_proto::v1::subscribe_response::Response as News;
use tidelog_proto::v1::{
    DeleteTopicsRequest, DescribeGroupRequest, Error, FetchRecordsRequest, OffsetBound, OffsetSpec,
    ProduceRecordsRequest, Record, SubscribeAck, SubscribeCredit, SubscribeOpen, SubscribeRequest,
    SubscribeResponse, Subscription,
};
use tidelog_types::ErrorCode;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::cluster::{Cluster, PATIENCE};

/// What proves that nothing comes: what does come takes a few milliseconds.
const A_WHILE: Duration = Duration::from_millis(500);

struct Subscriber {
    requests: mpsc::Sender<SubscribeRequest>,
    responses: Streaming<SubscribeResponse>,
}

impl Subscriber {
    async fn open(cluster: &Cluster, by: u32, credit: u32) -> Self {
        Self::open_to(cluster, by, credit, &["orders"]).await
    }

    async fn open_to(cluster: &Cluster, by: u32, credit: u32, topics: &[&str]) -> Self {
        let (requests, stream) = mpsc::channel(64);
        let open = opening("shop", credit, topics);
        requests.send(SubscribeRequest { request: Some(Ask::Open(open)) }).await.unwrap();
        let mut client = GroupServiceClient::new(cluster.channel(by).await);
        let responses = client.subscribe(ReceiverStream::new(stream)).await.unwrap().into_inner();
        Self { requests, responses }
    }

    async fn news(&mut self) -> News {
        let next = timeout(PATIENCE, self.responses.message()).await.expect("news in time");
        next.unwrap().expect("the stream goes on").response.unwrap()
    }

    /// The next records, as (partition, offset); acknowledged when `done`.
    async fn records(&mut self, done: bool) -> Vec<(u32, i64)> {
        loop {
            let News::Records(records) = self.news().await else { continue };
            let offsets: Vec<_> = records.records.iter().map(|record| record.offset).collect();
            if done {
                let (topic, partition) = (records.topic.clone(), records.partition);
                let ack = SubscribeAck { topic, partition, offsets: offsets.clone() };
                self.requests
                    .send(SubscribeRequest { request: Some(Ask::Ack(ack)) })
                    .await
                    .unwrap();
            }
            return offsets.into_iter().map(|offset| (records.partition, offset)).collect();
        }
    }

    async fn credit(&self, records: u32) {
        let credit = Ask::Credit(SubscribeCredit { records });
        self.requests.send(SubscribeRequest { request: Some(credit) }).await.unwrap();
    }
}

fn opening(group: &str, credit: u32, topics: &[&str]) -> SubscribeOpen {
    let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
    SubscribeOpen {
        group_id: group.to_owned(),
        subscription: Some(Subscription { topics, ..Subscription::default() }),
        start: Some(OffsetSpec { spec: Some(Spec::Bound(OffsetBound::Earliest.into())) }),
        credit_records: credit,
    }
}

async fn produce(cluster: &Cluster, partition: u32, records: usize) {
    let record = |n| Record { value: Some(format!("{n}").into()), ..Record::default() };
    let request = ProduceRecordsRequest {
        topic: "orders".to_owned(),
        partition: Some(partition),
        records: (0..records).map(record).collect(),
        timeout_ms: 0,
    };
    cluster.log(1).await.produce_records(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_acknowledged_comes_again_and_nothing_is_skipped() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(1, "orders", 2, 3).await;
    produce(&cluster, 0, 100).await;
    produce(&cluster, 1, 100).await;
    let all: BTreeSet<_> = (0..2).flat_map(|p| (0..100).map(move |offset| (p, offset))).collect();

    // Credit bounds what comes.
    let mut first = Subscriber::open(&cluster, 1, 30).await;
    assert!(matches!(first.news().await, News::Opened(_)));
    let mut done = BTreeSet::new();
    while done.len() < 30 {
        done.extend(first.records(true).await);
    }
    let silence = timeout(Duration::from_millis(300), first.records(true)).await;
    assert!(silence.is_err(), "credit is used up: {silence:?}");
    first.credit(50).await;
    let mut lost = BTreeSet::new();
    while lost.len() < 50 {
        lost.extend(first.records(false).await);
    }
    drop(first);

    // Whoever comes next begins behind what is done, and gets the rest.
    let mut second = Subscriber::open(&cluster, 2, 10_000).await;
    let mut again = BTreeSet::new();
    while done.union(&again).count() < all.len() {
        again.extend(second.records(true).await);
    }
    assert!(lost.is_subset(&again), "what was not acknowledged comes again");
    assert!(done.is_disjoint(&again), "what was acknowledged was committed at the farewell");

    // A third one shares the partitions.
    let mut third = Subscriber::open(&cluster, 3, 10_000).await;
    loop {
        match third.news().await {
            News::Assignment(held) if held.partitions.len() == 1 => break,
            News::Opened(_) | News::Assignment(_) => {}
            News::Records(records) => panic!("nothing is left to read: {records:?}"),
        }
    }
    produce(&cluster, 0, 5).await;
    produce(&cluster, 1, 5).await;
    let (mut one, mut other) = (BTreeSet::new(), BTreeSet::new());
    while one.len() < 5 {
        one.extend(second.records(true).await);
    }
    while other.len() < 5 {
        other.extend(third.records(true).await);
    }
    assert!(one.is_disjoint(&other));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_makes_no_sense_is_refused() {
    let mut cluster = Cluster::start(1).await;
    let mut client = GroupServiceClient::new(cluster.channel(1).await);
    let open = |group: &str, topics: &[&str], start| SubscribeOpen {
        group_id: group.to_owned(),
        subscription: Some(Subscription {
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            ..Subscription::default()
        }),
        start,
        credit_records: 1,
    };
    let earliest = Some(OffsetSpec { spec: Some(Spec::Bound(OffsetBound::Earliest.into())) });
    let cases = [
        (open("", &["orders"], earliest), ErrorCode::InvalidGroupId),
        (open("g", &["orders"], None), ErrorCode::InvalidRequest),
        (open("g", &[], earliest), ErrorCode::InvalidRequest),
        (open("g", &["a b"], earliest), ErrorCode::InvalidTopic),
    ];
    for (open, code) in cases {
        let request = SubscribeRequest { request: Some(Ask::Open(open)) };
        let refused = client.subscribe(tokio_stream::iter([request])).await.unwrap_err();
        assert_eq!(Error::from_status(&refused).unwrap().error_code(), Ok(code));
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_read_for_credit_only_and_sent_in_pieces_that_any_client_takes() {
    const RECORDS: usize = 10;
    let mut cluster = Cluster::start(1).await;
    cluster.create_topic(1, "orders", 1, 1).await;
    let value = vec![7; 700 << 10];
    for _ in 0..RECORDS {
        let record = Record { value: Some(value.clone().into()), ..Record::default() };
        let request = ProduceRecordsRequest {
            topic: "orders".to_owned(),
            partition: Some(0),
            records: vec![record],
            timeout_ms: 0,
        };
        cluster.log(1).await.produce_records(request).await.unwrap();
    }
    let mut subscriber = Subscriber::open(&cluster, 1, 0).await;
    while !matches!(subscriber.news().await, News::Assignment(_)) {}
    let silence = timeout(A_WHILE, subscriber.news()).await;
    assert!(silence.is_err(), "there is no credit: {silence:?}");
    assert_eq!(cluster.metric(1, "tidelog_fetch_records_total").await, 0);

    subscriber.credit(1).await;
    assert_eq!(subscriber.records(true).await, [(0, 0)]);
    subscriber.credit(1_000).await;
    let mut next = 1;
    while next < RECORDS as i64 {
        let News::Records(records) = subscriber.news().await else { continue };
        assert!(records.encoded_len() < 2 << 20, "{} bytes at once", records.encoded_len());
        for record in records.records {
            assert_eq!(record.offset, next);
            next += 1;
        }
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_wait_at_another_broker_hold_up_nobody_else() {
    // More than there may be calls with records, and streams of one connection.
    const IDLE: usize = 600;
    const PER_CONNECTION: usize = 200;
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(1, "orders", 3, 1).await;
    let mut elsewhere = None;
    for partition in 0..3 {
        if cluster.leader(1, "orders", partition).await != 1 {
            elsewhere = Some(partition);
        }
    }
    let partition = elsewhere.expect("the partitions are spread");
    let request = FetchRecordsRequest {
        topic: "orders".to_owned(),
        partition,
        start: Some(OffsetBound::Earliest.into()),
        max_wait_ms: 20_000,
        ..FetchRecordsRequest::default()
    };
    let mut reads = FuturesUnordered::new();
    for _ in 0..IDLE / PER_CONNECTION {
        let log = cluster.log(1).await;
        for _ in 0..PER_CONNECTION {
            let (mut log, request) = (log.clone(), request.clone());
            reads.push(async move { log.fetch_records(request).await });
        }
    }
    let first = timeout(A_WHILE, reads.next()).await;
    assert!(first.is_err(), "there is nothing to read yet: {first:?}");
    let wrote = timeout(Duration::from_secs(5), produce(&cluster, partition, 1)).await;
    wrote.expect("a write is not behind reads that wait");
    let mut got = 0;
    while let Some(read) = timeout(PATIENCE, reads.next()).await.expect("all are answered") {
        match read {
            Ok(read) => got += read.into_inner().records.len(),
            // All of them want a place at the same moment.
            Err(status) => {
                let code = Error::from_status(&status).unwrap().error_code();
                assert_eq!(code, Ok(ErrorCode::ResourceExhausted));
            }
        }
    }
    assert!(got > 0);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_topic_ends_its_own_partitions_only() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(1, "orders", 1, 3).await;
    cluster.create_topic(1, "gone", 3, 3).await;
    let mut subscriber = Subscriber::open_to(&cluster, 1, 1_000, &["orders", "gone"]).await;
    let held = |news: &News| match news {
        News::Assignment(held) => Some(held.partitions.len()),
        _ => None,
    };
    while held(&subscriber.news().await) != Some(4) {}
    produce(&cluster, 0, 1).await;
    assert_eq!(subscriber.records(true).await, [(0, 0)]);

    let request = DeleteTopicsRequest { topics: vec!["gone".to_owned()], timeout_ms: 0 };
    let deleted = cluster.admin(1).await.delete_topics(request).await.unwrap().into_inner();
    assert!(deleted.results[0].error.is_none(), "{deleted:?}");
    let mut offset = 1;
    let mut left = None;
    while left.is_none() || offset < 5 {
        produce(&cluster, 0, 1).await;
        loop {
            match subscriber.news().await {
                News::Records(records) => {
                    assert_eq!((&*records.topic, records.records[0].offset), ("orders", offset));
                    break;
                }
                news => left = held(&news).or(left),
            }
        }
        offset += 1;
    }
    assert_eq!(left, Some(1));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_is_given_up_while_it_joins_leaves_no_member() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(1, "orders", 1, 3).await;
    let mut client = GroupServiceClient::new(cluster.channel(1).await);
    let delays = [1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256];
    for ms in delays {
        let mut open = opening(&format!("g{ms}"), 1, &["orders"]);
        open.subscription.as_mut().unwrap().session_timeout_ms = 600_000;
        let request = SubscribeRequest { request: Some(Ask::Open(open)) };
        // HTTP/2 gives the call up once its requests have ended too.
        let (requests, stream) = mpsc::channel(1);
        requests.send(request).await.unwrap();
        let call = client.subscribe(ReceiverStream::new(stream));
        // Whether it was opened by then does not matter.
        let _ = timeout(Duration::from_millis(ms), call).await;
        drop(requests);
    }
    for ms in delays {
        let begun = std::time::Instant::now();
        loop {
            let request = DescribeGroupRequest { group_id: format!("g{ms}") };
            match client.describe_group(request).await {
                Ok(group) if !group.get_ref().members.is_empty() => {
                    assert!(begun.elapsed() < PATIENCE, "still there: {group:?}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                _ => break,
            }
        }
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_asks_for_nothing_is_closed() {
    let mut cluster = Cluster::start(1).await;
    let mut client = GroupServiceClient::new(cluster.channel(1).await);
    let refused = timeout(PATIENCE, client.subscribe(pending())).await.expect("an end in time");
    let error = Error::from_status(&refused.unwrap_err()).unwrap();
    assert_eq!(error.error_code(), Ok(ErrorCode::RequestTimedOut));
    cluster.stop_all().await;
}
