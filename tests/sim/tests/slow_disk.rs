//! An ack waits for the fsync of a quorum, and for nobody else's: brokers on real disks, of which
//! some are slow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidelog_broker::config::{Config, HostPort, InitialBroker};
use tidelog_broker::faults::{Faults, FaultyDisk};
use tidelog_broker::{Broker, Environment};
use tidelog_client::admin::NewTopic;
use tidelog_client::{BrokerId, Client, Producer, Record, TopicName};
use tokio::net::TcpListener;

const BROKERS: u32 = 3;
const TOPIC: &str = "orders";
const PATIENCE: Duration = Duration::from_secs(60);

/// What makes a disk slow in these tests.
const SLOW: Duration = Duration::from_millis(500);

/// What every disk takes where two medians are compared: well above what this machine's disk takes
/// when other tests keep it busy, so that they do not move the medians.
const USUAL: Duration = Duration::from_millis(20);

/// A cluster in this process, on real disks whose syncs can be slowed down.
struct Cluster {
    brokers: Vec<Broker>,
    faults: Vec<Arc<Faults>>,
    client: Client,
    producer: Producer,
    _data: Vec<TempDir>,
}

impl Cluster {
    async fn start() -> Self {
        let data: Vec<_> = (0..BROKERS).map(|_| TempDir::new().unwrap()).collect();
        let (mut brokers, mut faults) = (Vec::new(), Vec::new());
        let configs = configs(&data).await;
        for config in &configs {
            let slow = Arc::new(Faults::parse("").unwrap());
            let mut env = Environment::system(config).unwrap();
            env.node.disk = Arc::new(FaultyDisk::new(env.node.disk, Arc::clone(&slow)));
            brokers.push(Broker::start(config.clone(), env).await.unwrap());
            faults.push(slow);
        }
        let bootstrap = configs.iter().map(|config| config.listener.client.bind.to_string());
        let client = connect(bootstrap.collect()).await;
        let topic: TopicName = TOPIC.parse().unwrap();
        let wanted = NewTopic::new(topic.clone()).partitions(1);
        for (_, created) in client.admin().create_topics([wanted]).await.unwrap() {
            created.unwrap();
        }
        client.admin().wait_for_leaders(&topic, PATIENCE).await.unwrap();
        let producer = client.producer().linger(Duration::ZERO).build().await.unwrap();
        let cluster = Self { brokers, faults, client, producer, _data: data };
        cluster.ack().await;
        cluster
    }

    fn delay(&self, broker: BrokerId, delay: Duration) {
        self.faults[broker.0 as usize - 1].delay_fdatasync(delay);
    }

    fn delay_all(&self, delay: Duration) {
        self.faults.iter().for_each(|faults| faults.delay_fdatasync(delay));
    }

    /// The leader, then the followers.
    async fn replicas(&self) -> Vec<BrokerId> {
        let facts = self.client.admin().describe_topic(&TOPIC.parse().unwrap()).await.unwrap();
        let partition = &facts.partitions[0];
        let leader = partition.leader.as_ref().unwrap().broker;
        let followers = partition.replicas.iter().copied().filter(|broker| *broker != leader);
        [leader].into_iter().chain(followers).collect()
    }

    /// Sends one record and tells how long its ack took.
    async fn ack(&self) -> Duration {
        let sent = Instant::now();
        self.producer.send(Record::to(TOPIC).value("order")).await.unwrap();
        sent.elapsed()
    }

    async fn stop(self) {
        for broker in self.brokers {
            broker.stop(Duration::from_secs(5)).await;
        }
    }
}

async fn configs(data: &[TempDir]) -> Vec<Config> {
    let mut held = Vec::new();
    for _ in 0..BROKERS * 3 {
        held.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let at = |n: u32| HostPort {
        host: "127.0.0.1".to_owned(),
        port: held[n as usize].local_addr().unwrap().port(),
    };
    let initial = |id| InitialBroker { id: BrokerId(id), address: at((id - 1) * 3 + 1) };
    let config = |id: u32| {
        let mut config = Config {
            broker_id: Some(id),
            data_dir: data[id as usize - 1].path().to_owned(),
            initial_brokers: (1..=BROKERS).map(initial).collect(),
            ..Config::default()
        };
        config.listener.client.bind = at((id - 1) * 3);
        config.listener.internal.bind = at((id - 1) * 3 + 1);
        config.listener.http.bind = at((id - 1) * 3 + 2);
        config
    };
    (1..=BROKERS).map(config).collect()
}

async fn connect(bootstrap: Vec<String>) -> Client {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Client::builder(bootstrap.clone()).connect().await {
            Ok(client) => return client,
            Err(err) => assert!(Instant::now() < deadline, "no cluster: {err}"),
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_two_slow_disks_of_three_every_ack_waits_for_one_of_them() {
    let cluster = Cluster::start().await;
    let replicas = cluster.replicas().await;
    for slow in [&replicas[..2], &replicas[1..]] {
        slow.iter().for_each(|broker| cluster.delay(*broker, SLOW));
        for _ in 0..5 {
            let took = cluster.ack().await;
            eprintln!("{slow:?} of {replicas:?} slow: acked after {took:?}");
            assert!(took >= SLOW, "acked after {took:?} with a quorum that cannot have synced");
        }
        cluster.delay_all(Duration::ZERO);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_slow_follower_moves_the_median_ack_by_less_than_a_fifth() {
    let cluster = Cluster::start().await;
    let slow = *cluster.replicas().await.last().unwrap();
    let (mut usual, mut one_slow) = (Vec::new(), Vec::new());
    // In turns, so that whatever else the machine does meets both alike.
    for _ in 0..6 {
        cluster.delay_all(USUAL);
        for _ in 0..25 {
            usual.push(cluster.ack().await);
        }
        cluster.delay(slow, SLOW);
        for _ in 0..25 {
            one_slow.push(cluster.ack().await);
        }
    }
    assert_ne!(cluster.replicas().await[0], slow, "the slow broker stayed a follower");
    cluster.delay_all(Duration::ZERO);
    let (usual, one_slow) = (median(usual), median(one_slow));
    eprintln!("median ack {usual:?}, with one slow follower {one_slow:?}");
    assert!(one_slow < usual * 6 / 5, "{usual:?} became {one_slow:?}");
    cluster.stop().await;
}

#[test]
fn faults_are_read_and_nonsense_is_refused() {
    for text in ["", "fdatasync-delay=500ms"] {
        assert!(Faults::parse(text).is_ok(), "{text}");
    }
    for text in ["fdatasync-delay", "fdatasync-delay=5", "fsync=1ms", "x"] {
        assert!(Faults::parse(text).unwrap_err().contains("fdatasync-delay=500ms"), "{text}");
    }
}
