//! What a simulated broker or client is given in place of a machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tidelog_broker::MemoryMaps;
use tidelog_raft::InlineExecutor;
use tidelog_types::Timestamp;

use crate::cluster::Machine;
use crate::dice::{GAMMA, mix};
use crate::network::HostNetwork;

/// When simulated time begins: 2026-01-01T00:00:00Z. Any time after records existed would do.
const EPOCH_MS: i64 = 1_767_225_600_000;

/// The wall clock of one host, which may be wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimClock {
    wrong_by_ms: Arc<AtomicI64>,
}

impl SimClock {
    /// The clock jumps by so many milliseconds.
    pub(crate) fn jump(&self, ms: i64) {
        self.wrong_by_ms.fetch_add(ms, Ordering::Relaxed);
    }

    fn time(&self) -> Timestamp {
        let since = turmoil::sim_elapsed().unwrap_or_default().as_millis() as i64;
        Timestamp(EPOCH_MS + since + self.wrong_by_ms.load(Ordering::Relaxed))
    }
}

impl tidelog_raft::Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.time()
    }
}

impl tidelog_client::Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.time()
    }
}

/// Numbers that follow from `seed` alone.
fn numbers(seed: u64) -> impl Fn() -> u64 + Send + Sync + 'static {
    let state = AtomicU64::new(mix(seed));
    move || mix(state.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA))
}

/// The world of a broker in one of its lives. Cold reads run on the caller: a simulated disk's reads
/// take no time.
pub(crate) fn of_broker(seed: u64, machine: &Machine) -> tidelog_broker::Environment {
    tidelog_broker::Environment {
        node: tidelog_raft::Environment {
            disk: Arc::new(machine.disk.clone()),
            flusher: Arc::clone(&machine.flusher) as _,
            executor: Arc::new(InlineExecutor),
            clock: Arc::new(machine.clock.clone()),
            entropy: Arc::new(numbers(seed)),
            connector: Arc::new(machine.network.clone()),
        },
        network: Arc::new(machine.network.clone()),
        maps: Arc::new(MemoryMaps),
        log_filter: None,
        lock_data_dir: false,
        software: tidelog_broker::software(""),
    }
}

/// The world of a client.
pub(crate) fn of_client(seed: u64, network: HostNetwork) -> tidelog_client::Environment {
    tidelog_client::Environment {
        connector: Arc::new(network),
        clock: Arc::new(SimClock::default()),
        entropy: Arc::new(numbers(seed)),
    }
}
