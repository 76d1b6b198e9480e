//! Fetching: partitions from their leaders, wherever those are.
//!
//! ```text
//! broker ══> fetcher ─> outlet        one fetcher (task, stream) per partition
//!   ^           │          │
//!   └── credit ─┴── read ──┘          what is sent and not yet read is bounded by the credit
//! ```

mod check;
mod fetcher;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidelog_types::{Offset, TopicPartition};
use tokio::sync::Notify;
use tonic::transport::Channel;

pub(crate) use fetcher::Fetcher;

use crate::cluster::{Cluster, locked};
use crate::{Error, ReadError, ReadRecord, Until};

/// Bounds of the credit of one partition.
const CREDIT_BYTES_MIN: usize = 64 << 10;
const CREDIT_BYTES_MAX: usize = 8 << 20;

/// How partitions are read.
#[derive(Clone, Debug)]
pub(crate) struct FetchConfig {
    pub(crate) until: Until,
    pub(crate) max_wait: Duration,
    pub(crate) min_bytes: u32,
    pub(crate) max_bytes: u32,
    pub(crate) unavailable_timeout: Duration,
    pub(crate) inflate_bytes_max: usize,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            until: Until::Never,
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: 1 << 20,
            unavailable_timeout: Duration::from_secs(60),
            inflate_bytes_max: 64 << 20,
        }
    }
}

/// What fetchers share: where to read, how, and connections for records, one per broker.
#[derive(Debug)]
pub(crate) struct Source {
    cluster: Arc<Cluster>,
    config: FetchConfig,
    connections: Mutex<HashMap<String, Channel>>,
}

impl Source {
    pub(crate) fn new(cluster: Arc<Cluster>, config: FetchConfig) -> Self {
        Self { cluster, config, connections: Mutex::default() }
    }

    fn connection(&self, address: &str) -> Result<Channel, Error> {
        let mut connections = locked(&self.connections);
        if let Some(channel) = connections.get(address) {
            return Ok(channel.clone());
        }
        let channel = self.cluster.dial(address)?;
        connections.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    fn forget(&self, address: &str) {
        locked(&self.connections).remove(address);
    }
}

/// Takes what a fetcher reads.
pub(crate) trait Outlet: Send {
    /// Records, or why there are no more.
    fn put(&self, chunk: Chunk);

    /// The end of what is committed, when there were no records beside it.
    fn heard(&self, _high_watermark: Offset) {}
}

/// Records of one partition, or why there are no more.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) high_watermark: Offset,
    pub(crate) records: Result<Vec<ReadRecord>, ReadError>,
    pub(crate) read: ReadBytes,
}

/// The bytes of a chunk. Dropped they count as read, and the broker may send as many.
#[derive(Debug)]
pub(crate) struct ReadBytes {
    bytes: u64,
    partition: TopicPartition,
    tally: Arc<Tally>,
}

impl ReadBytes {
    pub(crate) fn partition(&self) -> &TopicPartition {
        &self.partition
    }
}

impl Drop for ReadBytes {
    fn drop(&mut self) {
        self.tally.bytes.fetch_add(self.bytes, Ordering::Relaxed);
        self.tally.changed.notify_one();
    }
}

/// Bytes that were read, and that the fetcher has not taken note of.
#[derive(Debug, Default)]
struct Tally {
    bytes: AtomicU64,
    changed: Notify,
}

impl Tally {
    async fn changed(&self) {
        self.changed.notified().await;
    }

    fn take(&self) -> u64 {
        self.bytes.swap(0, Ordering::Relaxed)
    }
}

/// How many bytes of one partition may be on their way or unread. Cheap to clone; all clones share it,
/// so that the share of each partition follows their number.
#[derive(Clone, Debug)]
pub(crate) struct Credit(Arc<AtomicU64>);

impl Credit {
    /// The share of one of `partitions` in `buffer_bytes`.
    pub(crate) fn share(buffer_bytes: usize, partitions: usize) -> Self {
        let credit = Self(Arc::default());
        credit.divide(buffer_bytes, partitions);
        credit
    }

    /// Sets the share anew. Fetchers take note with what is read or sent next.
    pub(crate) fn divide(&self, buffer_bytes: usize, partitions: usize) {
        let share = buffer_bytes / partitions.max(1);
        self.0.store(share.clamp(CREDIT_BYTES_MIN, CREDIT_BYTES_MAX) as u64, Ordering::Relaxed);
    }

    fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
