//! Forms the cluster in the metadata, registers this broker in it, and follows where the others are.

use std::sync::Arc;
use std::time::Duration;

use tidelog_state::metadata::{
    Address, Broker, BrokerSpec, ClusterId, Command, Machine, Software, check_levels,
};
use tidelog_types::{BrokerId, ErrorCode, FeatureLevels, Incarnation, TopicId};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::cluster::Cluster;
use crate::config::{Config, HostPort};
use crate::environment::{Environment, ListenerName};
use crate::formation;
use crate::identity::Identity;
use crate::introducer::Introducer;

/// Pause between two tries.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How long the initial brokers may take to say what they support, before the cluster forms at the lowest
/// feature level: it can be raised later, and not lowered.
const SAY_WITHIN: Duration = Duration::from_secs(10);

/// How long one try may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);

/// What a broker tells the others: what to dial, and what it runs.
#[derive(Clone, Debug)]
pub(crate) struct Advertised {
    pub(crate) listeners: Vec<(ListenerName, HostPort)>,
    pub(crate) software: Software,
}

impl Advertised {
    /// How this broker registers.
    pub(crate) fn spec(&self, config: &Config, incarnation: Incarnation) -> BrokerSpec {
        let (id, rack) = (config.broker(), config.rack.clone());
        let software = Some(self.software.clone());
        BrokerSpec { id, incarnation, rack, addresses: self.addresses(), software }
    }

    fn addresses(&self) -> Vec<Address> {
        let address = |(name, at): &(ListenerName, HostPort)| Address {
            listener: name.as_str().to_owned(),
            host: at.host.clone(),
            port: at.port,
        };
        let mut addresses: Vec<_> = self.listeners.iter().map(address).collect();
        // As the machine keeps them.
        addresses.sort();
        addresses
    }
}

/// Follows the registry until the node stops.
///
/// # Errors
/// One line, when the cluster does not take this broker: its data directory is of an earlier
/// incarnation, or it does not support the cluster's feature level.
pub(crate) async fn follow(
    cluster: Arc<Cluster>,
    config: Config,
    env: Environment,
    identity: Identity,
    advertised: Advertised,
    introducer: Arc<Introducer>,
) -> Result<(), String> {
    let begun = Instant::now();
    let mut changes = cluster.machine_changes();
    let mut forming = identity.forming;
    loop {
        let machine = Arc::clone(&changes.borrow_and_update());
        refuse_newer(&machine, introducer.levels(), cluster.me.broker)?;
        cluster.node.set_addresses(cluster.internal_addresses());
        let known = cluster.internal_addresses();
        cluster.others.keep(|address| known.values().any(|one| one == address));
        if machine.cluster().is_some() && forming {
            let written = formation::write(&env, &config, identity.clone().formed()).await;
            written.map_err(|err| tidelog_raft::with_sources(&err))?;
            forming = false;
            info!(cluster = cluster.id, "formed the cluster");
        }
        let is_done = if machine.cluster().is_none() {
            form(&cluster, &config, &env, &introducer, begun).await?;
            false
        } else {
            step(&cluster, &config, &advertised, &machine).await?
        };
        let again_after = if is_done { Duration::MAX } else { AGAIN_AFTER };
        // What was just done may be news by now.
        if let Ok(Err(_)) = timeout(again_after, changes.changed()).await {
            return Ok(());
        }
    }
}

/// Whether the metadata are at a level that this broker does not know. One below what it supports may only
/// mean that it has not caught up.
///
/// # Errors
/// One line that says so.
pub(crate) fn refuse_newer(
    machine: &Machine,
    levels: FeatureLevels,
    me: BrokerId,
) -> Result<(), String> {
    let level = machine.feature_level();
    if level > levels.max { check_levels(level, levels, me) } else { Ok(()) }
}

/// Does what is to be done next; `false` when it must be looked at again.
async fn step(
    cluster: &Cluster,
    config: &Config,
    advertised: &Advertised,
    machine: &Machine,
) -> Result<bool, String> {
    let known = machine.broker(config.broker());
    let same = |broker: &Broker| {
        broker.node() == cluster.me
            && broker.rack == config.rack
            && broker.addresses == advertised.addresses()
            && broker.software.as_ref() == Some(&advertised.software)
    };
    if known.is_some_and(same) {
        return Ok(true);
    }
    let broker = advertised.spec(config, cluster.me.incarnation);
    let command = Command::RegisterBroker { broker };
    match cluster.propose(&command, Instant::now() + TRY_TIMEOUT).await {
        Ok(_) => {
            info!(node = %cluster.me, "registered");
            Ok(false)
        }
        Err(err) if err.error_code() == Ok(ErrorCode::InvalidRequest) => {
            Err(format!("the cluster refuses this broker: {}", err.message))
        }
        Err(err) => {
            warn!(%err, "not registered yet");
            Ok(false)
        }
    }
}

/// The first command of the cluster, proposed by whoever leads first.
async fn form(
    cluster: &Cluster,
    config: &Config,
    env: &Environment,
    introducer: &Introducer,
    begun: Instant,
) -> Result<(), String> {
    if cluster.controller() != Some(cluster.me) {
        return Ok(());
    }
    if formation::founding_level(config, introducer)?.is_none() {
        // Of those that do not answer: they may be down by now.
        formation::others(config, env, introducer).await;
    }
    let level = match formation::founding_level(config, introducer)? {
        Some(level) => level,
        None if begun.elapsed() < SAY_WITHIN => return Ok(()),
        None => {
            let level = introducer.levels().min;
            warn!(%level, "an initial broker does not say which feature levels it supports");
            level
        }
    };
    // The id was written by the broker that formed; it is a UUID, as a topic's.
    let Ok(TopicId(id)) = cluster.id.parse() else { return Ok(()) };
    let spec = |one: &crate::config::InitialBroker| BrokerSpec {
        id: one.id,
        incarnation: Incarnation(1),
        rack: None,
        addresses: Vec::new(),
        software: None,
    };
    let brokers = config.initial_brokers.iter().map(spec).collect();
    let command = Command::FormCluster { cluster: ClusterId(id), level, brokers };
    if let Err(err) = cluster.propose(&command, Instant::now() + TRY_TIMEOUT).await {
        warn!(%err, "the cluster has not formed yet");
    }
    Ok(())
}
