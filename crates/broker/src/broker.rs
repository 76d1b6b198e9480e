//! One broker: owns its tasks and sockets, starts and stops them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidelog_log::disk::{DataLock, LockError};
use tidelog_raft::{Compacting, Metadata, Node, NodeConfig, RaftServer, Scrubbing, with_sources};
use tidelog_types::{BrokerId, GroupId, NodeId};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::{error, info, warn};

use crate::cluster::Cluster;
use crate::config::{Config, ConfigError, HostPort};
use crate::core::{Core, Phase};
use crate::environment::{Environment, Listener, ListenerName, create_dir_all};
use crate::formation::{FormationError, Settled, settle};
use crate::identity::{self, Identity, IdentityError};
use crate::introducer::Introducer;
use crate::others::Others;
use crate::registry::Advertised;
use crate::services::SwitchingRaft;
use crate::view::View;
use crate::{
    drainer, formation, groups, http, introducer, join, leaders, mover, reconcile, registry,
    repair, server, voters,
};

/// Where the view lies in the data directory.
const VIEW_DIR: &str = "view";

/// How often health is looked at for the gRPC health service.
const HEALTH_EVERY: Duration = Duration::from_millis(500);

/// How long a broker that was dropped goes on in the background.
const DROPPED_WITHIN: Duration = Duration::from_secs(1);

/// What of a stop is kept for streams to end, after leadership was handed over.
const STREAMS_SHARE: u32 = 4;

/// Why a broker does not start. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory cannot be made or written.
    #[error("data directory {} cannot be used: {source}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process uses the data directory.
    #[error(transparent)]
    Locked(LockError),
    /// The data directory is another broker's, or damaged.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The cluster that is to give it an id refuses.
    #[error(transparent)]
    Formation(#[from] FormationError),
    /// A listener's address cannot be used.
    #[error("listener.{name}.bind = {address} cannot be used: {source}")]
    Bind {
        /// The listener.
        name: ListenerName,
        /// Its address.
        address: HostPort,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a broker that had started came to an end by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// It does not belong to the cluster that it was sent to.
    #[error(transparent)]
    Formation(#[from] FormationError),
    /// Its Raft node does not start.
    #[error("{0}")]
    Node(String),
    /// The cluster refuses it.
    #[error("{0}")]
    Refused(String),
    /// A task of it panicked: a bug.
    #[error("a task of the broker panicked: {0}")]
    Panicked(String),
}

/// Where a broker listens, and what it tells others to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerAddress {
    /// What is bound; the port is never 0.
    pub bound: SocketAddr,
    /// What others dial.
    pub advertised: HostPort,
}

/// A running broker. Dropped without [`Broker::stop`], it closes its listeners at once and its groups
/// soon after.
#[derive(Debug)]
pub struct Broker {
    core: Arc<Core>,
    addresses: BTreeMap<&'static str, ListenerAddress>,
    life: Mutex<Option<JoinHandle<Result<(), RunError>>>>,
    listeners: JoinSet<()>,
    health: HealthReporter,
    ended: watch::Receiver<Option<Arc<str>>>,
    _lock: Option<DataLock>,
}

impl Broker {
    /// Starts a broker: takes its data directory and its ports, and begins to look for its cluster.
    /// It may wait for that however long; [`Broker::wait`] tells when it gave up. One that has no id
    /// waits before this returns, and serves nothing meanwhile.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(mut config: Config, env: Environment) -> Result<Self, StartError> {
        config.check()?;
        let (lock, mut identity) = open_data_dir(&config, &env).await?;
        let mut bound = BTreeMap::new();
        for name in [ListenerName::Client, ListenerName::Internal, ListenerName::Http] {
            bound.insert(name.as_str(), bind(&config, &env, name).await?);
        }
        let addresses: BTreeMap<_, _> =
            bound.iter().map(|(name, (_, address))| (*name, address.clone())).collect();
        if config.broker_id.is_none() {
            let known = match identity {
                Some(identity) => identity,
                // Last, so that what is wrong here costs no id.
                None => be_given_an_id(&config, &env).await?,
            };
            config.broker_id = Some(known.node().broker.0);
            identity = Some(known);
        }
        info!(broker = config.broker().0, data = %config.data_dir.display(), "starting");
        info!(?config, "effective configuration");

        let introducer = Arc::new(Introducer::new(&config, env.software.levels, identity.as_ref()));
        let raft = SwitchingRaft::new(RaftServer::unformed(Arc::clone(&introducer) as _));
        let core = Core::new(config, env);
        let health = HealthReporter::new();
        let mut listeners = JoinSet::new();
        let mut listener = |name: ListenerName| -> Box<dyn Listener> {
            bound.remove(name.as_str()).expect("all three were bound").0
        };
        let router = server::client_router(&core, &health);
        let stop = stopped(&core);
        let client = listener(ListenerName::Client);
        listeners.spawn(server::serve(
            Arc::clone(&core),
            ListenerName::Client,
            router,
            client,
            stop,
        ));
        let router = server::internal_router(&core, raft.clone());
        let stop = stopped(&core);
        let internal = listener(ListenerName::Internal);
        listeners.spawn(server::serve(
            Arc::clone(&core),
            ListenerName::Internal,
            router,
            internal,
            stop,
        ));
        listeners.spawn(http::serve(Arc::clone(&core), listener(ListenerName::Http)));
        listeners.spawn(follow_health(Arc::clone(&core), health.clone()));

        let (tell, ended) = watch::channel(None);
        let advertised = addresses.clone();
        let life = live(Arc::clone(&core), identity, introducer, raft, advertised);
        let life = tokio::spawn(async move {
            let end = life.await;
            let reason = end.as_ref().err().map(|err| with_sources(err));
            tell.send_replace(Some(reason.unwrap_or_default().into()));
            end
        });
        Ok(Self {
            core,
            addresses,
            life: Mutex::new(Some(life)),
            listeners,
            health,
            ended,
            _lock: lock,
        })
    }

    /// Where the broker listens, by the name of the listener.
    #[must_use]
    pub const fn addresses(&self) -> &BTreeMap<&'static str, ListenerAddress> {
        &self.addresses
    }

    /// The configuration that it runs with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.core.config
    }

    /// Why the broker cannot do its work yet; `None` when it can.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        self.core.not_ready()
    }

    /// Waits until the broker comes to an end by itself. One that runs well never does.
    /// Cancel safe.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn wait(&self) -> Result<(), RunError> {
        // An error says that the task is gone, which its handle explains.
        let _ = self.ended.clone().wait_for(Option::is_some).await;
        let life = self.life.lock().unwrap_or_else(PoisonError::into_inner).take();
        match life {
            // Asked before: the reason was given then.
            None => Ok(()),
            Some(life) => match life.await {
                Ok(end) => end,
                Err(err) if err.is_cancelled() => Ok(()),
                Err(err) => Err(RunError::Panicked(err.to_string())),
            },
        }
    }

    /// Stops: hands leadership over, lets what is in flight end, closes the listeners; whatever is
    /// not done by then is dropped.
    pub async fn stop(mut self, within: Duration) {
        let deadline = Instant::now() + within;
        info!(broker = self.core.config.broker().0, "stopping");
        self.health.set_service_status("", ServingStatus::NotServing).await;
        if let Some(cluster) = self.core.running() {
            // While the streams still run: they learn of the next leader by their own answers.
            cluster.node.shutdown(within - within / STREAMS_SHARE).await;
        }
        self.core.stopping.send_replace(true);
        if let Some(life) = self.life.lock().unwrap_or_else(PoisonError::into_inner).take() {
            life.abort();
        }
        let closed = async {
            // Two of them end by themselves, the others are aborted with the set.
            let mut left = 2;
            while left > 0 && self.listeners.join_next().await.is_some() {
                left -= 1;
            }
        };
        if timeout_at(deadline, closed).await.is_err() {
            warn!("stopped before every stream had ended");
        }
        self.listeners.abort_all();
        info!(broker = self.core.config.broker().0, "stopped");
    }
}

impl Broker {
    /// Ends without a word to the others, as a crash would: for tests.
    #[doc(hidden)]
    pub async fn abandon(mut self) {
        self.core.stopping.send_replace(true);
        if let Some(life) = self.life.lock().unwrap_or_else(PoisonError::into_inner).take() {
            life.abort();
        }
        self.listeners.abort_all();
        while self.listeners.join_next().await.is_some() {}
        if let Some(cluster) = self.core.running() {
            cluster.node.abandon().await;
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.core.stopping.send_replace(true);
        if let Some(life) = self.life.lock().unwrap_or_else(PoisonError::into_inner).take() {
            life.abort();
        }
        // After a stop there is nothing left of the node to shut down.
        let runtime = tokio::runtime::Handle::try_current();
        if let (Some(cluster), Ok(runtime)) = (self.core.running(), runtime) {
            runtime.spawn(async move { cluster.node.shutdown(DROPPED_WITHIN).await });
        }
    }
}

async fn open_data_dir(
    config: &Config,
    env: &Environment,
) -> Result<(Option<DataLock>, Option<Identity>), StartError> {
    let (disk, lock) = (Arc::clone(&env.node.disk), env.lock_data_dir);
    let (data, broker) = (config.data_dir.clone(), config.broker_id.map(BrokerId));
    let unusable = |source| StartError::DataDir { path: config.data_dir.clone(), source };
    let path = data.clone();
    let open = move || {
        let unusable = |source| StartError::DataDir { path: path.clone(), source };
        create_dir_all(&*disk, &data).map_err(unusable)?;
        let lock = if lock { Some(DataLock::acquire(&data).map_err(locked)?) } else { None };
        let identity = Identity::read(&*disk, &data, broker)?;
        if identity.is_some() {
            identity::joined(&*disk, &data)?;
        }
        Ok((lock, identity))
    };
    env.blocking(open).await.map_err(unusable)?
}

/// Joins the cluster of the seeds under an id that it gives.
async fn be_given_an_id(config: &Config, env: &Environment) -> Result<Identity, FormationError> {
    let introducer = Introducer::new(config, env.software.levels, None);
    let Settled { identity, .. } = settle(config, env, None, &introducer, |_| {}).await?;
    let (disk, data) = (Arc::clone(&env.node.disk), config.data_dir.clone());
    let path = data.clone();
    let joined = env.blocking(move || identity::joined(&*disk, &data)).await;
    joined.map_err(|source| IdentityError::Io { doing: "clean", path, source })??;
    Ok(identity)
}

fn locked(err: LockError) -> StartError {
    match err {
        LockError::Io { data, source } => StartError::DataDir { path: data, source },
        in_use => StartError::Locked(in_use),
    }
}

async fn bind(
    config: &Config,
    env: &Environment,
    name: ListenerName,
) -> Result<(Box<dyn Listener>, ListenerAddress), StartError> {
    let listener = match name {
        ListenerName::Client => &config.listener.client,
        ListenerName::Internal => &config.listener.internal,
        ListenerName::Http => &config.listener.http,
    };
    let failed = |source| StartError::Bind { name, address: listener.bind.clone(), source };
    let bound = env.network.bind(name, &listener.bind).await.map_err(failed)?;
    let address = bound.address().map_err(failed)?;
    let advertised = listener.advertised.clone().or_else(|| {
        let mine = config.initial_brokers.iter().find(|one| one.id == config.broker());
        mine.filter(|_| name == ListenerName::Internal).map(|one| one.address.clone())
    });
    let advertised = advertised
        .unwrap_or_else(|| HostPort { host: listener.bind.host.clone(), port: address.port() });
    Ok((bound, ListenerAddress { bound: address, advertised }))
}

/// Completes once streams should end.
fn stopped(core: &Core) -> impl Future<Output = ()> + Send + 'static {
    let mut stopping = core.stopping.subscribe();
    async move {
        // An error says that the broker is gone: that is a stop too.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

/// Finds the cluster, opens the node, and runs until something ends it.
async fn live(
    core: Arc<Core>,
    identity: Option<Identity>,
    introducer: Arc<Introducer>,
    raft: SwitchingRaft,
    addresses: BTreeMap<&'static str, ListenerAddress>,
) -> Result<(), RunError> {
    let waiting = |reason: &str| {
        core.phase.send_replace(Phase::Waiting(reason.into()));
    };
    let Settled { identity, initialize } =
        settle(&core.config, &core.env, identity, &introducer, waiting).await?;
    let internal = addresses.get("internal").map(|at| at.advertised.to_string());
    let node = NodeConfig { address: internal, ..node_config(&core.config, &identity) };
    let cluster = open_cluster(&core, &identity, &introducer, &raft, node, initialize).await?;
    core.phase.send_replace(Phase::Running(Arc::clone(&cluster)));

    let name = |name: &str| match name {
        "client" => ListenerName::Client,
        "internal" => ListenerName::Internal,
        _ => ListenerName::Http,
    };
    let advertised =
        addresses.into_iter().map(|(listener, at)| (name(listener), at.advertised)).collect();
    let mut tasks = JoinSet::new();
    let software = core.env.software.clone();
    let advertised = Advertised { listeners: advertised, software };
    if !core.config.seeds.is_empty() {
        let (config, env) = (core.config.clone(), core.env.clone());
        let announced = join::announce(Arc::clone(&cluster), config, env, advertised.clone());
        tasks.spawn(announced);
    }
    let (config, env) = (core.config.clone(), core.env.clone());
    tasks.spawn(introducer::catch_up(Arc::clone(&cluster), config, env, Arc::clone(&introducer)));
    tasks.spawn(cast_out(cluster.node.cast_out()));
    tasks.spawn(endless(reconcile::follow(Arc::clone(&cluster), core.config.clone())));
    tasks.spawn(endless(repair::take_out(Arc::clone(&cluster))));
    tasks.spawn(endless(leaders::report(Arc::clone(&cluster))));
    tasks.spawn(endless(leaders::balance(Arc::clone(&core), Arc::clone(&cluster))));
    tasks.spawn(endless(leaders::relieve(Arc::clone(&core), Arc::clone(&cluster))));
    tasks.spawn(endless(mover::follow(Arc::clone(&cluster))));
    tasks.spawn(endless(voters::follow(Arc::clone(&cluster))));
    tasks.spawn(endless(drainer::follow(Arc::clone(&cluster), core.config.clone())));
    tasks.spawn(endless(groups::keep(Arc::clone(&core), Arc::clone(&cluster))));
    let (config, env) = (core.config.clone(), core.env.clone());
    tasks.spawn(registry::follow(cluster, config, env, identity, advertised, introducer));
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return Err(RunError::Refused(reason)),
            Err(err) => {
                error!(%err, "a task panicked");
                return Err(RunError::Panicked(err.to_string()));
            }
        }
    }
    Ok(())
}

/// Ends when another broker says that this one was declared lost.
async fn cast_out(mut told: watch::Receiver<Option<String>>) -> Result<(), String> {
    match told.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(reason)) => Err(format!(
            "{reason}. If that was no mistake, empty its data directory once its id was removed, and give \
             seeds to join again; until then keep it"
        )),
        // The node is gone.
        _ => Ok(()),
    }
}

async fn endless(task: impl Future<Output = ()>) -> Result<(), String> {
    task.await;
    Ok(())
}

async fn open_cluster(
    core: &Arc<Core>,
    identity: &Identity,
    introducer: &Arc<Introducer>,
    raft: &SwitchingRaft,
    node: NodeConfig,
    initialize: Option<BTreeSet<NodeId>>,
) -> Result<Arc<Cluster>, RunError> {
    let failed = |err: &dyn std::error::Error| RunError::Node(with_sources(err));
    let (config, env) = (&core.config, &core.env);
    let node = Node::open(node, env.node.clone());
    let node = node.await.map_err(|err| failed(&err))?;
    let first = if config.seeds.is_empty() {
        let initial = config.initial_brokers.iter().map(|one| one.address.to_string());
        formation::initial_nodes(config).into_iter().zip(initial).collect()
    } else {
        join::known(config, env, introducer).await
    };
    let initial_nodes: Vec<NodeId> = first.keys().copied().collect();
    node.set_addresses(first);
    raft.switch(node.service(Arc::clone(introducer) as _));
    let metadata = open_metadata(&node, &initial_nodes, initialize).await;
    let metadata = metadata.map_err(|err| failed(&err))?;
    registry::refuse_newer(&metadata.view().borrow(), introducer.levels(), config.broker())
        .map_err(RunError::Refused)?;
    introducer.follow(metadata.view());
    let dir = config.data_dir.join(VIEW_DIR);
    let view = View::open(env.clone(), dir, metadata.view()).await.map_err(|err| failed(&err))?;
    let others = Others::new(Arc::clone(&env.node.connector));
    let software = env.software.clone();
    Ok(Cluster::new(config, software, identity, node, metadata, view, others))
}

/// Pause before another try to fill the metadata up.
const REFILL_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Opens the metadata group. Where its log is damaged it is filled up first: without metadata there is
/// nothing that this broker could do meanwhile.
async fn open_metadata(
    node: &Node,
    voters: &[NodeId],
    initialize: Option<BTreeSet<NodeId>>,
) -> Result<Metadata, tidelog_raft::Error> {
    loop {
        match node.open_metadata(initialize.clone()).await {
            Err(err @ tidelog_raft::Error::Quarantined { is_repairable: true, .. }) => {
                error!(err = with_sources(&err), "the metadata steps out");
            }
            Err(tidelog_raft::Error::Io(err)) if err.kind() == io::ErrorKind::StorageFull => {
                warn!(%err, "the metadata wait for room on the disk");
                sleep(REFILL_AGAIN_AFTER).await;
                continue;
            }
            opened => return opened,
        }
        while let Err(err) = node.refill(GroupId::METADATA, voters).await {
            warn!(err = with_sources(&err), "the metadata stays out");
            sleep(REFILL_AGAIN_AFTER).await;
        }
    }
}

fn node_config(config: &Config, identity: &Identity) -> NodeConfig {
    let raft = &config.raft;
    NodeConfig {
        tail_cache_bytes: config.storage.tail_cache.bytes(),
        clean_every: config.storage.clean_every.0,
        scrubbing: Scrubbing {
            every: config.storage.scrub_every.0,
            rate_max: config.storage.scrub_rate_max.0,
        },
        compacting: Compacting {
            rate_max: config.storage.compact_rate_max.0,
            keys_bytes_max: config.storage.compact_keys.bytes(),
        },
        learn_rate_max: config.replicas.move_rate_max.0,
        free_min: config.storage.free_min.0,
        heartbeat: raft.heartbeat.0,
        election_min: raft.election_min.0,
        election_max: raft.election_max.0,
        probe: raft.probe.0,
        probe_missed: raft.probe_missed.0,
        sleep_after: Some(raft.sleep_after.0).filter(|after| !after.is_zero()),
        ..NodeConfig::new(identity.node(), identity.cluster_id.clone(), config.data_dir.clone())
    }
}

/// Keeps gRPC's health service up to date.
async fn follow_health(core: Arc<Core>, health: HealthReporter) {
    let services = [
        "",
        "tidelog.v1.LogService",
        "tidelog.v1.MetadataService",
        "tidelog.v1.GroupService",
        "tidelog.v1.AdminService",
    ];
    let mut stopping = core.stopping.subscribe();
    loop {
        let ready = core.not_ready().is_none();
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in services {
            health.set_service_status(service, status).await;
        }
        // Completes early when the broker stops; otherwise it is time to look again.
        let _ = timeout(HEALTH_EVERY, stopping.changed()).await;
    }
}
