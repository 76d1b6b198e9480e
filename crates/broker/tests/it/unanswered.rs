//! Calls that wait for a disk that does not answer: as many as there are places for, and no more.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tidelog_broker::{Environment, limits};
use tidelog_log::flusher::{FlushJob, Flusher, ThreadFlusher};
use tidelog_proto::v1::produce_records_result::Result as Written;
use tidelog_proto::v1::{
    Error, FetchRecordsRequest, ListTopicsRequest, OffsetBound, ProduceRecordsRequest,
    ProduceRequest, Record,
};
use tidelog_types::ErrorCode;
use tokio::time::timeout;
use tonic::Status;

use crate::cluster::{Cluster, PATIENCE};
use crate::connections::A_WHILE;
use crate::records::{Produce, batch};

/// So many that no partition's own queue is full first.
const PARTITIONS: u32 = 8;
/// The deadline of what waits: far beyond a test.
const TIMEOUT_MS: u32 = 120_000;

/// A flusher that can be held back.
#[derive(Debug)]
struct Valve {
    threads: ThreadFlusher,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held(Option<Vec<Arc<dyn FlushJob>>>);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0.as_ref().map(Vec::len))
    }
}

impl Valve {
    /// From now on nothing is written or synced.
    fn hold(&self) {
        self.held.lock().unwrap().0.get_or_insert_default();
    }

    fn release(&self) {
        let jobs = self.held.lock().unwrap().0.take();
        jobs.into_iter().flatten().for_each(|job| self.threads.submit(job));
    }
}

impl Flusher for Valve {
    fn submit(&self, job: Arc<dyn FlushJob>) {
        match &mut self.held.lock().unwrap().0 {
            Some(jobs) => jobs.push(job),
            None => self.threads.submit(job),
        }
    }
}

/// A broker with a topic, whose disk can be made to stand still.
async fn start() -> (Cluster, Arc<Valve>) {
    let mut cluster = Cluster::prepare(1).await;
    let mut env = Environment::system(&cluster.seat(1).config).unwrap();
    let threads = ThreadFlusher::new(2).unwrap();
    let valve = Arc::new(Valve { threads, held: Mutex::default() });
    env.node.flusher = Arc::clone(&valve) as _;
    cluster.start_broker_in(1, env).await;
    cluster.ready().await;
    cluster.create_topic(1, "orders", PARTITIONS, 1).await;
    // A leader serves only with an entry of its own on disk, so each has to be there before.
    let mut log = cluster.log(1).await;
    for partition in 0..PARTITIONS {
        let answer = log.produce_records(one_record(partition)).await.unwrap().into_inner();
        let result = answer.results.into_iter().next().and_then(|first| first.result);
        assert!(matches!(result, Some(Written::Offset(0))), "{result:?}");
    }
    (cluster, valve)
}

fn one_record(partition: u32) -> ProduceRecordsRequest {
    let value = Some(Bytes::from_static(b"x"));
    ProduceRecordsRequest {
        topic: "orders".to_owned(),
        partition: Some(partition),
        records: vec![Record { value, ..Record::default() }],
        timeout_ms: TIMEOUT_MS,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn produce_stream_is_not_read_while_too_many_of_its_batches_are_unanswered() {
    const MOST: u64 = limits::PRODUCE_STREAM_BATCHES_MAX as u64;
    let (mut cluster, valve) = start().await;
    let batch = batch(&[&"x".repeat(1 << 10)], None);
    let request = |n: u64| ProduceRequest {
        correlation_id: n,
        topic: "orders".to_owned(),
        partition: (n % u64::from(PARTITIONS)) as u32,
        batch: batch.clone(),
        timeout_ms: TIMEOUT_MS,
        topic_id: String::new(),
    };
    let mut produce = Produce::open(cluster.log(1).await).await;
    valve.hold();
    let mut sent = 0;
    while timeout(A_WHILE, produce.requests.send(request(sent))).await.is_ok() {
        sent += 1;
        assert!(sent < MOST * 4, "the stream is read without end");
    }
    let taken = cluster.metric(1, "tidelog_in_flight_bytes").await / batch.len() as u64;
    assert_eq!(taken, MOST, "of {sent} that were sent");

    // Others get on.
    cluster.metadata(1).await.list_topics(ListTopicsRequest::default()).await.unwrap();
    let mut other = Produce::open(cluster.log(1).await).await;
    other.requests.send(request(0)).await.unwrap();
    timeout(PATIENCE, async {
        while cluster.metric(1, "tidelog_in_flight_bytes").await / batch.len() as u64 == taken {}
    })
    .await
    .expect("another stream is read");

    // And the rest is only late: everything is answered, in order.
    valve.release();
    let mut next: Vec<u64> = (0..u64::from(PARTITIONS)).collect();
    for _ in 0..sent {
        let (id, answer) = timeout(PATIENCE, produce.answer()).await.expect("an answer");
        answer.unwrap();
        let expected = &mut next[(id % u64::from(PARTITIONS)) as usize];
        assert_eq!(id, *expected);
        *expected += u64::from(PARTITIONS);
    }
    timeout(PATIENCE, other.answer()).await.expect("an answer").1.unwrap();
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_with_structured_records_beyond_the_limit_are_told_to_come_back() {
    const BEYOND: usize = 8;
    let (mut cluster, valve) = start().await;
    let log = cluster.log(1).await;
    let produce = || {
        let mut log = log.clone();
        async move { log.produce_records(one_record(0)).await }
    };
    let fetch = || {
        let mut log = log.clone();
        let request = FetchRecordsRequest {
            topic: "orders".to_owned(),
            start: Some(OffsetBound::Earliest.into()),
            ..FetchRecordsRequest::default()
        };
        async move { log.fetch_records(request).await }
    };
    let assert_told = |status: &Status| {
        let error = Error::from_status(status).expect("a typed error");
        assert_eq!(error.error_code(), Ok(ErrorCode::ResourceExhausted), "{status}");
        assert!(error.retry_after().is_some());
    };

    valve.hold();
    let calls = (0..limits::RECORDS_CALLS_MAX + BEYOND).map(|_| produce());
    let mut calls: FuturesUnordered<_> = calls.collect();
    for _ in 0..BEYOND {
        let answer = timeout(PATIENCE, calls.next()).await.expect("a refusal comes at once");
        assert_told(&answer.unwrap().unwrap_err());
    }
    assert!(timeout(A_WHILE, calls.next()).await.is_err(), "the others have their places");
    assert_told(&timeout(PATIENCE, fetch()).await.unwrap().unwrap_err());

    valve.release();
    let mut written = 0;
    while let Some(answer) = timeout(PATIENCE, calls.next()).await.expect("every call ends") {
        answer.unwrap();
        written += 1;
    }
    assert_eq!(written, limits::RECORDS_CALLS_MAX);
    let read = timeout(PATIENCE, fetch()).await.unwrap().unwrap().into_inner();
    assert_eq!(read.records.len(), 1 + written);
    cluster.stop_all().await;
}
