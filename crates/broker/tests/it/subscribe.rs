//! Subscriptions: a client with nothing but stubs is a member of a group.

use std::collections::BTreeSet;

use tidelog_proto::v1::group_service_client::GroupServiceClient;
use tidelog_proto::v1::offset_spec::Spec;
use tidelog_proto::v1::subscribe_request::Request as Ask;
use tidelog_proto::v1::subscribe_response::Response as News;
use tidelog_proto::v1::{
    Error, OffsetBound, OffsetSpec, ProduceRecordsRequest, Record, SubscribeAck, SubscribeCredit,
    SubscribeOpen, SubscribeRequest, SubscribeResponse, Subscription,
};
use tidelog_types::ErrorCode;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::cluster::{Cluster, PATIENCE};

struct Subscriber {
    requests: mpsc::Sender<SubscribeRequest>,
    responses: Streaming<SubscribeResponse>,
}

impl Subscriber {
    async fn open(cluster: &Cluster, by: u32, credit: u32) -> Self {
        let (requests, stream) = mpsc::channel(64);
        let subscription =
            Subscription { topics: vec!["orders".to_owned()], ..Subscription::default() };
        let open = SubscribeOpen {
            group_id: "shop".to_owned(),
            subscription: Some(subscription),
            start: Some(OffsetSpec { spec: Some(Spec::Bound(OffsetBound::Earliest.into())) }),
            credit_records: credit,
        };
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
    let silence = timeout(std::time::Duration::from_millis(300), first.records(true)).await;
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
