//! `docs/limits.md`, generated from the limits. Of those that can be configured it shows the defaults.

use std::fmt::Write;
use std::time::Duration;

use super::memory::{
    CALL_BYTES, COMPACT_BYTES, FETCH_COPIES, FETCH_STREAM_BYTES, IN_FLIGHT_COPIES, INFLATE_COPIES,
    MEMORY_BASE, SUBSCRIPTIONS_BYTES,
};
use super::*;
use tidelog_raft::COMPACT_INFLATE_BYTES_MAX;

use crate::config::{ByteSize, Config, Span};

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
            "connections of the listener for brokers",
            INTERNAL_CONNECTIONS_MAX.to_string(),
            "new ones wait in the system's queue",
        ),
        row(
            "HTTP/2 window of a stream",
            size(STREAM_WINDOW_BYTES as usize),
            "HTTP/2 makes the client wait, and cuts off one that does not",
        ),
        row(
            "HTTP/2 window of a connection",
            size(CONNECTION_WINDOW_BYTES as usize),
            "HTTP/2 makes the client wait, and cuts off one that does not",
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
            "a compressed batch of a compacted topic, inflated",
            size(KEYS_INFLATE_BYTES_MAX),
            "`MESSAGE_TOO_LARGE`",
        ),
        row(
            "a batch inflated to be compacted",
            size(COMPACT_INFLATE_BYTES_MAX),
            "it stays as it is",
        ),
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
            "partitions that `ClusterHealth` names of a kind, and `CanStop`",
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
{} for what subscriptions hold, `storage.compact_keys` and {} for compaction, and {} for each
replica. With the defaults and without replicas that is {}, most of it for connections that all
fill their windows at once; `tidelog_memory_bytes_max` among the metrics is the sum for the
configuration that holds. Topics that allow larger batches than the default add them for each fetch
stream. What brokers have on their way to one another is not part of the sum: the internal listener is
for them alone.
",
        size(MEMORY_BASE),
        size(CONNECTION_WINDOW_BYTES.into()),
        size(CALL_BYTES),
        size(FETCH_STREAM_BYTES),
        size((INFLATING_MAX * INFLATE_COPIES * INFLATE_BYTES_MAX) as u64),
        size(FETCH_COPIES * SUBSCRIPTIONS_BYTES),
        size(COMPACT_BYTES),
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
}
