//! More than a broker can take, and from clients who mean harm: its memory stays within what its
//! limits add up to, whoever it cannot serve is told so, and those who behave lose nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tidelog::demo::leader_now;
use tidelog_client::admin::NewTopic;
use tidelog_proto::v1::fetch_request::Request as Asked;
use tidelog_proto::v1::log_service_client::LogServiceClient;
use tidelog_proto::v1::produce_response::Result as Answer;
use tidelog_proto::v1::{
    Error, FetchOpen, FetchRecordsRequest, FetchRequest, OffsetBound, ProduceRequest,
};
use tidelog_types::ErrorCode;
use tidelog_types::batch::{Builder, Codec, NewRecord};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::http::Request;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::stage::{PATIENCE, Stage, acks_go_on, until, within};

/// Small limits, so that little is needed to cross them.
const SETTINGS: &str = r#"
[limits]
in_flight_bytes = "32MiB"
in_flight_bytes_per_partition = "16MiB"
fetch_bytes = "16MiB"
receive_bytes = "32MiB"
connections = 64
calls = 400
fetch_streams = 64
[storage]
tail_cache = "16MiB"
"#;
/// A topic beside the one of the load, for those who mean harm.
const HOSTILE: &str = "hostile";
const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_within_the_limits_under_overload_and_malice() {
    let mut stage = Stage::with(3, |setup| setup.settings = SETTINGS.parse().unwrap()).await;
    stage.start_all().await;
    stage.create_topic().await;
    let (victim, partition) = hostile_topic(&stage).await;
    let attack =
        Attack { address: stage.cluster.broker(victim).ports().client_address(), partition };
    let scraper = stage.cluster.broker(victim).scraper();
    let allowed = scraper.metrics().await.unwrap()["tidelog_memory_bytes_max"];
    let (load, acks) = stage.load().await;
    acks_go_on(&load, 50).await;

    let peak = |stage: &Stage, what: &str| {
        let bytes = stage.cluster.broker(victim).resident_bytes_max().unwrap() as f64;
        println!("{what}: {:.0} of {:.0} MiB", bytes / MIB as f64, allowed / MIB as f64);
        assert!(bytes <= allowed * 1.1, "{what}: {bytes} bytes, at most {allowed} are allowed");
    };
    peak(&stage, "at work");
    assert!(attack.beginnings().await > 0, "no beginning was refused");
    peak(&stage, "beginnings of messages");
    attack.deaf_producers().await;
    peak(&stage, "producers that hear no answer");
    attack.bombs().await;
    peak(&stage, "batches that inflate");
    attack.deaf_consumers().await;
    peak(&stage, "consumers that take nothing");
    assert!(attack.many_calls().await > 0, "no call was refused");
    peak(&stage, "more calls than are allowed");
    until("closed calls give their places back", async || {
        scraper.metrics().await.unwrap()["tidelog_calls"] < 100.0
    })
    .await;

    // Without its followers the broker can only collect.
    let others: Vec<u32> = (1..=3).filter(|id| *id != victim).collect();
    others.iter().for_each(|id| stage.cluster.broker_mut(*id).pause().unwrap());
    let throttled = attack.eager_producers().await;
    others.iter().for_each(|id| stage.cluster.broker_mut(*id).resume().unwrap());
    assert!(throttled > 0, "nobody was told to slow down");
    peak(&stage, "batches that no quorum writes");

    stage.cluster.ready(PATIENCE).await.unwrap();
    acks_go_on(&load, 50).await;
    until("all places are given back", async || {
        let metrics = scraper.metrics().await.unwrap();
        let used = ["tidelog_receive_bytes", "tidelog_fetched_bytes"].map(|name| metrics[name]);
        metrics["tidelog_calls"] < 40.0 && used.iter().all(|used| *used < MIB as f64)
    })
    .await;
    let log = std::fs::read_to_string(stage.cluster.broker(victim).log()).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    stage.audit(load, &acks).await;
}

/// Creates a topic for the attack; gives one of its partitions and who leads it.
async fn hostile_topic(stage: &Stage) -> (u32, u32) {
    let client = stage.client().await;
    let topic = NewTopic::new(HOSTILE.parse().unwrap()).partitions(1);
    for (_, created) in client.admin().create_topics([topic]).await.unwrap() {
        created.unwrap();
    }
    let mut found = None;
    until("the topic has a leader", async || {
        found = leader_now(&client, HOSTILE, 0).await.ok().flatten();
        found.is_some()
    })
    .await;
    (found.unwrap(), 0)
}

/// What one broker is attacked with.
struct Attack {
    address: String,
    partition: u32,
}

impl Attack {
    /// A connection that takes little from the broker before it is asked to.
    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        let endpoint = endpoint.initial_stream_window_size(64 << 10);
        within("a connection", endpoint.initial_connection_window_size(64 << 10).connect())
            .await
            .unwrap()
    }

    async fn log(&self) -> LogServiceClient<Channel> {
        LogServiceClient::new(self.channel().await)
            .max_encoding_message_size(32 * MIB)
            .max_decoding_message_size(32 * MIB)
    }

    /// Nearly a gigabyte of messages of which only the beginning ever comes. Gives how many were
    /// refused.
    async fn beginnings(&self) -> usize {
        let (mut calls, open) = (JoinSet::new(), Open::default());
        for _ in 0..8 {
            let channel = self.channel().await;
            for _ in 0..8 {
                calls.spawn(timeout(
                    Duration::from_secs(2),
                    beginning(channel.clone(), open.clone()),
                ));
            }
        }
        let codes = calls.join_all().await;
        codes.iter().filter(|code| matches!(code, Ok(Some(Code::ResourceExhausted)))).count()
    }

    /// Batches that are none, for topics with names of 256 KiB, from whoever reads no answer.
    async fn deaf_producers(&self) {
        let mut streams = Vec::new();
        for _ in 0..4 {
            let (requests, queue) = tokio::sync::mpsc::channel(1);
            let queue = tokio_stream::wrappers::ReceiverStream::new(queue);
            streams.push(self.log().await.produce(queue).await.unwrap());
            for n in 0..400 {
                let request = ProduceRequest {
                    correlation_id: n,
                    topic: "x".repeat(256 << 10),
                    batch: vec![0xff; 1 << 10].into(),
                    ..ProduceRequest::default()
                };
                // Once the broker reads no more, this waits for ever.
                let sent = timeout(Duration::from_millis(500), requests.send(request)).await;
                if sent.is_err() {
                    break;
                }
            }
        }
    }

    /// A few kilobytes that inflate to 60 MiB, asked for by 64 at a time.
    async fn bombs(&self) {
        let mut builder = Builder::new();
        let value = vec![0; MIB];
        for _ in 0..60 {
            let value = Some(&value[..]);
            builder.push(&NewRecord { value, ..NewRecord::default() }).unwrap();
        }
        let bomb = builder.finish(Codec::Zstd, None).unwrap();
        println!("a batch of {} bytes inflates to 60 MiB", bomb.len());
        let answer = self.send(vec![bomb]).await.pop().unwrap();
        assert!(matches!(answer, Answer::Appended(_)), "{answer:?}");
        let mut calls = JoinSet::new();
        let log = self.log().await;
        for _ in 0..64 {
            let (mut log, request) = (log.clone(), self.records());
            calls.spawn(async move { log.fetch_records(request).await.map(drop) });
        }
        let answers = within("every call ends", calls.join_all()).await;
        for answer in answers {
            assert!(answer.as_ref().err().is_none_or(exhausted), "{answer:?}");
        }
    }

    fn records(&self) -> FetchRecordsRequest {
        FetchRecordsRequest {
            topic: HOSTILE.to_owned(),
            partition: self.partition,
            start: Some(OffsetBound::Earliest.into()),
            max_bytes: 8 << 20,
            max_records: 10_000,
            ..FetchRecordsRequest::default()
        }
    }

    /// 64 streams with all the credit that there is, and 64 calls, whose answers nobody takes.
    async fn deaf_consumers(&self) {
        let value = vec![7; MIB - 1024];
        let batch = one_record(&value);
        self.send(vec![batch; 24]).await;
        let (mut streams, mut calls, open) = (Vec::new(), JoinSet::new(), Open::default());
        for _ in 0..8 {
            let log = self.log().await;
            for _ in 0..8 {
                let request = FetchOpen {
                    topic: HOSTILE.to_owned(),
                    partition: self.partition,
                    start: Some(OffsetBound::Earliest.into()),
                    credit_bytes: u64::MAX,
                    max_bytes: 8 << 20,
                    ..FetchOpen::default()
                };
                let request = FetchRequest { request: Some(Asked::Open(request)) };
                let requests = stream::iter([request]).chain(open.silence());
                streams.push(within("a stream opens", log.clone().fetch(requests)).await);
                let (mut log, request) = (log.clone(), self.records());
                calls.spawn(async move { log.fetch_records(request).await.map(drop) });
            }
        }
        let refused = streams.iter().filter_map(|stream| stream.as_ref().err());
        let refused: Vec<_> = refused.map(Status::message).collect();
        assert!(refused.is_empty(), "{refused:?}");
        // Those that can go on have gone on by then.
        tokio::time::sleep(Duration::from_secs(1)).await;
        calls.abort_all();
    }

    /// Streams that say nothing, more of them than calls are allowed. Gives how many were refused.
    async fn many_calls(&self) -> usize {
        let (mut held, mut refused, open) = (Vec::new(), 0, Open::default());
        for _ in 0..4 {
            let log = self.log().await;
            for _ in 0..150 {
                match log.clone().produce(open.silence()).await {
                    Ok(answers) => held.push(answers),
                    Err(status) => refused += usize::from(exhausted(&status)),
                }
            }
        }
        refused
    }

    /// 200 MiB of good batches at once. Gives how many were refused for lack of room.
    async fn eager_producers(&self) -> usize {
        let value = vec![7; MIB - 1024];
        let answers = self.send(vec![one_record(&value); 200]).await;
        let full = |answer: &Answer| {
            let Answer::Error(error) = answer else { return false };
            error.error_code() == Ok(ErrorCode::ResourceExhausted)
        };
        answers.iter().filter(|answer| full(answer)).count()
    }

    /// Sends batches on one stream; gives their answers.
    async fn send(&self, batches: Vec<Bytes>) -> Vec<Answer> {
        let count = batches.len();
        let requests = batches.into_iter().map(|batch| ProduceRequest {
            topic: HOSTILE.to_owned(),
            partition: self.partition,
            batch,
            timeout_ms: 3_000,
            ..ProduceRequest::default()
        });
        let requests: Vec<_> = requests.collect();
        let mut log = self.log().await;
        let answers = log.produce(stream::iter(requests)).await.unwrap().into_inner();
        let answers = answers.map(|answer| answer.unwrap().result.unwrap()).take(count);
        within("every batch is answered", answers.collect()).await
    }
}

/// Keeps request streams open that say nothing more; they end once the last clone is gone. A stream
/// that never ended would keep its connection for ever.
#[derive(Clone)]
struct Open(Arc<watch::Sender<()>>);

impl Default for Open {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(())))
    }
}

impl Open {
    fn silence<T: Send + 'static>(&self) -> BoxStream<'static, T> {
        let mut dropped = self.0.subscribe();
        let ended = async move { while dropped.changed().await.is_ok() {} };
        stream::once(ended).filter_map(|()| async { None }).boxed()
    }
}

/// A message that announces 16 MiB and gives 15 of them; the code with which the call ends.
async fn beginning(mut channel: Channel, open: Open) -> Option<Code> {
    let mut head = vec![0];
    head.extend((16 * MIB as u32).to_be_bytes());
    let pieces = vec![Bytes::from(vec![7; 64 << 10]); 15 * 16];
    let pieces = stream::iter([Bytes::from(head)]).chain(stream::iter(pieces));
    let frames = pieces.map(|piece| Ok::<_, Status>(Frame::data(piece)));
    let request = Request::post("http://any/tidelog.v1.LogService/Produce")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(StreamBody::new(frames.chain(open.silence()))))
        .unwrap();
    std::future::poll_fn(|cx| GrpcService::poll_ready(&mut channel, cx)).await.ok()?;
    let answer = GrpcService::call(&mut channel, request).await.ok()?;
    let head = answer.headers().clone();
    let trailers = answer.into_body().collect().await.ok()?.trailers().cloned();
    let status = Status::from_header_map(&trailers.unwrap_or(head))?;
    exhausted(&status).then(|| status.code())
}

fn exhausted(status: &Status) -> bool {
    let code = Error::from_status(status).map(|error| error.error_code());
    code == Some(Ok(ErrorCode::ResourceExhausted))
}

fn one_record(value: &[u8]) -> Bytes {
    let mut builder = Builder::new();
    builder.push(&NewRecord { value: Some(value), ..NewRecord::default() }).unwrap();
    builder.finish(Codec::None, None).unwrap()
}
