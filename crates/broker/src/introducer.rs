//! Answers who this broker is, in every phase of its life.
//!
//! A broker that comes back with an identity does not name its cluster before it has caught up with
//! it: until then it cannot tell whom the cluster knows, and one whose disk was wiped would take that
//! for an invitation. It says from the first moment that it has an identity.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tidelog_proto::v1;
use tidelog_raft::{Introduce, Introduction};
use tidelog_state::metadata::{Machine, check_levels};
use tidelog_types::{BrokerId, FeatureLevels, NodeId, canary};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use crate::cluster::Cluster;
use crate::config::Config;
use crate::environment::Environment;
use crate::formation;
use crate::identity::Identity;

/// How long one try to catch up may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a broker that has caught up makes sure that it still hears from its cluster.
const HEAR_EVERY: Duration = Duration::from_secs(10);

/// Pause between two tries.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What this broker says about itself.
#[derive(Debug)]
pub(crate) struct Introducer {
    broker: BrokerId,
    initial_brokers: Vec<String>,
    levels: FeatureLevels,
    phase: RwLock<Phase>,
    /// What the initial brokers support, as far as they were heard.
    heard: RwLock<BTreeMap<BrokerId, FeatureLevels>>,
}

#[derive(Debug, Default)]
struct Phase {
    identity: Option<Identity>,
    /// Whether the cluster may be named.
    named: bool,
    /// Whether what the broker knows of its cluster is as new as its start.
    caught_up: bool,
    machine: Option<watch::Receiver<Arc<Machine>>>,
}

impl Introducer {
    /// For a broker that found `identity` in its data directory.
    pub(crate) fn new(config: &Config, levels: FeatureLevels, identity: Option<&Identity>) -> Self {
        // A cluster that is still forming knows nobody, and waits for those who ask.
        let named = identity.is_some_and(|identity| identity.forming);
        let phase = Phase { identity: identity.cloned(), named, ..Phase::default() };
        Self {
            broker: config.broker(),
            initial_brokers: config.initial_list(),
            levels,
            phase: RwLock::new(phase),
            heard: RwLock::default(),
        }
    }

    /// From now on the broker belongs to a cluster, for the first time.
    pub(crate) fn join(&self, identity: &Identity) {
        let mut phase = self.phase.write().unwrap_or_else(PoisonError::into_inner);
        (phase.identity, phase.named) = (Some(identity.clone()), true);
    }

    /// What the broker knows of its cluster is as new as the broker's start.
    pub(crate) fn caught_up(&self) {
        let mut phase = self.phase.write().unwrap_or_else(PoisonError::into_inner);
        (phase.named, phase.caught_up) = (true, true);
    }

    /// Another initial broker has said what it supports.
    pub(crate) fn hear(&self, said: &Introduction) {
        let mut heard = self.heard.write().unwrap_or_else(PoisonError::into_inner);
        heard.insert(said.broker, said.levels);
    }

    /// What an initial broker supports, this one included, if it was heard.
    pub(crate) fn heard(&self, broker: BrokerId) -> Option<FeatureLevels> {
        if broker == self.broker {
            return Some(self.levels);
        }
        self.heard.read().unwrap_or_else(PoisonError::into_inner).get(&broker).copied()
    }

    /// The feature levels that this broker supports.
    pub(crate) const fn levels(&self) -> FeatureLevels {
        self.levels
    }

    /// From now on the broker knows what its cluster knows.
    pub(crate) fn follow(&self, machine: watch::Receiver<Arc<Machine>>) {
        self.phase.write().unwrap_or_else(PoisonError::into_inner).machine = Some(machine);
    }

    /// What this broker says when it asks: which cluster it is of, caught up or not.
    pub(crate) fn question(&self) -> Introduction {
        let phase = self.phase.read().unwrap_or_else(PoisonError::into_inner);
        let cluster_id = phase.identity.as_ref().map(|identity| identity.cluster_id.clone());
        drop(phase);
        Introduction { cluster_id, ..self.introduction() }
    }

    fn introduction(&self) -> Introduction {
        let phase = self.phase.read().unwrap_or_else(PoisonError::into_inner);
        // Initial brokers are known by name from the start; only a registration shows that a broker
        // had a disk to lose.
        let registered = |machine: &Machine| {
            let brokers = machine.brokers().filter(|broker| !broker.addresses.is_empty());
            brokers.map(|broker| broker.id).collect()
        };
        let named = phase.identity.as_ref().filter(|_| phase.named);
        Introduction {
            broker: self.broker,
            incarnation: phase.identity.as_ref().map(|identity| identity.node().incarnation),
            cluster_id: named.map(|identity| identity.cluster_id.clone()),
            initial_brokers: self.initial_brokers.clone(),
            known_brokers: phase
                .machine
                .as_ref()
                .map(|machine| registered(&machine.borrow()))
                .unwrap_or_default(),
            removed: false,
            levels: self.levels,
            // An old level would turn away who no longer supports that.
            feature_level: phase
                .machine
                .as_ref()
                .filter(|_| phase.caught_up)
                .map(|machine| machine.borrow())
                .filter(|machine| machine.cluster().is_some())
                .map(|machine| machine.feature_level()),
        }
    }

    /// Whether the cluster of this broker has removed the one that asks.
    fn has_removed(&self, asker: &v1::IntroduceRequest) -> bool {
        let phase = self.phase.read().unwrap_or_else(PoisonError::into_inner);
        let (Some(identity), Some(machine)) = (&phase.identity, &phase.machine) else {
            return false;
        };
        if canary!(RemovedNotTold) {
            return false;
        }
        let (id, machine) = (BrokerId(asker.broker_id), machine.borrow());
        match asker.incarnation {
            // It has no disk, and would take the place that it had at first.
            0 => machine.was_removed(id),
            _ if identity.cluster_id != asker.cluster_id => false,
            incarnation => machine.has_removed(NodeId::new(id.0, incarnation)),
        }
    }
}

/// Lets the broker name its cluster as soon as it knows whom the cluster knows, and sees to it that it
/// goes on hearing from it.
///
/// # Errors
/// One line, when the cluster has removed this broker: nobody sends it the metadata any more that say so;
/// or when the cluster is at a feature level that this broker does not support.
pub(crate) async fn catch_up(
    cluster: Arc<Cluster>,
    config: Config,
    env: Environment,
    introducer: Arc<Introducer>,
) -> Result<(), String> {
    loop {
        match cluster.catch_up(Instant::now() + TRY_TIMEOUT).await {
            Ok(()) => {
                let machine = cluster.machine();
                if machine.cluster().is_some() {
                    let level = machine.feature_level();
                    check_levels(level, introducer.levels(), cluster.me.broker)?;
                }
                introducer.caught_up();
                sleep(HEAR_EVERY).await;
            }
            Err(err) => {
                debug!(%err, "not caught up with the metadata");
                formation::refuse_removed(&formation::others(&config, &env, &introducer).await)
                    .map_err(|err| err.to_string())?;
                sleep(AGAIN_AFTER).await;
            }
        }
    }
}

impl Introduce for Introducer {
    fn introduce(&self, asker: &v1::IntroduceRequest) -> v1::IntroduceResponse {
        // Who joins a cluster that is there has no such list.
        let has_list = !asker.initial_brokers.is_empty() && !self.initial_brokers.is_empty();
        if has_list && asker.initial_brokers != self.initial_brokers {
            warn!(
                broker = asker.broker_id,
                theirs = asker.initial_brokers.join(","),
                ours = self.initial_brokers.join(","),
                "a broker with other initial_brokers asks"
            );
        }
        let me = self.introduction();
        v1::IntroduceResponse {
            broker_id: me.broker.0,
            incarnation: me.incarnation.map_or(0, |incarnation| incarnation.0),
            cluster_id: me.cluster_id.unwrap_or_default(),
            initial_brokers: me.initial_brokers,
            known_brokers: me.known_brokers.iter().map(|broker| broker.0).collect(),
            removed: self.has_removed(asker),
            feature_level_min: me.levels.min.0,
            feature_level_max: me.levels.max.0,
            feature_level: me.feature_level.map_or(0, |level| level.0),
        }
    }
}
