//! Three nodes in one process, each with its own listener, data directory and flusher.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tidelog_log::sim::CrashPlan;
use tidelog_proto::v1;
use tidelog_proto::v1::raft_service_server::RaftServiceServer;
use tidelog_raft::{
    Environment, Error, Founding, Introduce, MemberError, MemberStep, Node, NodeConfig, Partition,
    PartitionConfig, PendingAppend, ProposeError, Refilled, SystemClock, Target, ThreadExecutor,
};
use tidelog_types::batch::{Builder, Codec, Info, NewRecord};
use tidelog_types::{GroupId, NodeId, Offset, PartitionId, ProducerEpoch, ProducerId, TopicId};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::world::{Dialer, Valve, Wires, World};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The cluster that all nodes belong to.
pub(crate) const CLUSTER_ID: &str = "test-cluster";

#[derive(Debug)]
struct Nobody;

impl Introduce for Nobody {
    fn introduce(&self, _asker: &v1::IntroduceRequest) -> v1::IntroduceResponse {
        v1::IntroduceResponse::default()
    }
}

/// One running node.
pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) partition: Partition,
    server: JoinHandle<()>,
}

/// A cluster of nodes that share one partition.
pub(crate) struct Cluster {
    pub(crate) dir: TempDir,
    pub(crate) group: GroupId,
    founders: BTreeSet<NodeId>,
    addresses: BTreeMap<NodeId, SocketAddr>,
    pub(crate) running: BTreeMap<NodeId, Running>,
    pub(crate) worlds: BTreeMap<NodeId, World>,
    /// Listeners of nodes that were not started yet.
    reserved: BTreeMap<NodeId, TcpListener>,
    wires: Wires,
    config: PartitionConfig,
    timings: Timings,
    /// Bytes a second for those that learn, where a test sets them.
    learn_rate_max: Option<u64>,
    /// How soon an idle group sleeps, where a test sets that.
    sleep_after: Option<Duration>,
}

/// How soon nodes give up on a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timings {
    /// As in the product.
    Usual,
    /// Not while a test lasts, whatever the leader's followers keep to themselves.
    Patient,
}

impl Cluster {
    /// Starts `nodes` nodes with one partition over all of them.
    pub(crate) async fn start(nodes: u32, config: PartitionConfig) -> Self {
        let dir = TempDir::new().unwrap();
        Self::start_in(nodes, config, dir, World::real, Timings::Usual).await
    }

    /// Starts `nodes` nodes with one partition over the first three of them.
    pub(crate) async fn with_spares(nodes: u32) -> Self {
        Self::spares(nodes, None).await
    }

    /// Starts four nodes with one partition over the first three of them, and so many bytes a second for
    /// those that learn.
    pub(crate) async fn with_a_spare_at(learn_rate_max: u64) -> Self {
        Self::spares(4, Some(learn_rate_max)).await
    }

    async fn spares(nodes: u32, learn_rate_max: Option<u64>) -> Self {
        let (dir, config) = (TempDir::new().unwrap(), PartitionConfig::default());
        let mut cluster = Self::reserved_in(nodes, config, dir, World::real, Timings::Usual).await;
        cluster.founders.retain(|node| node.broker.0 <= 3);
        cluster.learn_rate_max = learn_rate_max;
        cluster.start_all().await;
        cluster
    }

    /// Starts `nodes` nodes with one partition over all of them, on simulated disks.
    pub(crate) async fn simulated(nodes: u32, timings: Timings) -> Self {
        let (dir, config) = (TempDir::new().unwrap(), PartitionConfig::default());
        Self::start_in(nodes, config, dir, World::simulated, timings).await
    }

    /// Starts three nodes on simulated disks, whose segments are small.
    pub(crate) async fn of_small_segments() -> Self {
        let config = PartitionConfig { segment_bytes: 4 * 1024, ..PartitionConfig::default() };
        let dir = TempDir::new().unwrap();
        Self::start_in(3, config, dir, World::simulated, Timings::Usual).await
    }

    /// Starts `nodes` nodes with one partition over the first three of them, which sleeps as soon as it may.
    pub(crate) async fn of_light_sleep(nodes: u32) -> Self {
        let (dir, config) = (TempDir::new().unwrap(), PartitionConfig::default());
        let mut cluster = Self::reserved_in(nodes, config, dir, World::real, Timings::Usual).await;
        cluster.founders.retain(|node| node.broker.0 <= 3);
        cluster.sleep_after = Some(Duration::from_millis(200));
        cluster.start_all().await;
        cluster
    }

    /// Addresses and disks of `nodes` nodes, of which none runs yet.
    pub(crate) async fn reserved(nodes: u32) -> Self {
        let (dir, config) = (TempDir::new().unwrap(), PartitionConfig::default());
        Self::reserved_in(nodes, config, dir, World::real, Timings::Usual).await
    }

    async fn start_in(
        nodes: u32,
        config: PartitionConfig,
        dir: TempDir,
        world: impl Fn(&Path) -> World,
        timings: Timings,
    ) -> Self {
        let mut cluster = Self::reserved_in(nodes, config, dir, world, timings).await;
        cluster.start_all().await;
        cluster
    }

    async fn start_all(&mut self) {
        for node in self.reserved.keys().copied().collect::<Vec<_>>() {
            let founding = match node == NodeId::new(1, 1) {
                true => Founding::Leads,
                false if self.founders.contains(&node) => Founding::Follows,
                false => Founding::Over,
            };
            self.open(node, founding).await;
        }
        let all = self.ids();
        until("all nodes know that all others live", || {
            self.running.values().all(|running| running.node.live() == all)
        })
        .await;
    }

    async fn reserved_in(
        nodes: u32,
        config: PartitionConfig,
        dir: TempDir,
        world: impl Fn(&Path) -> World,
        timings: Timings,
    ) -> Self {
        let group = GroupId::new(TopicId(0xfeed << 100), PartitionId(0));
        let mut reserved = BTreeMap::new();
        for broker in 1..=nodes {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            reserved.insert(NodeId::new(broker, 1), listener);
        }
        let founders = reserved.keys().copied().collect();
        let addresses =
            reserved.iter().map(|(node, it)| (*node, it.local_addr().unwrap())).collect();
        let (running, worlds, wires) = (BTreeMap::new(), BTreeMap::new(), Wires::default());
        let mut cluster = Self {
            dir,
            group,
            founders,
            addresses,
            running,
            worlds,
            reserved,
            wires,
            config,
            timings,
            learn_rate_max: None,
            sleep_after: None,
        };
        for node in cluster.reserved.keys() {
            let data = cluster.data(*node);
            cluster.worlds.insert(*node, world(&data));
        }
        cluster
    }

    /// Where a node's logs lie.
    pub(crate) fn data(&self, id: NodeId) -> PathBuf {
        self.dir.path().join(id.broker.to_string())
    }

    /// Starts a node that is to do `founding` for the partition.
    pub(crate) async fn open(&mut self, id: NodeId, founding: Founding) {
        let (node, server) = self.open_node(id).await;
        let partition = self.open_partition(&node, founding).await.unwrap();
        self.running.insert(id, Running { node, partition, server });
    }

    /// Starts a killed node whose replica is damaged: it is refused, filled up again from the others,
    /// and opened. What came from them.
    pub(crate) async fn restart_damaged(&mut self, id: NodeId) -> Refilled {
        let (node, server) = self.open_node(id).await;
        let refused = self.open_partition(&node, Founding::Over).await;
        assert!(matches!(refused, Err(Error::Quarantined { .. })), "{refused:?}");
        let (refilled, partition) = self.refill(&node).await;
        self.running.insert(id, Running { node, partition, server });
        refilled
    }

    /// Starts a killed node whose replica may be refused, and fills it up if it is.
    pub(crate) async fn restart_or_refill(&mut self, id: NodeId) {
        let (node, server) = self.open_node(id).await;
        let partition = match self.open_partition(&node, Founding::Over).await {
            Ok(partition) => partition,
            Err(Error::Quarantined { is_repairable: true, .. }) => self.refill(&node).await.1,
            Err(err) => panic!("{err}"),
        };
        self.running.insert(id, Running { node, partition, server });
    }

    /// Starts a killed node whose replica is damaged, when nobody can fill it up; why, in the end.
    pub(crate) async fn stays_out(&mut self, id: NodeId) -> String {
        let (node, server) = self.open_node(id).await;
        let refused = self.open_partition(&node, Founding::Over).await;
        assert!(matches!(refused, Err(Error::Quarantined { .. })), "{refused:?}");
        let voters: Vec<NodeId> = self.addresses.keys().copied().collect();
        let mut why = String::new();
        // Longer than an election takes, if there could be one.
        let until = Instant::now() + Duration::from_secs(4);
        while Instant::now() < until {
            why = node.refill(self.group, &voters).await.unwrap_err().to_string();
            sleep(Duration::from_millis(50)).await;
        }
        server.abort();
        let _ = server.await;
        node.abandon().await;
        why
    }

    /// Takes the replica of a running node out, fills it up again and opens it.
    pub(crate) async fn step_out(&mut self, id: NodeId) -> Refilled {
        let Running { node, partition, server } = self.running.remove(&id).unwrap();
        drop(partition);
        assert!(node.step_out(self.group).await.unwrap());
        let (refilled, partition) = self.refill(&node).await;
        self.running.insert(id, Running { node, partition, server });
        refilled
    }

    async fn refill(&self, node: &Node) -> (Refilled, Partition) {
        let voters: Vec<NodeId> = self.addresses.keys().copied().collect();
        let deadline = Instant::now() + PATIENCE;
        let refilled = loop {
            match node.refill(self.group, &voters).await {
                Ok(refilled) => break refilled,
                Err(err) => assert!(Instant::now() < deadline, "{err}"),
            }
            sleep(Duration::from_millis(20)).await;
        };
        (refilled, self.open_partition(node, Founding::Over).await.unwrap())
    }

    async fn open_partition(&self, node: &Node, founding: Founding) -> Result<Partition, Error> {
        let voters: Vec<NodeId> = self.founders.iter().copied().collect();
        node.open_partition(self.group, &voters, self.config, founding).await
    }

    async fn open_node(&mut self, id: NodeId) -> (Node, JoinHandle<()>) {
        let address = self.addresses[&id];
        let listener = match self.reserved.remove(&id) {
            Some(listener) => listener,
            None => loop {
                match TcpListener::bind(address).await {
                    Ok(listener) => break listener,
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            },
        };
        let (data, world) = (self.data(id), &self.worlds[&id]);
        static SEED: AtomicU64 = AtomicU64::new(1);
        let dialer = Dialer {
            from: self.addresses[&id].to_string(),
            open: Arc::clone(&world.open),
            wires: self.wires.clone(),
        };
        let env = Environment {
            disk: Arc::clone(&world.disk),
            flusher: Arc::clone(&world.valve) as _,
            executor: Arc::new(ThreadExecutor::new(2).unwrap()),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(|| {
                let n = SEED.fetch_add(1, Ordering::Relaxed);
                n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            }),
            connector: Arc::new(dialer),
        };
        let mut config = NodeConfig::new(id, CLUSTER_ID.to_owned(), data);
        config.address = Some(address.to_string());
        config.learn_rate_max = self.learn_rate_max.unwrap_or(config.learn_rate_max);
        config.sleep_after = self.sleep_after.or(config.sleep_after);
        if self.timings == Timings::Patient {
            (config.election_min, config.election_max) = (PATIENCE, PATIENCE * 2);
        }
        let node = Node::open(config, env).await.unwrap();
        let service = RaftServiceServer::new(node.service(Arc::new(Nobody)))
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(64 << 20);
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tokio::spawn(async move {
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        let addresses = self.addresses.iter().map(|(node, at)| (*node, at.to_string())).collect();
        node.set_addresses(addresses);
        (node, server)
    }

    /// Stops a node without a word to the others, as a crash would.
    pub(crate) async fn kill(&mut self, id: NodeId) {
        let killed = self.running.remove(&id).unwrap();
        killed.server.abort();
        // The listener must be closed before the others redial.
        let _ = killed.server.await;
        killed.node.abandon().await;
    }

    /// From now on a node hears nothing and says nothing, though its connections stay open.
    pub(crate) fn silence(&self, id: NodeId) {
        self.wires.silence(self.addresses[&id].to_string());
    }

    /// Cuts a node's power: what its simulated disk has not synced is lost.
    pub(crate) async fn cut_power(&mut self, id: NodeId) {
        let world = self.worlds[&id].clone();
        world.sim.unwrap().crash(CrashPlan::LoseAll);
        // What was held back meets a disk that is gone, and ends.
        tokio::join!(self.kill(id), async { world.valve.release() });
    }

    /// Starts a killed node on its data.
    pub(crate) async fn restart(&mut self, id: NodeId) {
        self.open(id, Founding::Over).await;
    }

    /// Starts a killed node on its data, where no other node looks for it.
    pub(crate) async fn restart_elsewhere(&mut self, id: NodeId) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.addresses.insert(id, listener.local_addr().unwrap());
        self.reserved.insert(id, listener);
        self.open(id, Founding::Over).await;
    }

    /// The node that leads and serves.
    pub(crate) async fn leader(&self) -> NodeId {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            for (id, running) in &self.running {
                if running.partition.leadership().borrow().ready {
                    return *id;
                }
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("no leader: {:?}", self.statuses());
    }

    fn statuses(&self) -> Vec<String> {
        let of = |running: &Running| format!("{:?}", running.partition.raft_status());
        self.running.values().map(of).collect()
    }

    /// Has the group's members become these, by whoever leads.
    pub(crate) async fn move_to(&self, brokers: &[u32]) {
        let voters = brokers.iter().map(|id| NodeId::new(*id, 1)).collect();
        let target = Target { voters, ..Target::default() };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leader = self.partition(self.leader().await);
            let term = leader.leadership().borrow().term;
            match leader.step_towards(term, &target).await {
                Ok(MemberStep::There { voters, .. }) => {
                    assert_eq!(voters.into_iter().collect::<BTreeSet<_>>(), target.voters);
                    return;
                }
                Ok(_) | Err(MemberError::NotLeader) => {}
                Err(MemberError::Failed(why)) => assert!(Instant::now() < deadline, "{why}"),
                Err(other) => panic!("{other}"),
            }
            assert!(Instant::now() < deadline, "not there: {:?}", self.statuses());
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Deletes the replica of a node that its group has done without.
    pub(crate) async fn give_up(&mut self, id: NodeId) {
        let leader = self.partition(self.leader().await).raft_status();
        let released = leader.committed.unwrap().index;
        self.running[&id].node.give_up(self.group, released).await.unwrap();
        assert!(!self.running[&id].node.holds(self.group));
    }

    /// Opens the replica of a running node that gave it up, as old news would have it, or new ones.
    pub(crate) async fn take_up(&mut self, id: NodeId, founding: Founding) {
        let node = self.running[&id].node.clone();
        let partition = self.open_partition(&node, founding).await.unwrap();
        self.running.get_mut(&id).unwrap().partition = partition;
    }

    /// The replica of one node.
    pub(crate) fn partition(&self, id: NodeId) -> &Partition {
        &self.running[&id].partition
    }

    /// Where a node listens.
    pub(crate) fn address(&self, id: NodeId) -> String {
        format!("http://{}", self.addresses[&id])
    }

    /// The flusher of one node.
    pub(crate) fn valve(&self, id: NodeId) -> &Valve {
        &self.worlds[&id].valve
    }

    /// Queues one record at `leader`, which gets an entry of its own: it waits until it is there.
    pub(crate) async fn enqueue(&self, leader: NodeId, sequence: i32) -> PendingAppend {
        let last = |id| self.partition(id).raft_status().last;
        let (before, batch) = (last(leader), batch(sequence, &[format!("record {sequence}")]));
        let info = Info::read(&batch).unwrap();
        let pending = self.partition(leader).enqueue(batch, info).unwrap();
        until("the entry is in the leader's log", || last(leader) > before).await;
        pending
    }

    /// Appends one batch of `records` records, retrying with the same sequence until it is acked.
    pub(crate) async fn produce(&self, sequence: i32, records: &[String]) -> Offset {
        let batch = batch(sequence, records);
        let info = Info::read(&batch).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leader = self.leader().await;
            let partition = &self.running[&leader].partition;
            match timeout(PATIENCE, partition.produce(batch.clone(), info)).await.unwrap() {
                Ok(appended) => return appended.base_offset,
                Err(ProposeError::Rejected(code)) => panic!("rejected: {code}"),
                Err(err) => {
                    assert!(Instant::now() < deadline, "not acked: {err}");
                    sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }

    /// All records from the log start to `until` on one node, as text.
    pub(crate) async fn read(&self, id: NodeId, until: Offset) -> Vec<String> {
        let partition = &self.running[&id].partition;
        let mut view = partition.view();
        timeout(PATIENCE, view.wait_for(|view| view.readable >= until)).await.unwrap().unwrap();
        let mut records = Vec::new();
        let mut next = Offset::ZERO;
        while next < until {
            let read = partition.read(next, 64 * 1024).await.unwrap();
            assert!(read.next > next, "no progress at {next}");
            for batch in &read.batches {
                for record in tidelog_types::batch::records(batch, 1 << 20).unwrap() {
                    let record = record.unwrap();
                    assert_eq!(record.offset.0 as usize, records.len(), "offsets are dense");
                    records.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                }
            }
            next = read.next;
        }
        records
    }

    /// Ids of the nodes that run.
    pub(crate) fn ids(&self) -> BTreeSet<NodeId> {
        self.running.keys().copied().collect()
    }
}

/// Waits until `check` holds.
pub(crate) async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// A batch of the one test producer.
pub(crate) fn batch(sequence: i32, records: &[String]) -> Bytes {
    let mut builder = Builder::new();
    for record in records {
        let value = Some(record.as_bytes());
        builder.push(&NewRecord { value, ..NewRecord::default() }).unwrap();
    }
    builder.finish(Codec::None, Some((ProducerId(7), ProducerEpoch(0), sequence))).unwrap()
}
