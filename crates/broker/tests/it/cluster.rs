//! Brokers of a cluster in one process, over loopback, on ports that the system chooses.

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tidelog_broker::config::{ByteSize, Config, HostPort, InitialBroker, Span};
use tidelog_broker::{Broker, Environment};
use tidelog_proto::v1::admin_service_client::AdminServiceClient;
use tidelog_proto::v1::log_service_client::LogServiceClient;
use tidelog_proto::v1::metadata_service_client::MetadataServiceClient;
use tidelog_proto::v1::{
    CreateTopicsRequest, DescribeTopicsRequest, Error, NewTopic, create_topics_result,
    describe_topics_result,
};
use tidelog_types::BrokerId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Channel;

/// How long anything may take that is bound to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a broker of a test is made of.
pub(crate) struct Seat {
    pub(crate) config: Config,
    pub(crate) broker: Option<Broker>,
    data: TempDir,
}

/// A cluster whose brokers can be stopped and started again.
pub(crate) struct Cluster {
    pub(crate) seats: Vec<Seat>,
}

/// Ports that are free now, for listeners that must be bound again later.
pub(crate) async fn free_ports(count: usize) -> Vec<u16> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

fn local(port: u16) -> HostPort {
    HostPort { host: "127.0.0.1".to_owned(), port }
}

/// Configurations of `count` brokers that belong together.
pub(crate) async fn configs(count: u32, data: &[PathBuf]) -> Vec<Config> {
    let ports = free_ports(count as usize * 3).await;
    let port = |id: u32, listener: usize| local(ports[(id as usize - 1) * 3 + listener]);
    let initial_brokers: Vec<_> =
        (1..=count).map(|id| InitialBroker { id: BrokerId(id), address: port(id, 1) }).collect();
    let config = |id: u32| {
        let mut config = Config {
            broker_id: Some(id),
            data_dir: data[id as usize - 1].clone(),
            initial_brokers: initial_brokers.clone(),
            ..Config::default()
        };
        config.listener.client.bind = port(id, 0);
        config.listener.internal.bind = port(id, 1);
        config.listener.http.bind = port(id, 2);
        config.storage.flush_threads = 2;
        config.storage.read_threads = 1;
        config.storage.tail_cache = ByteSize::mib(8);
        config.raft.heartbeat = Span::ms(100);
        config.raft.election_min = Span::ms(500);
        config.raft.election_max = Span::ms(800);
        config
    };
    (1..=count).map(config).collect()
}

/// Starts a broker on its own ports, which an earlier test process may just have given back.
pub(crate) async fn start(config: &Config) -> Broker {
    Broker::start(config.clone(), Environment::system(config).unwrap()).await.unwrap()
}

impl Cluster {
    /// Brokers that have their data and ports, none of them started.
    pub(crate) async fn prepare(count: u32) -> Self {
        let data: Vec<_> = (0..count).map(|_| TempDir::new().unwrap()).collect();
        let paths: Vec<_> = data.iter().map(|dir| dir.path().to_owned()).collect();
        let configs = configs(count, &paths).await;
        let seats = configs.into_iter().zip(data);
        let seat = |(config, data)| Seat { config, broker: None, data };
        Self { seats: seats.map(seat).collect() }
    }

    /// All brokers started and ready.
    pub(crate) async fn start(count: u32) -> Self {
        let mut cluster = Self::prepare(count).await;
        for id in 1..=count {
            cluster.start_broker(id).await;
        }
        cluster.ready().await;
        cluster
    }

    pub(crate) fn seat(&mut self, id: u32) -> &mut Seat {
        &mut self.seats[id as usize - 1]
    }

    pub(crate) async fn start_broker(&mut self, id: u32) {
        let seat = self.seat(id);
        seat.broker = Some(start(&seat.config).await);
    }

    /// Starts a broker in a world of its own.
    pub(crate) async fn start_broker_in(&mut self, id: u32, env: Environment) {
        let seat = self.seat(id);
        seat.broker = Some(Broker::start(seat.config.clone(), env).await.unwrap());
    }

    pub(crate) async fn stop(&mut self, id: u32) {
        if let Some(broker) = self.seat(id).broker.take() {
            broker.stop(Duration::from_secs(5)).await;
        }
    }

    pub(crate) async fn stop_all(&mut self) {
        let brokers = self.seats.iter_mut().filter_map(|seat| seat.broker.take());
        let stops = brokers.map(|broker| broker.stop(Duration::from_secs(5)));
        futures_util::future::join_all(stops).await;
    }

    /// Waits until every started broker is ready.
    pub(crate) async fn ready(&self) {
        for seat in &self.seats {
            if let Some(broker) = &seat.broker {
                until(|| broker.not_ready().map_or(Ok(()), Err)).await;
            }
        }
    }

    /// A number that a broker shows among its metrics.
    pub(crate) async fn metric(&self, id: u32, name: &str) -> u64 {
        let http = self.seats[id as usize - 1].config.listener.http.bind.to_string();
        let mut stream = TcpStream::connect(http).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {answer}")).parse().unwrap()
    }

    pub(crate) fn data(&self, id: u32) -> PathBuf {
        self.seats[id as usize - 1].data.path().to_owned()
    }

    pub(crate) async fn channel(&self, id: u32) -> Channel {
        channel(&self.seats[id as usize - 1].config.listener.client.bind.to_string()).await
    }

    pub(crate) async fn admin(&self, id: u32) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel(id).await)
    }

    pub(crate) async fn log(&self, id: u32) -> LogServiceClient<Channel> {
        const MOST: usize = 64 << 20;
        LogServiceClient::new(self.channel(id).await)
            .max_decoding_message_size(MOST)
            .max_encoding_message_size(MOST)
    }

    pub(crate) async fn metadata(&self, id: u32) -> MetadataServiceClient<Channel> {
        MetadataServiceClient::new(self.channel(id).await)
    }

    /// Creates a topic through broker `by` and waits until all its partitions have leaders.
    pub(crate) async fn create_topic(&self, by: u32, name: &str, partitions: u32, replicas: u32) {
        create_topic(&mut self.admin(by).await, name, partitions, replicas).await.unwrap();
        for partition in 0..partitions {
            self.leader(by, name, partition).await;
        }
    }

    /// The broker that leads a partition, by its own word.
    pub(crate) async fn leader(&self, by: u32, topic: &str, partition: u32) -> u32 {
        let begun = std::time::Instant::now();
        loop {
            let shown = self.shown_leader(by, topic, partition).await;
            if let Some(leader) = shown.filter(|id| self.seats[*id as usize - 1].broker.is_some()) {
                let own = self.shown_leader(leader, topic, partition).await;
                if own == Some(leader) {
                    return leader;
                }
            }
            assert!(begun.elapsed() < PATIENCE, "{topic}/{partition} has no leader: {shown:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn shown_leader(&self, by: u32, topic: &str, partition: u32) -> Option<u32> {
        let request =
            DescribeTopicsRequest { topics: vec![topic.to_owned()], include_configs: false };
        let answer = self.metadata(by).await.describe_topics(request).await.ok()?.into_inner();
        match answer.results.into_iter().next()?.result? {
            describe_topics_result::Result::Topic(topic) => {
                Some(topic.partitions.get(partition as usize)?.leader.as_ref()?.broker_id)
            }
            describe_topics_result::Result::Error(_) => None,
        }
    }
}

pub(crate) async fn create_topic(
    admin: &mut AdminServiceClient<Channel>,
    name: &str,
    partitions: u32,
    replication_factor: u32,
) -> Result<(), Error> {
    let topic =
        NewTopic { name: name.to_owned(), partitions, replication_factor, configs: Vec::new() };
    let request = CreateTopicsRequest { topics: vec![topic], validate_only: false, timeout_ms: 0 };
    let answer = admin.create_topics(request).await;
    let answer = answer.map_err(|status| Error::from_status(&status).expect("a typed error"))?;
    match answer.into_inner().results.remove(0).result.unwrap() {
        create_topics_result::Result::Created(_) => Ok(()),
        create_topics_result::Result::Error(error) => Err(error),
    }
}

pub(crate) async fn channel(address: &str) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect_lazy()
}

/// Asks again until `check` is content; panics with its last complaint.
pub(crate) async fn until<T>(mut check: impl FnMut() -> Result<T, String>) -> T {
    let begun = std::time::Instant::now();
    loop {
        match check() {
            Ok(found) => return found,
            Err(complaint) => assert!(begun.elapsed() < PATIENCE, "still: {complaint}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
