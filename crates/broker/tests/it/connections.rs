//! The limits of connections crossed: whoever is beyond one waits or is closed, and the broker goes on.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::pending;
use tidelog_broker::config::HostPort;
use tidelog_broker::{Environment, Listener, ListenerName, Network, TcpNetwork, limits};
use tidelog_proto::v1::{CreateTopicsRequest, Error, ListTopicsRequest, NewTopic};
use tidelog_raft::BoxedIo;
use tidelog_types::ErrorCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::cluster::{Cluster, PATIENCE};
use crate::raw::{GOAWAY, INITIAL_WINDOW_SIZE, PING, Raw, SETTINGS, WINDOW_BYTES, WINDOW_UPDATE};

/// What proves that a call is held up: one that is not takes a few milliseconds.
pub(crate) const A_WHILE: Duration = Duration::from_millis(500);

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
    let settings = raw.frame().await.unwrap();
    assert_eq!(settings.kind, SETTINGS);
    let setting = |id: u16| {
        let pairs = settings.payload.chunks_exact(6);
        let found = pairs.filter(|pair| u16::from_be_bytes([pair[0], pair[1]]) == id);
        let value = |pair: &[u8]| u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]);
        found.map(value).next_back()
    };
    // RFC 9113, 6.5.2.
    assert_eq!(setting(3), Some(limits::STREAMS_PER_CONNECTION_MAX));
    assert_eq!(setting(INITIAL_WINDOW_SIZE), Some(limits::STREAM_WINDOW_BYTES));
    assert_eq!(setting(5), Some(limits::FRAME_BYTES_MAX));
    assert_eq!(setting(6), Some(limits::HEADERS_BYTES_MAX));
    let window = loop {
        let frame = raw.frame().await.unwrap();
        if frame.kind == WINDOW_UPDATE {
            break frame.number();
        }
    };
    assert_eq!(window + WINDOW_BYTES as u32, limits::CONNECTION_WINDOW_BYTES);

    // A frame above the largest.
    let mut large = Raw::open(&address).await;
    large.send_bytes(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]).await;
    let frames = timeout(PATIENCE, large.until_closed()).await.unwrap();
    assert!(frames.iter().any(|frame| frame.kind == GOAWAY), "{frames:?}");

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

/// TCP, and an internal listener that takes pipes too: twice 4096 sockets are more than many a system
/// lets a process have.
#[derive(Debug)]
struct Piped(Mutex<Option<mpsc::UnboundedReceiver<DuplexStream>>>);

impl Network for Piped {
    fn bind<'a>(
        &'a self,
        name: ListenerName,
        address: &'a HostPort,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let tcp = TcpNetwork.bind(name, address).await?;
            if name != ListenerName::Internal {
                return Ok(tcp);
            }
            let pipes = self.0.lock().unwrap().take().expect("it is bound once");
            Ok(Box::new(PipedListener { tcp, pipes }) as Box<dyn Listener>)
        })
    }
}

struct PipedListener {
    tcp: Box<dyn Listener>,
    pipes: mpsc::UnboundedReceiver<DuplexStream>,
}

impl Listener for PipedListener {
    fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.address()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<BoxedIo>> {
        Box::pin(async move {
            tokio::select! {
                Some(pipe) = self.pipes.recv() => Ok(Box::new(pipe) as BoxedIo),
                io = self.tcp.accept() => io,
            }
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_between_brokers_beyond_the_limit_wait_for_a_place() {
    const PIPE_BYTES: usize = 1 << 10;
    let (pipes, taken) = mpsc::unbounded_channel();
    let mut cluster = Cluster::prepare(1).await;
    let mut env = Environment::system(&cluster.seat(1).config).unwrap();
    env.network = Arc::new(Piped(Mutex::new(Some(taken))));
    cluster.start_broker_in(1, env).await;
    cluster.ready().await;
    let connect = async || {
        let (ours, theirs) = duplex(PIPE_BYTES);
        pipes.send(theirs).unwrap();
        Raw::with(ours, &[]).await
    };
    let mut held = Vec::new();
    for _ in 0..limits::INTERNAL_CONNECTIONS_MAX {
        let mut raw = connect().await;
        timeout(PATIENCE, raw.frame()).await.expect("there is a place").unwrap();
        held.push(raw);
    }
    let mut one_more = connect().await;
    assert!(timeout(A_WHILE, one_more.frame()).await.is_err(), "there was no place");
    cluster.create_topic(1, "orders", 1, 1).await;
    held.pop();
    timeout(PATIENCE, one_more.frame()).await.expect("a place is given on").unwrap();
    drop((held, one_more));
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
    let frames = timeout(patience + PATIENCE, raw.until_closed()).await.unwrap();
    assert!(frames.iter().any(|frame| frame.kind == PING), "{frames:?}");
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
