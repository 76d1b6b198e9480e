//! Answers who this broker is, in every phase of its life.

use std::sync::{Arc, PoisonError, RwLock};

use tidelog_proto::v1;
use tidelog_raft::{Introduce, Introduction};
use tidelog_state::metadata::Machine;
use tidelog_types::BrokerId;
use tokio::sync::watch;
use tracing::warn;

use crate::config::Config;
use crate::identity::Identity;

/// What this broker says about itself.
#[derive(Debug)]
pub(crate) struct Introducer {
    broker: BrokerId,
    initial_brokers: Vec<String>,
    phase: RwLock<Phase>,
}

#[derive(Debug, Default)]
struct Phase {
    identity: Option<Identity>,
    machine: Option<watch::Receiver<Arc<Machine>>>,
}

impl Introducer {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            broker: config.broker(),
            initial_brokers: config.initial_list(),
            phase: RwLock::default(),
        }
    }

    /// From now on the broker belongs to a cluster.
    pub(crate) fn belong(&self, identity: &Identity) {
        let mut phase = self.phase.write().unwrap_or_else(PoisonError::into_inner);
        phase.identity = Some(identity.clone());
    }

    /// From now on the broker knows what its cluster knows.
    pub(crate) fn follow(&self, machine: watch::Receiver<Arc<Machine>>) {
        self.phase.write().unwrap_or_else(PoisonError::into_inner).machine = Some(machine);
    }

    pub(crate) fn introduction(&self) -> Introduction {
        let phase = self.phase.read().unwrap_or_else(PoisonError::into_inner);
        // Initial brokers are known by name from the start; only a registration shows that a broker
        // had a disk to lose.
        let registered = |machine: &Machine| {
            let brokers = machine.brokers().filter(|broker| !broker.addresses.is_empty());
            brokers.map(|broker| broker.id).collect()
        };
        Introduction {
            broker: self.broker,
            incarnation: phase.identity.as_ref().map(|identity| identity.node().incarnation),
            cluster_id: phase.identity.as_ref().map(|identity| identity.cluster_id.clone()),
            initial_brokers: self.initial_brokers.clone(),
            known_brokers: phase
                .machine
                .as_ref()
                .map(|machine| registered(&machine.borrow()))
                .unwrap_or_default(),
        }
    }
}

impl Introduce for Introducer {
    fn introduce(&self, asker: &v1::IntroduceRequest) -> v1::IntroduceResponse {
        if asker.initial_brokers != self.initial_brokers {
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
        }
    }
}
