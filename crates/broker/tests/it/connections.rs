//! The limits of connections crossed: whoever is beyond one waits or is closed, and the broker goes on.

use std::io;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::stream::pending;
use tidelog_broker::limits;
use tidelog_proto::v1::{CreateTopicsRequest, Error, ListTopicsRequest, NewTopic};
use tidelog_types::ErrorCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::cluster::{Cluster, PATIENCE};

/// What an HTTP/2 client sends first, with an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const FRAME_HEAD_BYTES: usize = 9;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
/// What proves that a call is held up: one that is not takes a few milliseconds.
const A_WHILE: Duration = Duration::from_millis(500);

/// A connection that speaks HTTP/2 by hand.
struct Raw(TcpStream);

impl Raw {
    async fn open(address: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        Self(stream)
    }

    /// The next frame: its kind and payload.
    async fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; FRAME_HEAD_BYTES];
        self.0.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await?;
        Ok((head[3], payload))
    }

    /// Reads until the broker says goodbye or closes; gives the kinds of all frames before that.
    async fn until_closed(&mut self) -> Vec<u8> {
        let mut kinds = Vec::new();
        while let Ok((kind, _)) = self.frame().await {
            kinds.push(kind);
        }
        kinds
    }
}

async fn start(connections: u32) -> (Cluster, String, String) {
    let mut cluster = Cluster::prepare(1).await;
    cluster.seat(1).config.limits.connections = connections;
    cluster.start_broker(1).await;
    cluster.ready().await;
    let listener = cluster.seat(1).config.listener.clone();
    (cluster, listener.client.bind.to_string(), listener.http.bind.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_is_told_every_limit_and_what_crosses_one_is_closed() {
    let (mut cluster, address, _) = start(64).await;
    let mut raw = Raw::open(&address).await;
    let (kind, settings) = raw.frame().await.unwrap();
    assert_eq!(kind, SETTINGS);
    let setting = |id: u16| {
        let pairs = settings.chunks_exact(6);
        let found = pairs.filter(|pair| u16::from_be_bytes([pair[0], pair[1]]) == id);
        let value = |pair: &[u8]| u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]);
        found.map(value).next_back()
    };
    // RFC 9113, 6.5.2.
    assert_eq!(setting(3), Some(limits::STREAMS_PER_CONNECTION_MAX));
    assert_eq!(setting(4), Some(limits::STREAM_WINDOW_BYTES));
    assert_eq!(setting(5), Some(limits::FRAME_BYTES_MAX));
    assert_eq!(setting(6), Some(limits::HEADERS_BYTES_MAX));
    let window = loop {
        let (kind, payload) = raw.frame().await.unwrap();
        if kind == WINDOW_UPDATE {
            break u32::from_be_bytes(payload.try_into().unwrap());
        }
    };
    assert_eq!(window + 65_535, limits::CONNECTION_WINDOW_BYTES);

    // A frame above the largest.
    let mut large = Raw::open(&address).await;
    large.0.write_all(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]).await.unwrap();
    assert!(timeout(PATIENCE, large.until_closed()).await.unwrap().contains(&GOAWAY));

    let mut metadata = cluster.metadata(1).await;
    let mut request = Request::new(ListTopicsRequest::default());
    let long = "x".repeat(limits::HEADERS_BYTES_MAX as usize);
    request.metadata_mut().insert("long", MetadataValue::try_from(long).unwrap());
    let refused = timeout(PATIENCE, metadata.list_topics(request)).await.unwrap();
    assert!(refused.is_err(), "{refused:?}");
    cluster.metadata(1).await.list_topics(ListTopicsRequest::default()).await.unwrap();
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_and_streams_beyond_the_limit_wait_for_a_place() {
    let (mut cluster, address, _) = start(16).await;
    let mut held = Vec::new();
    for _ in 0..16 {
        let mut raw = Raw::open(&address).await;
        // Once it has answered, the connection has its place.
        raw.frame().await.unwrap();
        held.push(raw);
    }
    let list = async {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
        let channel = endpoint.unwrap().connect().await.unwrap();
        let client =
            tidelog_proto::v1::metadata_service_client::MetadataServiceClient::new(channel);
        client.clone().list_topics(ListTopicsRequest::default()).await.map(drop)
    };
    let mut list = Box::pin(list);
    assert!(timeout(A_WHILE, &mut list).await.is_err(), "there was no place");
    held.pop();
    timeout(PATIENCE, list).await.expect("a place is given on").unwrap();
    held.clear();

    // The same within one connection.
    let log = cluster.log(1).await;
    let mut streams = Vec::new();
    for _ in 0..limits::STREAMS_PER_CONNECTION_MAX {
        let (open, requests) = tokio::sync::mpsc::channel(1);
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        streams.push((log.clone().produce(requests).await.unwrap(), open));
    }
    let mut one_more = log.clone();
    let mut one_more = Box::pin(one_more.produce(pending()));
    assert!(timeout(A_WHILE, &mut one_more).await.is_err(), "there was no place");
    streams.pop();
    timeout(PATIENCE, one_more).await.expect("a place is given on").unwrap();
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_connections_that_say_nothing_are_closed_and_make_room() {
    let (mut cluster, _, http) = start(64).await;
    let mut held = Vec::new();
    for _ in 0..limits::HTTP_CONNECTIONS_MAX {
        held.push(TcpStream::connect(&http).await.unwrap());
    }
    let begun = Instant::now();
    let mut one_more = TcpStream::connect(&http).await.unwrap();
    one_more.write_all(b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, one_more.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(begun.elapsed() + A_WHILE >= limits::HTTP_HEAD_TIMEOUT, "{:?}", begun.elapsed());
    cluster.stop_all().await;
}

/// Takes as long as the limits do: nobody can be made to wait for a ping any faster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_that_answers_no_ping_is_closed() {
    let (mut cluster, address, _) = start(64).await;
    let begun = Instant::now();
    let mut raw = Raw::open(&address).await;
    let patience = limits::KEEPALIVE_INTERVAL + limits::KEEPALIVE_TIMEOUT;
    let kinds = timeout(patience + PATIENCE, raw.until_closed()).await.unwrap();
    assert!(kinds.contains(&PING), "{kinds:?}");
    assert!(begun.elapsed() >= patience - A_WHILE, "{:?}", begun.elapsed());
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_calls_beyond_the_limit_are_told_to_come_back() {
    let mut cluster = Cluster::start(3).await;
    // Without a quorum a change waits for its deadline.
    for id in [2, 3] {
        drop(cluster.seat(id).broker.take());
    }
    let admin = cluster.admin(1).await;
    let calls = (0..limits::ADMIN_CALLS_MAX + 8).map(|n| {
        let mut admin = admin.clone();
        let new = NewTopic { name: format!("t{n}"), ..NewTopic::default() };
        let request = CreateTopicsRequest {
            topics: vec![new],
            timeout_ms: 3_000,
            ..CreateTopicsRequest::default()
        };
        async move { admin.create_topics(request).await.err() }
    });
    let answers = timeout(PATIENCE, join_all(calls)).await.expect("every call ends");
    let errors = answers.iter().flatten().filter_map(Error::from_status);
    let full = errors.filter(|error| error.error_code() == Ok(ErrorCode::ResourceExhausted));
    let full: Vec<_> = full.collect();
    assert_eq!(full.len(), 8, "{answers:?}");
    assert!(full.iter().all(|error| error.retry_after().is_some()));
    cluster.metadata(1).await.list_topics(ListTopicsRequest::default()).await.unwrap();
    cluster.stop_all().await;
}
