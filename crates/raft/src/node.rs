//! One broker's Raft node: its groups, its peers, and the tasks that serve them all.

mod beats;
mod compact;
mod founding;
mod opening;
mod recover;
mod repair;
mod scrub;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use openraft::Raft;
use tidelog_log as log;
use tidelog_log::{CacheBudget, Log, VotesLog};
use tidelog_proto::v1;
use tidelog_proto::v1::raft_request::Body as Ask;
use tidelog_proto::v1::raft_response::Body as Answer;
use tidelog_state::group;
use tidelog_types::{GroupId, LogIndex, NodeId, Term, Timestamp, canary};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Status;
use tracing::{error, info, warn};

use crate::config::{Timings, TypeConfig, engine};
use crate::coordinator::Coordinator;
use crate::environment::{Environment, NodeConfig};
use crate::executor::{self, Executor};
use crate::fence::Fence;
use crate::link::network::Network;
use crate::link::peer::{PeerStatus, Probing};
use crate::link::server::{Groups, Introduce, Port, RaftServer};
use crate::metadata::Metadata;
use crate::pace::Pace;
use crate::partition::{Partition, PartitionConfig, QUEUE_REQUESTS_MAX};
use crate::peers::Peers;
use crate::quiescence::Answered;
use crate::replica::{Campaigner, Member, Replica};
use crate::sequencing::Sequencing;
use crate::space::{self, DiskSpace};
use crate::store::applier::{Applier, Machine};
use crate::store::log_store::LogStore;
use crate::store::machines::{CoordinatorMachine, MetadataMachine, PartitionMachine, Progress};

use opening::Opening;

pub use compact::{COMPACT_INFLATE_BYTES_MAX, Compacting};
pub use founding::Founding;
pub use recover::{RecoverError, Standing, Turn};
pub use repair::{Refilled, RepairError};
pub(crate) use scrub::Suspect;
pub use scrub::{ScrubReport, Scrubbing, SteppedOut};

/// Segment size of groups whose log holds commands: small, because each new segment is also a snapshot.
const COMMANDS_SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// How long another node may take to agree to a campaign.
const CAMPAIGN_PATIENCE: Duration = Duration::from_millis(500);

/// Why a node or a group does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The vote journal or a log cannot be opened.
    #[error("open the log of {what}")]
    Log {
        /// The group, or the votes.
        what: String,
        /// What is wrong.
        source: log::OpenError,
    },
    /// The replica's disk is damaged or half missing; it must not vote.
    #[error("replica {group} is quarantined: {reason}")]
    Quarantined {
        /// The group.
        group: GroupId,
        /// What is wrong.
        reason: String,
        /// Whether [`Node::refill`] may bring it back: it knows what it has voted, and lacks only
        /// entries.
        is_repairable: bool,
    },
    /// The engine refused.
    #[error("start the group {group}: {reason}")]
    Engine {
        /// The group.
        group: GroupId,
        /// What is wrong.
        reason: String,
    },
    /// The disk or a thread failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Counters of a node.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Calls of fdatasync that returned.
    pub fdatasync_calls: u64,
    /// Bytes that they made durable.
    pub synced_bytes: u64,
    /// Groups that are open.
    pub groups: usize,
    /// Those of them in which nothing happens, not even heartbeats.
    pub groups_asleep: usize,
    /// Bytes that were read again to find damage.
    pub scrubbed_bytes: u64,
    /// Damaged places that were found.
    pub damage_found: u64,
    /// Damaged places, and whole replicas, that were made whole again.
    pub damage_repaired: u64,
    /// Bytes by which compaction has made logs smaller.
    pub compacted_bytes: u64,
    /// Records that compaction has taken out.
    pub compacted_records: u64,
}

/// A broker's Raft node. Clones share it.
#[derive(Clone, Debug)]
pub struct Node {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: NodeConfig,
    env: Environment,
    run: u64,
    votes: Arc<VotesLog>,
    /// Who is lost for good.
    fence: Arc<Fence>,
    recovery: recover::Recovery,
    cache: Arc<CacheBudget>,
    peers: Arc<Peers>,
    /// Who answered beats, and when.
    answered: Arc<Answered>,
    groups: RwLock<BTreeMap<GroupId, Hosted>>,
    scrubber: scrub::Scrubber,
    compacted: compact::Counters,
    /// Groups that are being filled up: two at work in one directory would ruin it.
    refilling: Mutex<BTreeSet<GroupId>>,
    /// Groups that are being opened or deleted.
    opening: Opening,
    stopped: watch::Sender<bool>,
    /// How much room there is on the disk.
    space: watch::Sender<DiskSpace>,
    tasks: Mutex<JoinSet<()>>,
}

/// A group that is open here.
#[derive(Clone, Debug)]
struct Hosted {
    port: Arc<dyn Port>,
    member: Arc<dyn Member>,
    kind: Kind,
}

/// What a group is for, with the handle that is given out for it.
#[derive(Clone, Debug)]
enum Kind {
    Metadata,
    Partition(Partition),
    Coordinator(Coordinator),
}

impl Node {
    /// Opens the vote journal and starts the node's tasks. Groups are opened one by one.
    ///
    /// # Errors
    /// The journal is damaged or belongs to another node.
    pub async fn open(config: NodeConfig, env: Environment) -> Result<Self, Error> {
        let probing = Probing { every: config.probe, missed: config.probe_missed };
        let connector = Arc::clone(&env.connector);
        let (disk, executor) = (Arc::clone(&env.disk), Arc::clone(&env.executor));
        let fence = Arc::new(Fence::open(disk, config.data_dir.clone(), executor).await?);
        let (peers, died) = Peers::new(
            config.node,
            config.cluster_id.clone(),
            config.address.clone().unwrap_or_default(),
            connector,
            probing,
            Pace::new(config.learn_rate_max),
            Arc::clone(&fence),
        );
        let (disk, flusher) = (Arc::clone(&env.disk), Arc::clone(&env.flusher));
        let (path, node) = (config.data_dir.join("votes.log"), config.node);
        let votes =
            executor::run(&*env.executor, move || VotesLog::open(disk, path, flusher, node));
        let votes =
            votes.await?.map_err(|source| Error::Log { what: "the votes".to_owned(), source })?;
        let (scrubber, suspects) = scrub::Scrubber::new();
        let shared = Arc::new(Shared {
            scrubber,
            compacted: compact::Counters::default(),
            refilling: Mutex::default(),
            run: (env.entropy)(),
            cache: Arc::new(CacheBudget::new(config.tail_cache_bytes as u64)),
            config,
            env,
            votes,
            fence,
            recovery: recover::Recovery::default(),
            peers,
            answered: Arc::default(),
            groups: RwLock::new(BTreeMap::new()),
            opening: Opening::default(),
            stopped: watch::Sender::new(false),
            space: watch::Sender::new(DiskSpace::default()),
            tasks: Mutex::new(JoinSet::new()),
        });
        {
            let mut tasks = shared.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.spawn(upkeep::follow_deaths(Arc::clone(&shared), died));
            tasks.spawn(upkeep::follow_returns(Arc::clone(&shared)));
            tasks.spawn(upkeep::clean(Arc::clone(&shared)));
            tasks.spawn(beats::beat(Arc::clone(&shared)));
            tasks.spawn(compact::compact(Arc::clone(&shared)));
            tasks.spawn(upkeep::save_votes(Arc::clone(&shared)));
            tasks.spawn(upkeep::hand_over_when_full(Arc::clone(&shared)));
            tasks.spawn(scrub::scrub(Arc::clone(&shared), suspects));
            tasks.spawn(space::follow(shared.watched_disk(), shared.space.clone()));
        }
        Ok(Self { shared })
    }

    /// This node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.shared.config.node
    }

    /// What this node's clock shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.env.clock.now()
    }

    /// The gRPC service for the internal listener.
    #[must_use]
    pub fn service(&self, introduce: Arc<dyn Introduce>) -> RaftServer {
        let shared = &self.shared;
        let groups: Arc<dyn Groups> = Arc::clone(shared) as _;
        RaftServer::new(
            shared.config.node,
            shared.config.cluster_id.clone(),
            groups,
            introduce,
            shared.run,
            shared.stopped.subscribe(),
        )
    }

    /// Tells where the brokers' internal listeners are.
    pub fn set_addresses(&self, addresses: BTreeMap<NodeId, String>) {
        self.shared.peers.set_addresses(addresses);
    }

    /// Nodes that answer probes, this one included.
    #[must_use]
    pub fn live(&self) -> BTreeSet<NodeId> {
        self.shared.peers.live()
    }

    /// Completes when some node's liveness may have changed since the last call on this receiver.
    #[must_use]
    pub fn liveness_changes(&self) -> watch::Receiver<BTreeMap<NodeId, PeerStatus>> {
        self.shared.peers.liveness()
    }

    /// How much room there is on this node's disk.
    #[must_use]
    pub fn space(&self) -> DiskSpace {
        *self.shared.space.borrow()
    }

    /// Nodes whose disk is nearly full, as far as they have told; this one may be among them.
    #[must_use]
    pub fn low_on_space(&self) -> BTreeSet<NodeId> {
        let me = (self.space() > DiskSpace::Enough).then_some(self.id());
        self.shared.peers.low_on_space().into_iter().chain(me).collect()
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let flushed = self.shared.votes.stats();
        let scrubbed = &self.shared.scrubber.counters;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let groups = self.shared.groups();
        Stats {
            scrubbed_bytes: of(&scrubbed.bytes),
            damage_found: of(&scrubbed.found),
            damage_repaired: of(&scrubbed.repaired),
            compacted_bytes: of(&self.shared.compacted.bytes),
            compacted_records: of(&self.shared.compacted.records),
            fdatasync_calls: flushed.syncs(),
            synced_bytes: flushed.synced_bytes(),
            groups: groups.len(),
            groups_asleep: groups.values().filter(|hosted| hosted.member.sleeps()).count(),
        }
    }

    /// Opens the metadata group, creating it on an empty disk. `founders`, which exactly one node of
    /// a new cluster is given, are its first members.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn open_metadata(
        &self,
        founders: Option<BTreeSet<NodeId>>,
    ) -> Result<Metadata, Error> {
        let group = GroupId::METADATA;
        let _opening = self.shared.opening.lock(group).await;
        let (machine, published) = watch::channel(Arc::default());
        let (progress, applied) = watch::channel(Progress::default());
        let machine = MetadataMachine::new(machine, progress);
        let config = self.log_config(COMMANDS_SEGMENT_BYTES);
        let founding = if founders.is_some() { Founding::Leads } else { Founding::Over };
        let founders = founders.unwrap_or_default();
        let replica =
            self.open_group(group, config, machine, applied.clone(), founding, founders).await?;
        let metadata = Metadata {
            replica,
            machine: published,
            progress: applied,
            clock: Arc::clone(&self.shared.env.clock),
            campaigner: Arc::clone(&self.shared) as _,
        };
        self.host(&metadata.replica, Kind::Metadata, founding);
        Ok(metadata)
    }

    /// Opens a partition's replica, creating it when this node never had it. Opening it twice gives
    /// the same.
    ///
    /// # Errors
    /// See [`Error`]; a quarantined replica stays out of its group.
    pub async fn open_partition(
        &self,
        group: GroupId,
        voters: &[NodeId],
        config: PartitionConfig,
        founding: Founding,
    ) -> Result<Partition, Error> {
        let _opening = self.shared.opening.lock(group).await;
        if let Some(open) = self.partition(group) {
            open.set_config(config);
            return Ok(open);
        }
        let (progress, applied) = watch::channel(Progress::default());
        let machine = PartitionMachine::new(progress);
        let log_config = self.log_config(config.segment_bytes);
        let voters = voters.iter().copied().collect();
        let replica =
            self.open_group(group, log_config, machine, applied.clone(), founding, voters).await?;

        let (requests, queue) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let clock = Arc::clone(&self.shared.env.clock);
        let sequencing = tokio::spawn(Sequencing::new(replica.clone(), clock, queue).run());
        let engine = replica.raft.clone();
        tokio::spawn(async move {
            // A partition without its sequencer must not look alive: the engine goes with it.
            if let Err(err) = sequencing.await
                && err.is_panic()
            {
                error!(%group, "sequencer broke an invariant, the replica stops");
                drop(engine.shutdown().await);
            }
        });
        let partition = Partition {
            view: upkeep::follow_view(&replica.log, applied.clone()),
            progress: applied,
            replica,
            requests,
            executor: Arc::clone(&self.shared.env.executor),
            config: Arc::new(Mutex::new(config)),
            cleaned_at: Arc::default(),
            campaigner: Arc::clone(&self.shared) as _,
            suspects: self.shared.scrubber.suspects(),
            space: self.shared.space.subscribe(),
        };
        self.host(&partition.replica, Kind::Partition(partition.clone()), founding);
        Ok(partition)
    }

    /// The partition's replica, if it is open here.
    #[must_use]
    pub fn partition(&self, group: GroupId) -> Option<Partition> {
        match &self.shared.groups().get(&group)?.kind {
            Kind::Partition(partition) => Some(partition.clone()),
            Kind::Metadata | Kind::Coordinator(_) => None,
        }
    }

    /// Opens a coordinator's replica, as [`Node::open_partition`] opens a partition's.
    ///
    /// # Errors
    /// See [`Error`]; a quarantined replica stays out of its group.
    pub async fn open_coordinator(
        &self,
        group: GroupId,
        voters: &[NodeId],
        founding: Founding,
    ) -> Result<Coordinator, Error> {
        let _opening = self.shared.opening.lock(group).await;
        if let Some(Kind::Coordinator(open)) =
            self.shared.groups().get(&group).map(|hosted| &hosted.kind)
        {
            return Ok(open.clone());
        }
        let machine = Arc::new(RwLock::new(group::Machine::new()));
        let (tell, changes) = watch::channel(0);
        let (progress, applied) = watch::channel(Progress::default());
        let driven = CoordinatorMachine::new(Arc::clone(&machine), tell, progress);
        let config = self.log_config(COMMANDS_SEGMENT_BYTES);
        let voters = voters.iter().copied().collect();
        let replica = self.open_group(group, config, driven, applied, founding, voters).await?;
        let coordinator = Coordinator {
            replica,
            machine,
            changes,
            clock: Arc::clone(&self.shared.env.clock),
            campaigner: Arc::clone(&self.shared) as _,
        };
        self.host(&coordinator.replica, Kind::Coordinator(coordinator.clone()), founding);
        Ok(coordinator)
    }

    /// Whether this node holds the group's replica, open or not.
    #[must_use]
    pub fn holds(&self, group: GroupId) -> bool {
        self.shared.votes.get(group).is_some_and(|record| !record.deleted)
    }

    /// Stops a replica and deletes its files: only for a topic whose deletion is committed, with
    /// `released` 0, or when the group has done without this node, by the membership at `released`. What
    /// it has voted stays known. Giving up what is not there is no error.
    ///
    /// If the replica is made anew, this node takes part in no election before it holds everything up to
    /// `released` again: others may not have heard of that membership yet, and count it as a voter still.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn give_up(&self, group: GroupId, released: LogIndex) -> Result<(), Error> {
        let _opening = self.shared.opening.lock(group).await;
        if self.shared.votes.waits_for_room() {
            // Its record could not be written now, and everybody would wait for that.
            return Err(io::Error::from(io::ErrorKind::StorageFull).into());
        }
        self.close_group(group).await;
        let env = self.log_env();
        if env.votes.get(group).is_none() {
            // A node that was to have a replica and never came to it has nothing to delete; a directory
            // without a record is another matter, and refused below.
            let (disk, data) = (Arc::clone(&env.disk), env.data.clone());
            let dir = data.join(group.to_string());
            if !executor::run(&*self.shared.env.executor, move || disk.exists(&dir)).await?? {
                return Ok(());
            }
        }
        // The record goes first: without it nothing takes the directory for a replica.
        let (done, deleted) = oneshot::channel();
        let done = Box::new(move |result| drop(done.send(result)));
        self.shared.votes.give_up(group, released, done);
        let deleted = deleted.await.map_err(|_| io::Error::other("flusher stopped"))?;
        deleted.map_err(|err| io::Error::new(err.kind(), err))?;
        let delete = executor::run(&*self.shared.env.executor, move || Log::delete(&env, group));
        delete.await?.map_err(|source| Error::Log { what: group.to_string(), source })
    }

    /// Takes a damaged replica out of its group: hands leadership over, if it has it, and stops it. Its
    /// files stay, marked as damaged: see [`Node::refill`]. `false` when the group is not open here: it
    /// is out already, and may be on its way back.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn step_out(&self, group: GroupId) -> Result<bool, Error> {
        let _opening = self.shared.opening.lock(group).await;
        let member = self.shared.groups().get(&group).map(|hosted| Arc::clone(&hosted.member));
        let Some(member) = member else { return Ok(false) };
        let live = self.live();
        drop(timeout(CAMPAIGN_PATIENCE, member.hand_over(&live, &*self.shared)).await);
        self.close_group(group).await;
        // What was found may look torn to the one who opens it next, and must not be cut as such.
        let env = self.log_env();
        let mark = move || Log::mark_damaged(&env, group);
        let marked = executor::run(&*self.shared.env.executor, mark).await?;
        marked.map_err(|source| Error::Log { what: group.to_string(), source })?;
        Ok(true)
    }

    async fn close_group(&self, group: GroupId) {
        let hosted = {
            let mut groups = self.shared.groups.write().unwrap_or_else(PoisonError::into_inner);
            groups.remove(&group)
        };
        let Some(hosted) = hosted else { return };
        hosted.member.stop().await;
        // A compaction or a repair may be at work on the files, which somebody may open anew.
        let log = hosted.port.log();
        if let Err(err) = executor::run(&*self.shared.env.executor, move || log.retire()).await {
            warn!(%group, %err, "log was not closed in order");
        }
    }

    /// The replicas that must step out, as they are found; for the first caller only.
    #[must_use]
    pub fn stepping_out(&self) -> Option<mpsc::Receiver<SteppedOut>> {
        self.shared.scrubber.outs()
    }

    /// Reads a whole log again at once, `rate` bytes a second, and has damage mended; `None` when the
    /// group is not open here.
    pub async fn scrub(&self, group: GroupId, rate: u64) -> Option<ScrubReport> {
        self.shared.scrub_group(group, rate).await
    }

    /// Hands every leadership over and stops the groups, within `within`; then drops the rest.
    pub async fn shutdown(&self, within: Duration) {
        let members: Vec<_> =
            self.shared.groups().values().map(|hosted| Arc::clone(&hosted.member)).collect();
        let live = self.live();
        let orderly = async {
            join_all(members.iter().map(|member| member.hand_over(&live, &*self.shared))).await;
            join_all(members.iter().map(|member| member.stop())).await;
        };
        if timeout(within, orderly).await.is_err() {
            warn!("stopped before every leadership was handed over");
        }
        // Commits and durable marks that were noted lazily.
        self.shared.votes.tick();
        self.let_go();
    }

    fn let_go(&self) {
        self.shared.stopped.send_replace(true);
        self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        self.shared.peers.close();
        self.shared.groups.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Stops without a word to the others, as a crash would: for tests.
    #[doc(hidden)]
    pub async fn abandon(&self) {
        let members = self.shared.members();
        self.let_go();
        join_all(members.iter().map(|member| member.stop())).await;
    }

    /// Does at once what is otherwise done every few seconds: for tests.
    #[doc(hidden)]
    pub async fn clean_now(&self) {
        upkeep::clean_once(&self.shared).await;
    }

    /// Lets the other nodes reach a replica, and has it stand for the group's first election.
    fn host<M: Machine>(&self, replica: &Replica<M>, kind: Kind, founding: Founding) {
        let hosted =
            Hosted { port: Arc::new(replica.clone()), member: Arc::new(replica.clone()), kind };
        let mut groups = self.shared.groups.write().unwrap_or_else(PoisonError::into_inner);
        groups.insert(replica.group, hosted);
        drop(groups);
        if founding == Founding::Leads {
            tokio::spawn(founding::stand_first(replica.clone()));
        }
    }

    fn log_config(&self, segment_bytes: u64) -> log::Config {
        log::Config { segment_bytes, ..log::Config::new(Arc::clone(&self.shared.cache)) }
    }

    fn log_env(&self) -> log::Env {
        log::Env {
            disk: Arc::clone(&self.shared.env.disk),
            data: self.shared.config.data_dir.clone(),
            votes: Arc::clone(&self.shared.votes),
            flusher: Arc::clone(&self.shared.env.flusher),
            generations: Arc::clone(&self.shared.env.entropy),
        }
    }

    async fn open_group<M: Machine>(
        &self,
        group: GroupId,
        config: log::Config,
        machine: M,
        progress: watch::Receiver<Progress>,
        founding: Founding,
        voters: BTreeSet<NodeId>,
    ) -> Result<Replica<M>, Error> {
        let shared = &self.shared;
        // Who had a replica once and gave it up is no founder, whatever old news says.
        let was_here = shared.votes.get(group).is_some_and(|record| {
            record.deleted || record.owed > LogIndex::ZERO || record.vote.is_some()
        });
        let log = self.open_log(group, config).await?;
        if founding != Founding::Over && !was_here {
            founding::write_first_membership(&log, voters).await?;
        }
        let executor = Arc::clone(&shared.env.executor);
        let (close, closing) = watch::channel(false);
        let store = LogStore::new(
            group,
            Arc::clone(&log),
            Arc::clone(&shared.votes),
            Arc::clone(&executor),
            shared.scrubber.suspects(),
            closing,
        );
        let applier = Applier::open(Arc::clone(&log), executor, machine)?;
        let timings = Timings {
            heartbeat: shared.config.heartbeat,
            election_min: shared.config.election_min,
            election_max: shared.config.election_max,
        };
        let network = Network { group, peers: Arc::clone(&shared.peers) };
        let me = shared.config.node;
        let owed = shared.votes.get(group).map_or(LogIndex::ZERO, |record| record.owed);
        let settings = engine(
            group.to_string(),
            &timings,
            log.has_reached(owed) || canary!(ForgottenLogVotes),
        );
        let damage = store.damage();
        let raft: Raft<TypeConfig, Applier<M>> =
            Raft::new(me, settings, network, store, applier).await.map_err(|err| {
                // The engine looks at entries which recovery has not read, for it needs none of them.
                match damage.get().cloned() {
                    Some(reason) => Error::Quarantined { group, reason, is_repairable: true },
                    None => Error::Engine { group, reason: err.to_string() },
                }
            })?;
        let answered = Arc::clone(&shared.answered);
        Ok(Replica::new(group, raft, log, owed, progress, answered, close))
    }

    /// Opens the group's log, or creates it when this node has no trace of it. Anything between
    /// is a lost replica: it may have voted and forgotten.
    async fn open_log(&self, group: GroupId, config: log::Config) -> Result<Arc<Log>, Error> {
        let known = self.holds(group);
        let env = self.log_env();
        let open = executor::run(&*self.shared.env.executor, move || {
            if known {
                Log::open(env, group, config).map(|opened| {
                    if opened.torn_bytes > 0 {
                        info!(%group, bytes = opened.torn_bytes, "cut a torn tail");
                    }
                    opened.log
                })
            } else {
                Log::create(env, group, config, None)
            }
        });
        let quarantined = |err: &log::OpenError, is_repairable| {
            Err(Error::Quarantined { group, reason: err.to_string(), is_repairable })
        };
        match open.await? {
            Ok(log) => Ok(log),
            Err(err @ (log::OpenError::Corrupt { .. } | log::OpenError::Unfinished { .. })) => {
                quarantined(&err, true)
            }
            Err(err @ (log::OpenError::Missing { .. } | log::OpenError::Exists { .. })) => {
                quarantined(&err, false)
            }
            // To be tried again.
            Err(full @ log::OpenError::Full { .. }) => {
                Err(io::Error::new(io::ErrorKind::StorageFull, full).into())
            }
            Err(source) => Err(Error::Log { what: group.to_string(), source }),
        }
    }
}

impl Shared {
    fn watched_disk(&self) -> space::Watched {
        space::Watched {
            disk: Arc::clone(&self.env.disk),
            executor: Arc::clone(&self.env.executor),
            dir: self.config.data_dir.clone(),
            free_min: self.config.free_min,
            votes: Arc::clone(&self.votes),
            flusher: Arc::clone(&self.env.flusher),
        }
    }

    fn groups(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<GroupId, Hosted>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn members(&self) -> Vec<Arc<dyn Member>> {
        self.groups().values().map(|hosted| Arc::clone(&hosted.member)).collect()
    }
}

impl Groups for Shared {
    fn port(&self, group: GroupId) -> Option<Arc<dyn Port>> {
        self.groups().get(&group).map(|hosted| Arc::clone(&hosted.port))
    }

    fn executor(&self) -> Arc<dyn Executor> {
        Arc::clone(&self.env.executor)
    }

    fn is_shut_out(&self, node: NodeId) -> bool {
        self.fence.is_out(node)
    }

    fn survey(
        &self,
        asked: v1::SurveyRequest,
    ) -> BoxFuture<'_, Result<v1::SurveyResponse, Status>> {
        self.surveyed(asked)
    }

    fn met(&self, node: NodeId, address: &str) {
        self.peers.met(node, address);
    }

    fn is_low_on_space(&self) -> bool {
        *self.space.borrow() > DiskSpace::Enough
    }

    fn takes_records(&self) -> bool {
        *self.space.borrow() < DiskSpace::VeryLow
    }

    fn is_full(&self) -> bool {
        *self.space.borrow() == DiskSpace::Full
    }
}

impl Campaigner for Shared {
    fn campaign(&self, group: GroupId, voter: NodeId) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let Some(connection) = self.peers.get(voter).connection() else { return false };
            let ask = Ask::Campaign(v1::Campaign {});
            let call = connection.control.call(group.to_bytes().to_vec(), ask);
            let answer = timeout(CAMPAIGN_PATIENCE, call).await;
            let body = answer.ok().and_then(Result::ok).and_then(|answer| answer.body);
            matches!(body, Some(Answer::Transfer(reply)) if reply.refusal.is_empty())
        })
    }

    fn is_live(&self, node: NodeId) -> bool {
        self.peers.live().contains(&node)
    }

    fn learn(&self, group: GroupId, term: Term, nodes: BTreeSet<NodeId>) {
        self.peers.pace.learn(group, term, nodes);
    }
}
