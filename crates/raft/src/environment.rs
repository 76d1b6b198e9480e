//! What a node is given: its surroundings, and its settings.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidelog_log as log;
use tidelog_types::NodeId;

use crate::clock::Clock;
use crate::executor::Executor;
use crate::link::connector::Connector;
use crate::node::{Compacting, Scrubbing};

/// What a node takes from outside, so that a simulation can put its own in.
#[derive(Clone)]
pub struct Environment {
    /// The disk.
    pub disk: Arc<dyn log::disk::Disk>,
    /// Writes and syncs logs.
    pub flusher: Arc<dyn log::flusher::Flusher>,
    /// Reads what is not in memory.
    pub executor: Arc<dyn Executor>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub entropy: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Dials other brokers.
    pub connector: Arc<dyn Connector>,
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

/// A node's settings.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node.
    pub node: NodeId,
    /// The cluster that it belongs to.
    pub cluster_id: String,
    /// Where the others find it, as `host:port`; told to whoever it dials.
    pub address: Option<String>,
    /// Where its logs lie.
    pub data_dir: PathBuf,
    /// Bytes of recent entries kept in memory, over all groups. Smaller: followers that lag and
    /// replication read the disk more. Larger: memory.
    pub tail_cache_bytes: usize,
    /// Pause between a leader's heartbeats. The backstop of liveness; see `probe`.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout, and a leader's lease.
    pub election_max: Duration,
    /// Pause between two probes of another broker.
    pub probe: Duration,
    /// Silence after which a broker counts as dead. Smaller: a busy machine loses leaders. Larger:
    /// a frozen broker is missed longer.
    pub probe_missed: Duration,
    /// How long nothing must have happened in a group until it sleeps, without heartbeats and timers of its
    /// own; `None`: never. Smaller: groups that are written to now and then wake often, which takes a
    /// round trip. Larger: idle groups cost more.
    pub sleep_after: Option<Duration>,
    /// How often segments are checked for what nobody needs any more. Larger: retention is coarser.
    pub clean_every: Duration,
    /// How the logs are read again to find damage.
    pub scrubbing: Scrubbing,
    /// How logs are compacted.
    pub compacting: Compacting,
    /// Bytes a second that replicas which join a group are sent by this node, all together; 0: as fast
    /// as it goes. Smaller than what is produced: they never catch up.
    pub learn_rate_max: u64,
    /// Free bytes on the disk below which no records are taken; 0: take them until it is full. Smaller
    /// than what is written within a second or two: the disk fills up all the same.
    pub free_min: u64,
}

impl NodeConfig {
    /// The defaults.
    #[must_use]
    pub fn new(node: NodeId, cluster_id: String, data_dir: PathBuf) -> Self {
        Self {
            node,
            cluster_id,
            address: None,
            data_dir,
            tail_cache_bytes: 64 * 1024 * 1024,
            heartbeat: Duration::from_millis(200),
            election_min: Duration::from_millis(1000),
            election_max: Duration::from_millis(1500),
            probe: Duration::from_millis(100),
            probe_missed: Duration::from_millis(900),
            sleep_after: Some(Duration::from_secs(3)),
            clean_every: Duration::from_secs(10),
            scrubbing: Scrubbing::default(),
            compacting: Compacting::default(),
            learn_rate_max: 100 * 1024 * 1024,
            free_min: 0,
        }
    }
}
