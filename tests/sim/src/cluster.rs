//! The machines of a run and the hosts on them: brokers that die and come back, and clients.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tidelog_broker::Broker;
use tidelog_broker::config::{ByteSize, Config, HostPort, InitialBroker, Span};
use tidelog_log::sim::CrashPlan;
use tidelog_types::BrokerId;
use turmoil::Sim;

use crate::dice::{Dice, mix};
use crate::disk::TracedDisk;
use crate::flusher::SimFlusher;
use crate::network::HostNetwork;
use crate::plan::Plan;
use crate::surroundings::{self, SimClock};
use crate::trace::Trace;

/// Where a broker's data lies on its disk.
pub(crate) const DATA_DIR: &str = "/data";

/// Replicas of each partition.
pub(crate) const REPLICAS: u32 = 3;

/// Coordinators of consumer groups: enough to be on several brokers.
pub(crate) const COORDINATORS: u32 = 2;

/// The name of the host that runs a broker.
pub(crate) fn host(id: u32) -> String {
    format!("broker-{id}")
}

/// Where clients find the brokers: the first, and those that are known to have `joined`.
pub(crate) fn bootstrap(plan: &Plan, joined: &BTreeSet<u32>) -> Vec<String> {
    plan.first_ids().chain(joined.iter().copied()).map(|id| format!("{}:7071", host(id))).collect()
}

/// What the operator does while it is on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Storms {
    /// Hands leaderships over.
    pub(crate) transfers: Storm,
    /// Moves replicas.
    pub(crate) moves: Storm,
}

/// How many storms of a kind are on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Storm(Arc<AtomicU32>);

impl Storm {
    /// One more is on.
    pub(crate) fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One is over.
    pub(crate) fn end(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether any is on.
    pub(crate) fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// A machine that runs a broker, and what outlives the broker's process.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// The broker's id.
    pub(crate) id: u32,
    /// Its disk.
    pub(crate) disk: TracedDisk,
    /// What flushes to the disk.
    pub(crate) flusher: Arc<SimFlusher>,
    /// Its clock.
    pub(crate) clock: SimClock,
    /// Its network.
    pub(crate) network: HostNetwork,
    /// What the operator does, which is everybody's.
    pub(crate) storms: Storms,
    /// Whether it stands there: not before its broker is to join, nor once it was taken away.
    pub(crate) is_there: bool,
    /// Whether the broker's process runs.
    pub(crate) runs: bool,
    /// Whether the disk has failed since the process began: replicas may have stopped.
    pub(crate) hurt: bool,
    /// Whether the process ended by itself.
    gave_up: Arc<AtomicBool>,
}

impl Machine {
    /// Puts the machines of `plan` into `sim`; each begins with an empty disk, and those of the first
    /// brokers run.
    pub(crate) fn all(plan: &Plan, sim: &mut Sim<'_>, storms: &Storms, trace: &Trace) -> Vec<Self> {
        let machines = plan.ids().map(|id| Self::new(plan, id, sim, storms.clone(), trace));
        let mut machines: Vec<_> = machines.collect();
        let first = plan.brokers as usize;
        machines[first..].iter_mut().for_each(|machine| machine.take_away(sim));
        machines
    }

    fn new(plan: &Plan, id: u32, sim: &mut Sim<'_>, storms: Storms, trace: &Trace) -> Self {
        let name = host(id);
        let machine = Self {
            id,
            disk: TracedDisk::new(&name, trace.clone()),
            flusher: SimFlusher::new(Dice::new(plan.seed, &name), plan.flush_ms_max),
            clock: SimClock::default(),
            network: HostNetwork::new(&name, trace.clone()),
            storms,
            is_there: true,
            runs: true,
            hurt: false,
            gave_up: Arc::default(),
        };
        let (machine_of_host, seed) = (machine.clone(), plan.seed);
        let config = config(id, plan.brokers, plan.sleep_after);
        let (lives, trace) = (AtomicU64::new(0), trace.clone());
        sim.host(name.clone(), move || {
            let life = lives.fetch_add(1, Ordering::Relaxed);
            let seed = mix(seed ^ mix(u64::from(id) << 32 | life));
            let env = surroundings::of_broker(seed, &machine_of_host);
            let (name, trace) = (name.clone(), trace.clone());
            let gave_up = Arc::clone(&machine_of_host.gave_up);
            gave_up.store(false, Ordering::Relaxed);
            let config = config.clone();
            async move {
                let ended = match Broker::start(config, env).await {
                    Ok(broker) => broker.wait().await.map_err(|err| err.to_string()),
                    Err(err) => Err(err.to_string()),
                };
                // A process that gave up; whoever planted the reason starts it again.
                trace.line(format_args!("broker {name} ended: {ended:?}"));
                gave_up.store(true, Ordering::Relaxed);
                std::future::pending().await
            }
        });
        machine
    }

    /// Kills the process, if it runs.
    pub(crate) fn kill(&mut self, sim: &mut Sim<'_>) {
        if std::mem::take(&mut self.runs) {
            sim.crash(host(self.id));
            self.disk.kill();
            self.hurt = false;
        }
    }

    /// Cuts the power; what was not synced meets `plan`.
    pub(crate) fn lose_power(&mut self, sim: &mut Sim<'_>, plan: CrashPlan) {
        if std::mem::take(&mut self.runs) {
            sim.crash(host(self.id));
            self.disk.lose_power(plan);
            self.hurt = false;
        }
    }

    /// Takes the disk away with everything on it.
    pub(crate) fn lose_disk(&mut self, sim: &mut Sim<'_>) {
        self.kill(sim);
        self.disk.wipe();
    }

    /// Whether the process ended by itself, and nobody has started it again.
    pub(crate) fn has_given_up(&self) -> bool {
        self.runs && self.gave_up.load(Ordering::Relaxed)
    }

    /// Kills the process, if it runs, and starts it.
    pub(crate) fn restart(&mut self, sim: &mut Sim<'_>) {
        self.kill(sim);
        self.start(sim);
    }

    /// The machine stands there from now on, and its process runs.
    pub(crate) fn set_up(&mut self, sim: &mut Sim<'_>) {
        self.is_there = true;
        self.start(sim);
    }

    /// The machine stands there no more.
    pub(crate) fn take_away(&mut self, sim: &mut Sim<'_>) {
        self.kill(sim);
        self.is_there = false;
    }

    /// Starts the process, if there is a machine on which it does not run.
    pub(crate) fn start(&mut self, sim: &mut Sim<'_>) {
        if self.is_there && !std::mem::replace(&mut self.runs, true) {
            sim.bounce(host(self.id));
        }
    }
}

/// The broker `id`, of which the first `brokers` form the cluster and others join it. Idle groups sleep after
/// `sleep_after`.
fn config(id: u32, brokers: u32, sleep_after: Duration) -> Config {
    let at = |host: &str, port| HostPort { host: host.to_owned(), port };
    let initial = |id| InitialBroker { id: BrokerId(id), address: at(&host(id), 7171) };
    let mut config = Config {
        broker_id: Some(id),
        data_dir: PathBuf::from(DATA_DIR),
        initial_brokers: (1..=brokers).map(initial).collect(),
        ..Config::default()
    };
    if id > brokers {
        let seeds = std::mem::take(&mut config.initial_brokers);
        config.seeds = seeds.into_iter().map(|first| first.address).collect();
    }
    config.groups.coordinators = COORDINATORS;
    // Some brokers stop in time when their disk fills up, and some run into its end.
    config.storage.free_min = ByteSize(if id.is_multiple_of(2) { 256 << 10 } else { 0 });
    config.storage.clean_every = Span::ms(1_000);
    config.raft.sleep_after = Span(sleep_after);
    let listener = &mut config.listener;
    for (listener, port) in
        [(&mut listener.client, 7071), (&mut listener.internal, 7171), (&mut listener.http, 8071)]
    {
        listener.bind = at("0.0.0.0", port);
        listener.advertised = Some(at(&host(id), port));
    }
    config
}
