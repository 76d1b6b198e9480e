//! The windows of HTTP/2 crossed: of what nobody reads a broker takes a window and no more, and whoever
//! sends beyond it is cut off.

use prost::Message;
use tidelog_broker::limits;
use tidelog_proto::v1::{ListTopicsRequest, ProduceRequest};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cluster::{Cluster, PATIENCE};
use crate::raw::{FLOW_CONTROL_ERROR, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, RST_STREAM, Raw};
use crate::records::{Produce, batch};

const STREAM: usize = limits::STREAM_WINDOW_BYTES as usize;
const CONNECTION: usize = limits::CONNECTION_WINDOW_BYTES as usize;

/// A client that takes no byte of any answer. Each of its streams begins with a batch that is refused,
/// and goes on with the beginning of another: with an answer that it cannot pass on, the broker does
/// not read the stream either.
async fn deaf(address: &str, streams: &[u32]) -> Raw<TcpStream> {
    let refused = ProduceRequest { timeout_ms: u32::MAX, ..ProduceRequest::default() };
    let refused = refused.encode_to_vec();
    let head = |length: usize| [&[0][..], &(length as u32).to_be_bytes()].concat();
    let begin = [head(refused.len()), refused, head(limits::BATCH_BYTES_MAX)].concat();
    let io = TcpStream::connect(address).await.unwrap();
    let mut raw = Raw::with(io, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    raw.acknowledge().await;
    for stream in streams {
        raw.call(*stream, "/tidelog.v1.LogService/Produce", STREAM).await;
        // The head of the answer needs no window: the call is with its service.
        while raw.frame().await.unwrap().kind != HEADERS {}
        raw.data(*stream, &begin).await;
    }
    raw
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_never_reads_fills_its_windows_and_is_cut_off_beyond_them() {
    let mut cluster = Cluster::start(1).await;
    cluster.create_topic(1, "orders", 1, 1).await;
    let address = cluster.seat(1).config.listener.client.bind.to_string();

    // Up to the last byte of a stream's window, and not one more.
    let mut raw = deaf(&address, &[1]).await;
    let sent = raw.fill(&[1]).await;
    assert!(sent <= 2 * STREAM, "{sent} bytes were taken of a stream that stands still");
    assert_eq!(raw.room(1), 0);
    raw.data(1, b"x").await;
    let frames = raw.settle().await;
    let reset = frames.iter().find(|frame| frame.kind == RST_STREAM).expect("it is cut off");
    assert_eq!((reset.stream, reset.number()), (1, FLOW_CONTROL_ERROR));

    // Streams that keep to their windows, and cross that of their connection.
    let streams = [1, 3, 5];
    let mut greedy = deaf(&address, &streams).await;
    let sent = greedy.fill(&streams).await;
    assert!(sent <= 2 * CONNECTION, "{sent} bytes were taken of streams that stand still");
    assert_eq!(greedy.room(0), 0);
    assert!(greedy.room(5) > 0);
    greedy.data(5, b"x").await;
    let frames = timeout(PATIENCE, greedy.until_closed()).await.expect("it is closed");
    let goodbye = frames.iter().find(|frame| frame.kind == GOAWAY).expect("with a reason");
    assert_eq!(goodbye.goodbye(), FLOW_CONTROL_ERROR);

    // Nobody else notices, not even on the connection of which one stream only was cut off.
    raw.settle().await;
    drop(raw);
    cluster.metadata(1).await.list_topics(ListTopicsRequest::default()).await.unwrap();
    let mut produce = Produce::open(cluster.log(1).await).await;
    assert_eq!(produce.put("orders", 0, batch(&["x"], None)).await.unwrap().base_offset, 0);
    cluster.stop_all().await;
}
