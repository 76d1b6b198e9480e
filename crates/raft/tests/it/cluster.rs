//! Three nodes in one process, each with its own listener, data directory and flusher.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tidelog_log::disk::OsDisk;
use tidelog_log::flusher::ThreadFlusher;
use tidelog_proto::v1;
use tidelog_proto::v1::raft_service_server::RaftServiceServer;
use tidelog_raft::{
    Environment, Introduce, Node, NodeConfig, Partition, PartitionConfig, ProposeError,
    SystemClock, TcpConnector, ThreadExecutor,
};
use tidelog_types::batch::{Builder, Codec, Info, NewRecord};
use tidelog_types::{GroupId, NodeId, Offset, PartitionId, ProducerEpoch, ProducerId, TopicId};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

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
    addresses: BTreeMap<NodeId, SocketAddr>,
    pub(crate) running: BTreeMap<NodeId, Running>,
    config: PartitionConfig,
}

impl Cluster {
    /// Starts `nodes` nodes with one partition over all of them.
    pub(crate) async fn start(nodes: u32, config: PartitionConfig) -> Self {
        let dir = TempDir::new().unwrap();
        let group = GroupId::new(TopicId(0xfeed << 100), PartitionId(0));
        let mut listeners = BTreeMap::new();
        for broker in 1..=nodes {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listeners.insert(NodeId::new(broker, 1), listener);
        }
        let addresses =
            listeners.iter().map(|(node, it)| (*node, it.local_addr().unwrap())).collect();
        let mut cluster = Self { dir, group, addresses, running: BTreeMap::new(), config };
        for (node, listener) in listeners {
            cluster.run(node, listener, node == NodeId::new(1, 1)).await;
        }
        cluster
    }

    async fn run(&mut self, id: NodeId, listener: TcpListener, initialize: bool) {
        let data = self.dir.path().join(id.broker.to_string());
        std::fs::create_dir_all(&data).unwrap();
        static SEED: AtomicU64 = AtomicU64::new(1);
        let env = Environment {
            disk: Arc::new(OsDisk),
            flusher: Arc::new(ThreadFlusher::new(4).unwrap()),
            executor: Arc::new(ThreadExecutor::new(2).unwrap()),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(|| {
                let n = SEED.fetch_add(1, Ordering::Relaxed);
                n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            }),
            connector: Arc::new(TcpConnector),
        };
        let config = NodeConfig::new(id, "test-cluster".to_owned(), data);
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
        let voters: Vec<NodeId> = self.addresses.keys().copied().collect();
        let partition =
            node.open_partition(self.group, &voters, self.config, initialize).await.unwrap();
        self.running.insert(id, Running { node, partition, server });
    }

    /// Stops a node without a word to the others, as a crash would.
    pub(crate) async fn kill(&mut self, id: NodeId) {
        let killed = self.running.remove(&id).unwrap();
        killed.server.abort();
        // The listener must be closed before the others redial.
        let _ = killed.server.await;
        killed.node.abandon().await;
    }

    /// Starts a killed node on its data.
    pub(crate) async fn restart(&mut self, id: NodeId) {
        let address = self.addresses[&id];
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        };
        self.run(id, listener, false).await;
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

/// A batch of the one test producer.
pub(crate) fn batch(sequence: i32, records: &[String]) -> Bytes {
    let mut builder = Builder::new();
    for record in records {
        let value = Some(record.as_bytes());
        builder.push(&NewRecord { value, ..NewRecord::default() }).unwrap();
    }
    builder.finish(Codec::None, Some((ProducerId(7), ProducerEpoch(0), sequence))).unwrap()
}
