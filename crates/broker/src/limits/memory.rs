//! What the memory of a broker adds up to at most, out of its limits.

use super::{
    CONNECTION_WINDOW_BYTES, INFLATE_BYTES_MAX, INFLATING_MAX, SUBSCRIBE_BYTES_MAX,
    SUBSCRIBE_PIECE_BYTES_LEAST, SUBSCRIPTION_PIECES_MAX, SUBSCRIPTIONS_MAX,
};
use crate::config::Config;
use tidelog_raft::COMPACT_INFLATE_BYTES_MAX;

/// What a broker takes before it does anything, in bytes.
pub(super) const MEMORY_BASE: u64 = 64 << 20;

/// How often the bytes of a batch stand in memory until its ack: as received, and once on their way
/// to each of two followers.
pub(super) const IN_FLIGHT_COPIES: u64 = 3;

/// How often the bytes of an answer stand in memory: as read, and as sent.
pub(super) const FETCH_COPIES: u64 = 2;

/// How often what a batch inflates to stands in memory: while it grows it is copied.
pub(super) const INFLATE_COPIES: usize = 2;

/// What a call takes beside its messages, in bytes: headers, tasks, queues.
pub(super) const CALL_BYTES: u64 = 32 << 10;

/// What a fetch stream may hold even when `limits.fetch_bytes` are used up, in bytes: a response of
/// one small batch.
pub(super) const FETCH_STREAM_BYTES: u64 = 128 << 10;

/// What compacting a log takes beside its keys, in bytes: a batch as it was inflated, what is left of
/// it, and an entry of the log.
pub(super) const COMPACT_BYTES: u64 = 3 * COMPACT_INFLATE_BYTES_MAX as u64;

/// What all subscriptions hold at most, in bytes, most of it by the last of their pieces each.
pub(super) const SUBSCRIPTIONS_BYTES: u64 = (SUBSCRIBE_BYTES_MAX
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
        + config.storage.compact_keys.0
        + COMPACT_BYTES
}

/// What a replica takes, in bytes.
pub const MEMORY_PER_REPLICA: u64 = 512 << 10;
