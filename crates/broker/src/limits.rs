//! Every limit of a broker, in one place, and `docs/limits.md`, which is generated from it.
//!
//! Some limits can be configured; the table shows their defaults. What crosses a limit gets a typed
//! error and costs the broker no more than the limit allows.

use std::fmt::Write;
use std::time::Duration;

use crate::config::{ByteSize, Config, Span};

/// The largest record batch that any topic can allow, in bytes.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

/// The largest gRPC message in bytes, either way: one batch, and room for what surrounds it.
pub const MESSAGE_BYTES_MAX: usize = BATCH_BYTES_MAX + (1 << 20);

/// The largest message between brokers in bytes: what one entry may hold, and its envelope.
pub const RAFT_MESSAGE_BYTES_MAX: usize = 32 << 20;

/// Calls and streams that one connection may have open.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 256;

/// The same between brokers, where calls wait for each other's news.
pub const INTERNAL_STREAMS_PER_CONNECTION_MAX: u32 = 4096;

/// HTTP/2 flow-control window of one stream in bytes.
pub const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// HTTP/2 flow-control window of one connection in bytes: what a client can send that nobody reads.
pub const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;

/// The largest HTTP/2 frame in bytes.
pub const FRAME_BYTES_MAX: u32 = 1 << 20;

/// How long a message may be in pieces.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest header list of a request in bytes.
pub const HEADERS_BYTES_MAX: u32 = 16 << 10;

/// How long a new connection may take to begin its HTTP/2 handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause of a connection after which it is asked for a sign of life.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long the sign of life may take.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Batches that one produce stream may have unanswered; beyond, it is not read.
pub const PRODUCE_STREAM_BATCHES_MAX: usize = 4096;

/// The deadline of a batch that names none.
pub const PRODUCE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// The longest deadline of a batch or a change of a topic.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// The deadline of a change of a topic that names none.
pub const ADMIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// The longest deadline of a transfer of leadership.
pub const TRANSFER_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Batches in one response of a fetch stream, in bytes, where the request names nothing.
pub const FETCH_RESPONSE_BYTES_DEFAULT: usize = 1 << 20;

/// The same at most.
pub const FETCH_RESPONSE_BYTES_MAX: usize = 8 << 20;

/// The most bytes that a fetch response may wait for.
pub const FETCH_MIN_BYTES_MAX: usize = 1 << 20;

/// The most credit of a fetch stream in bytes; more is not counted.
pub const FETCH_CREDIT_BYTES_MAX: u64 = 256 << 20;

/// The longest silence of a fetch stream where the request names nothing.
pub const FETCH_WAIT_DEFAULT: Duration = Duration::from_millis(500);

/// The shortest silence of a fetch stream.
pub const FETCH_WAIT_MIN: Duration = Duration::from_millis(10);

/// The longest silence of a fetch stream.
pub const FETCH_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long a quorum may take to confirm a leader that is about to read.
pub const LINEARIZE_TIMEOUT: Duration = Duration::from_secs(2);

/// Items of one `ListOffsets`.
pub const LIST_OFFSETS_ITEMS_MAX: usize = 10_000;

/// Records of one `ProduceRecords`.
pub const PRODUCE_RECORDS_MAX: usize = 10_000;

/// Records of one `FetchRecords` where the request names nothing.
pub const FETCH_RECORDS_DEFAULT: usize = 500;

/// The same at most.
pub const FETCH_RECORDS_MAX: usize = 10_000;

/// What one batch may inflate to for `FetchRecords`, in bytes.
pub const INFLATE_BYTES_MAX: usize = 64 << 20;

/// Calls of `FetchRecords` that inflate batches at the same time; others wait.
pub const INFLATING_MAX: usize = 1;

/// Calls of `ProduceRecords` and `FetchRecords` at a time.
pub const RECORDS_CALLS_MAX: usize = 128;

/// Topics of one `DescribeTopics`.
pub const DESCRIBE_TOPICS_MAX: usize = 1_000;

/// Topics on a page of `ListTopics` where the request names nothing.
pub const LIST_TOPICS_DEFAULT: usize = 1_000;

/// The same at most.
pub const LIST_TOPICS_MAX: usize = 10_000;

/// Topics of one call that changes topics.
pub const ADMIN_TOPICS_MAX: usize = 100;

/// Partitions of one `TransferLeader` or `DescribePartitionRaft`.
pub const ADMIN_PARTITIONS_MAX: usize = 1_000;

/// Partitions that `ClusterHealth` names of each kind.
pub const HEALTH_NAMED_MAX: usize = 1_000;

/// The longest log filter in bytes.
pub const LOG_FILTER_BYTES_MAX: usize = 1_024;

/// The longest topic pattern of a subscription in bytes.
pub const TOPIC_PATTERN_BYTES_MAX: usize = 1_024;

/// Topics that a member may name.
pub const SUBSCRIBED_TOPICS_MAX: usize = 1_000;

/// Offsets of one call about a group.
pub const GROUP_OFFSETS_MAX: usize = 10_000;

/// The longest wait of a heartbeat.
pub const HEARTBEAT_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long the coordinator of a group may be without a leader before a call gives up.
pub const COORDINATOR_TIMEOUT: Duration = Duration::from_secs(10);

/// Heartbeats, other calls about groups, and subscriptions at a time.
pub const GROUP_CALLS_MAX: usize = 8_192;

/// Records that a subscription may have sent beyond what is acknowledged.
pub const SUBSCRIBE_CREDIT_MAX: u32 = 100_000;

/// Subscriptions at a time.
pub const SUBSCRIPTIONS_MAX: usize = 512;

/// How long a subscription may take to say what it wants.
pub const SUBSCRIBE_OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Records that all subscriptions have read and not passed on, in bytes; beyond, pieces get small.
pub const SUBSCRIBE_BYTES_MAX: usize = 64 << 20;

/// Pieces of partitions that one subscription has read and not sent.
pub const SUBSCRIPTION_PIECES_MAX: usize = 4;

/// The bytes of one such piece and of one response, and those pending up to which a subscription reads
/// ahead. gRPC's clients take messages of 4 MiB by default.
pub const SUBSCRIBE_PIECE_BYTES_MAX: usize = 1 << 20;

/// What a piece may hold even when the bytes of all subscriptions are used up.
pub const SUBSCRIBE_PIECE_BYTES_LEAST: usize = 32 << 10;

/// Calls that change topics or look into partitions, at a time.
pub const ADMIN_CALLS_MAX: usize = 64;

/// Connections of the HTTP listener; beyond, new ones wait.
pub const HTTP_CONNECTIONS_MAX: usize = 64;

/// How long an HTTP request's head may take.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause that a refusal for lack of room asks for.
pub const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What a broker takes before it does anything, in bytes.
const MEMORY_BASE: u64 = 64 << 20;

/// How often the bytes of a batch stand in memory until its ack: as received, and once on their way
/// to each of two followers.
const IN_FLIGHT_COPIES: u64 = 3;

/// How often the bytes of an answer stand in memory: as read, and as sent.
const FETCH_COPIES: u64 = 2;

/// How often what a batch inflates to stands in memory: while it grows it is copied.
const INFLATE_COPIES: usize = 2;

/// What a call takes beside its messages, in bytes: headers, tasks, queues.
const CALL_BYTES: u64 = 32 << 10;

/// What a fetch stream may hold even when `limits.fetch_bytes` are used up, in bytes: a response of
/// one small batch.
const FETCH_STREAM_BYTES: u64 = 128 << 10;

/// What all subscriptions hold at most, in bytes, most of it by the last of their pieces each.
const SUBSCRIPTIONS_BYTES: u64 = (SUBSCRIBE_BYTES_MAX
    + SUBSCRIPTIONS_MAX * SUBSCRIPTION_PIECES_MAX * SUBSCRIBE_PIECE_BYTES_LEAST)
    as u64;

/// What the memory of a broker with this configuration adds up to at most, in bytes, as long as
/// topics keep the default of `max.message.bytes`. Partitions that it hosts come on top, see
/// [`MEMORY_PER_REPLICA`].
#[must_use]
pub fn memory_bytes_max(config: &Config) -> u64 {
    let limits = &config.limits;
    MEMORY_BASE
        + config.storage.tail_cache.0
        + IN_FLIGHT_COPIES * limits.in_flight_bytes.0
        + FETCH_COPIES * limits.fetch_bytes.0
        + limits.receive_bytes.0
        + u64::from(limits.connections) * u64::from(CONNECTION_WINDOW_BYTES)
        + u64::from(limits.calls) * CALL_BYTES
        + u64::from(limits.fetch_streams) * FETCH_STREAM_BYTES
        + (INFLATING_MAX * INFLATE_COPIES * INFLATE_BYTES_MAX) as u64
        + FETCH_COPIES * SUBSCRIPTIONS_BYTES
}

/// What a replica takes, in bytes.
pub const MEMORY_PER_REPLICA: u64 = 512 << 10;

struct Row {
    name: &'static str,
    value: String,
    key: &'static str,
    beyond: &'static str,
}

fn rows() -> Vec<Row> {
    let limits = Config::default().limits;
    let size = |bytes: usize| ByteSize(bytes as u64).to_string();
    let time = |span: Duration| Span(span).to_string();
    let row = |name, value: String, beyond| Row { name, value, key: "", beyond };
    let keyed = |name, value: String, key, beyond| Row { name, value, key, beyond };
    vec![
        keyed(
            "batches that wait for their ack, in bytes, all partitions",
            limits.in_flight_bytes.to_string(),
            "limits.in_flight_bytes",
            "`RESOURCE_EXHAUSTED` with a pause",
        ),
        keyed(
            "the same for one partition",
            limits.in_flight_bytes_per_partition.to_string(),
            "limits.in_flight_bytes_per_partition",
            "`RESOURCE_EXHAUSTED` with a pause",
        ),
        keyed(
            "batches read for consumers and not yet taken",
            limits.fetch_bytes.to_string(),
            "limits.fetch_bytes",
            "smaller responses",
        ),
        keyed(
            "messages that have not arrived whole, in bytes",
            limits.receive_bytes.to_string(),
            "limits.receive_bytes",
            "`RESOURCE_EXHAUSTED` with a pause",
        ),
        keyed(
            "connections of the client listener",
            limits.connections.to_string(),
            "limits.connections",
            "new ones wait in the system's queue",
        ),
        keyed(
            "calls of all clients at a time, streams among them",
            limits.calls.to_string(),
            "limits.calls",
            "`RESOURCE_EXHAUSTED` with a pause",
        ),
        keyed(
            "fetch streams of the broker",
            limits.fetch_streams.to_string(),
            "limits.fetch_streams",
            "`RESOURCE_EXHAUSTED` with a pause",
        ),
        row(
            "a record batch, whatever its topic allows",
            size(BATCH_BYTES_MAX),
            "`MESSAGE_TOO_LARGE`",
        ),
        row("a gRPC message, either way", size(MESSAGE_BYTES_MAX), "status `OUT_OF_RANGE`"),
        row("a message between brokers", size(RAFT_MESSAGE_BYTES_MAX), "status `OUT_OF_RANGE`"),
        row(
            "calls and streams of one connection",
            STREAMS_PER_CONNECTION_MAX.to_string(),
            "HTTP/2 makes the client wait",
        ),
        row(
            "the same between brokers",
            INTERNAL_STREAMS_PER_CONNECTION_MAX.to_string(),
            "HTTP/2 makes the broker wait",
        ),
        row(
            "HTTP/2 window of a stream",
            size(STREAM_WINDOW_BYTES as usize),
            "HTTP/2 makes the client wait",
        ),
        row(
            "HTTP/2 window of a connection",
            size(CONNECTION_WINDOW_BYTES as usize),
            "HTTP/2 makes the client wait",
        ),
        row("HTTP/2 frame", size(FRAME_BYTES_MAX as usize), "the connection is closed"),
        row("headers of a request", size(HEADERS_BYTES_MAX as usize), "the call is refused"),
        row("time to begin the handshake", time(HANDSHAKE_TIMEOUT), "the connection is closed"),
        row("time for a message to arrive whole", time(MESSAGE_TIMEOUT), "`REQUEST_TIMED_OUT`"),
        row("silence before a keepalive", time(KEEPALIVE_INTERVAL), "a ping is sent"),
        row("answer to a keepalive", time(KEEPALIVE_TIMEOUT), "the connection is closed"),
        row(
            "unanswered batches of one produce stream",
            PRODUCE_STREAM_BATCHES_MAX.to_string(),
            "the stream is not read",
        ),
        row("deadline of a batch by default", time(PRODUCE_TIMEOUT_DEFAULT), "`REQUEST_TIMED_OUT`"),
        row(
            "deadline of a batch, or of a change of a topic",
            time(TIMEOUT_MAX),
            "`INVALID_REQUEST`",
        ),
        row(
            "deadline of a change of a topic by default",
            time(ADMIN_TIMEOUT_DEFAULT),
            "`REQUEST_TIMED_OUT`",
        ),
        row("deadline of a leader transfer", time(TRANSFER_TIMEOUT_MAX), "`INVALID_REQUEST`"),
        row(
            "batches in one fetch response by default",
            size(FETCH_RESPONSE_BYTES_DEFAULT),
            "more responses",
        ),
        row("batches in one fetch response", size(FETCH_RESPONSE_BYTES_MAX), "`INVALID_REQUEST`"),
        row(
            "bytes that a fetch response may wait for",
            size(FETCH_MIN_BYTES_MAX),
            "`INVALID_REQUEST`",
        ),
        row(
            "credit of a fetch stream",
            size(FETCH_CREDIT_BYTES_MAX as usize),
            "the rest is not counted",
        ),
        row("silence of a fetch stream by default", time(FETCH_WAIT_DEFAULT), "an empty response"),
        row(
            "silence of a fetch stream",
            format!("{} to {}", time(FETCH_WAIT_MIN), time(FETCH_WAIT_MAX)),
            "`INVALID_REQUEST`",
        ),
        row(
            "time for a quorum to confirm a leader before it reads",
            time(LINEARIZE_TIMEOUT),
            "`NOT_LEADER_OR_FOLLOWER`",
        ),
        row("items of `ListOffsets`", LIST_OFFSETS_ITEMS_MAX.to_string(), "`INVALID_REQUEST`"),
        row("records of `ProduceRecords`", PRODUCE_RECORDS_MAX.to_string(), "`INVALID_REQUEST`"),
        row(
            "records of `FetchRecords` by default",
            FETCH_RECORDS_DEFAULT.to_string(),
            "more calls",
        ),
        row("records of `FetchRecords`", FETCH_RECORDS_MAX.to_string(), "`INVALID_REQUEST`"),
        row(
            "a batch inflated for `FetchRecords`",
            size(INFLATE_BYTES_MAX),
            "`MESSAGE_TOO_LARGE`; `Fetch` still sends it",
        ),
        row(
            "calls of `FetchRecords` that inflate at the same time",
            INFLATING_MAX.to_string(),
            "they wait",
        ),
        row(
            "calls of `ProduceRecords` and `FetchRecords` at a time",
            RECORDS_CALLS_MAX.to_string(),
            "`RESOURCE_EXHAUSTED` with a pause",
        ),
        row("names of `DescribeTopics`", DESCRIBE_TOPICS_MAX.to_string(), "`INVALID_REQUEST`"),
        row(
            "topics on a page of `ListTopics` by default",
            LIST_TOPICS_DEFAULT.to_string(),
            "more pages",
        ),
        row("topics on a page of `ListTopics`", LIST_TOPICS_MAX.to_string(), "`INVALID_REQUEST`"),
        row(
            "topics of one call that changes topics",
            ADMIN_TOPICS_MAX.to_string(),
            "`INVALID_REQUEST`",
        ),
        row(
            "partitions of `TransferLeader`, `DescribePartitionRaft`",
            ADMIN_PARTITIONS_MAX.to_string(),
            "`INVALID_REQUEST`",
        ),
        row(
            "partitions that `ClusterHealth` names of a kind",
            HEALTH_NAMED_MAX.to_string(),
            "they are counted only",
        ),
        row("a log filter", size(LOG_FILTER_BYTES_MAX), "`INVALID_REQUEST`"),
        row("a topic pattern", size(TOPIC_PATTERN_BYTES_MAX), "`INVALID_REGULAR_EXPRESSION`"),
        row("topics that a member names", SUBSCRIBED_TOPICS_MAX.to_string(), "`INVALID_REQUEST`"),
        row(
            "offsets of one call about a group",
            GROUP_OFFSETS_MAX.to_string(),
            "`INVALID_REQUEST`",
        ),
        row("wait of a heartbeat", time(HEARTBEAT_WAIT_MAX), "`INVALID_REQUEST`"),
        row(
            "time that a call waits for a coordinator with a leader",
            time(COORDINATOR_TIMEOUT),
            "`COORDINATOR_NOT_AVAILABLE`",
        ),
        row(
            "calls of `GroupService` at a time",
            GROUP_CALLS_MAX.to_string(),
            "`RESOURCE_EXHAUSTED` with a pause",
        ),
        row(
            "credit of a subscription in records",
            SUBSCRIBE_CREDIT_MAX.to_string(),
            "the rest is not counted",
        ),
        row(
            "subscriptions at a time",
            SUBSCRIPTIONS_MAX.to_string(),
            "`RESOURCE_EXHAUSTED` with a pause",
        ),
        row(
            "time for a subscription to say what it wants",
            time(SUBSCRIBE_OPEN_TIMEOUT),
            "`REQUEST_TIMED_OUT`",
        ),
        row(
            "records read for subscriptions and not yet taken",
            size(SUBSCRIBE_BYTES_MAX),
            "smaller responses",
        ),
        row(
            "the same for one subscription, in pieces",
            SUBSCRIPTION_PIECES_MAX.to_string(),
            "no more is read",
        ),
        row(
            "records in one response of a subscription",
            size(SUBSCRIBE_PIECE_BYTES_MAX),
            "more responses; one record is sent even if it is larger",
        ),
        row(
            "calls of `AdminService` at a time",
            ADMIN_CALLS_MAX.to_string(),
            "`RESOURCE_EXHAUSTED` with a pause",
        ),
        row(
            "connections of the HTTP listener",
            HTTP_CONNECTIONS_MAX.to_string(),
            "new ones wait in the system's queue",
        ),
        row("time for the head of an HTTP request", time(HTTP_HEAD_TIMEOUT), "it is closed"),
        row("the pause that a refusal asks for", time(RETRY_AFTER), ""),
    ]
}

/// The reference of all limits in Markdown: `docs/limits.md`.
#[must_use]
pub fn reference() -> String {
    let mut page = "# Limits of a broker

Every limit has a typed answer, and crossing one does not harm the broker. Those with a key can be set,
see `config.md`; the others are part of the protocol or of the code. This page is generated from the
code. What topics, names and clusters may be at most stands with them in `tidelog-state`.

| what | at most | key | beyond |
|---|---|---|---|
"
    .to_owned();
    for Row { name, value, key, beyond } in rows() {
        let key = if key.is_empty() { String::new() } else { format!("`{key}`") };
        writeln!(page, "| {name} | {value} | {key} | {beyond} |")
            .expect("a string takes all that is written");
    }
    let size = |bytes: u64| ByteSize(bytes).to_string();
    write!(
        page,
        "
## Memory

With its limits a broker's memory is bounded: {} for itself, `storage.tail_cache`,
{IN_FLIGHT_COPIES} x `limits.in_flight_bytes`, {FETCH_COPIES} x `limits.fetch_bytes`,
`limits.receive_bytes`, the window of {} for each of `limits.connections`, {} for each of
`limits.calls`, {} for each of `limits.fetch_streams`, {} for what is inflated,
{} for what subscriptions hold, and {} for each replica. With the defaults and without replicas that is {}, most of it for connections that all
fill their windows at once; `tidelog_memory_bytes_max` among the metrics is the sum for the
configuration that holds. Topics that allow larger batches than the default add them for each fetch
stream.
",
        size(MEMORY_BASE),
        size(CONNECTION_WINDOW_BYTES.into()),
        size(CALL_BYTES),
        size(FETCH_STREAM_BYTES),
        size((INFLATING_MAX * INFLATE_COPIES * INFLATE_BYTES_MAX) as u64),
        size(FETCH_COPIES * SUBSCRIPTIONS_BYTES),
        size(MEMORY_PER_REPLICA),
        size(memory_bytes_max(&Config::default())),
    )
    .expect("a string takes all that is written");
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docs_test::assert_page;

    #[test]
    fn the_page_is_what_the_code_says() {
        assert_page("docs/limits.md", &reference());
    }

    #[test]
    fn one_batch_fits_a_message_a_window_and_a_share() {
        const { assert!(BATCH_BYTES_MAX < MESSAGE_BYTES_MAX) };
        const { assert!(FETCH_RESPONSE_BYTES_MAX < MESSAGE_BYTES_MAX) };
        const { assert!(STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES) };
        assert!(Config::default().limits.in_flight_bytes_per_partition.bytes() >= BATCH_BYTES_MAX);
    }
}
