//! Every limit of a broker, in one place. `docs/limits.md` is generated from it, see [`reference()`],
//! and `memory` adds up what the limits let memory come to.
//!
//! Some limits can be configured. What crosses a limit gets a typed error and costs the broker no more
//! than the limit allows.

mod memory;
mod reference;

use std::time::Duration;

pub use memory::{MEMORY_PER_REPLICA, memory_bytes_max};
pub use reference::reference;

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

/// Connections of the internal listener: two brokers need a handful.
pub const INTERNAL_CONNECTIONS_MAX: usize = 4096;

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

/// What a compressed batch may inflate to whose topic is compacted: each record must have a key, and to
/// look for it takes a worker's time, a few milliseconds for so much. Batches of clients come to a
/// fraction of it.
pub const KEYS_INFLATE_BYTES_MAX: usize = 4 << 20;

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

/// Partitions that `ClusterHealth` names of each kind, and `CanStop` of all.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn one_batch_fits_a_message_a_window_and_a_share() {
        const { assert!(BATCH_BYTES_MAX < MESSAGE_BYTES_MAX) };
        const { assert!(FETCH_RESPONSE_BYTES_MAX < MESSAGE_BYTES_MAX) };
        const { assert!(STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES) };
        assert!(Config::default().limits.in_flight_bytes_per_partition.bytes() >= BATCH_BYTES_MAX);
    }
}
