//! What a simulated broker or client is given in place of a machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidelog_broker::MemoryMaps;
use tidelog_log::flusher::InlineFlusher;
use tidelog_raft::InlineExecutor;
use tidelog_types::Timestamp;

use crate::disk::TracedDisk;
use crate::network::HostNetwork;

/// When simulated time begins: 2026-01-01T00:00:00Z. Any time after records existed would do.
const EPOCH_MS: i64 = 1_767_225_600_000;

/// The wall clock of the simulation.
#[derive(Clone, Copy, Debug)]
struct SimClock;

impl SimClock {
    fn time() -> Timestamp {
        let since = turmoil::sim_elapsed().unwrap_or_default();
        Timestamp(EPOCH_MS + i64::try_from(since.as_millis()).unwrap_or(i64::MAX - EPOCH_MS))
    }
}

impl tidelog_raft::Clock for SimClock {
    fn now(&self) -> Timestamp {
        Self::time()
    }
}

impl tidelog_client::Clock for SimClock {
    fn now(&self) -> Timestamp {
        Self::time()
    }
}

/// Numbers that follow from `seed` alone (SplitMix64: Steele, Lea, Flood, OOPSLA 2014).
fn numbers(seed: u64) -> impl Fn() -> u64 + Send + Sync + 'static {
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    let state = AtomicU64::new(seed.wrapping_mul(GAMMA));
    move || {
        let mut z = state.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The world of a broker. Flushes and cold reads run on the caller: simulated disks take no time.
pub(crate) fn of_broker(
    seed: u64,
    disk: TracedDisk,
    network: HostNetwork,
) -> tidelog_broker::Environment {
    tidelog_broker::Environment {
        node: tidelog_raft::Environment {
            disk: Arc::new(disk),
            flusher: Arc::new(InlineFlusher::default()),
            executor: Arc::new(InlineExecutor),
            clock: Arc::new(SimClock),
            entropy: Arc::new(numbers(seed)),
            connector: Arc::new(network.clone()),
        },
        network: Arc::new(network),
        maps: Arc::new(MemoryMaps),
        log_filter: None,
        lock_data_dir: false,
    }
}

/// The world of a client.
pub(crate) fn of_client(seed: u64, network: HostNetwork) -> tidelog_client::Environment {
    tidelog_client::Environment {
        connector: Arc::new(network),
        clock: Arc::new(SimClock),
        entropy: Arc::new(numbers(seed)),
    }
}
