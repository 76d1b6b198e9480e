//! Settings of a cluster.

use std::io;

use tempfile::TempDir;
use tidelog_broker::Config;
use tidelog_broker::config::{ByteSize, HostPort, InitialBroker};
use tidelog_types::BrokerId;
use tokio::net::TcpListener;

use crate::running::Running;
use crate::{Cluster, Error, Seat};

/// Listeners of one broker.
const LISTENERS: usize = 3;

/// Sets a [`Cluster`] up.
#[derive(Debug)]
#[must_use]
pub struct Builder {
    brokers: u32,
    configure: Vec<fn(&mut Config)>,
}

impl Default for Builder {
    fn default() -> Self {
        Self { brokers: 3, configure: Vec::new() }
    }
}

impl Builder {
    /// How many brokers: 1, 3 or 5. Default 3.
    pub fn brokers(mut self, brokers: u32) -> Self {
        self.brokers = brokers;
        self
    }

    /// Changes the configuration of every broker before it starts. Ids, addresses and directories must
    /// stay as they are.
    pub fn configure(mut self, change: fn(&mut Config)) -> Self {
        self.configure.push(change);
        self
    }

    /// Starts the brokers and waits until they take requests.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn start(self) -> Result<Cluster, Error> {
        let dir = tempfile::tempdir()?;
        let mut seats = Vec::new();
        for mut config in configs(self.brokers, &dir).await? {
            self.configure.iter().for_each(|change| change(&mut config));
            let running = Some(Running::start(&config).await?);
            seats.push(Seat { config, running });
        }
        let cluster = Cluster { seats, _dir: dir };
        for seat in &cluster.seats {
            seat.ready().await?;
        }
        Ok(cluster)
    }
}

/// Configurations that belong together: small threads and caches, for there are several brokers in one
/// process.
async fn configs(brokers: u32, dir: &TempDir) -> io::Result<Vec<Config>> {
    let ports = free_ports(brokers as usize * LISTENERS).await?;
    let at = |id: u32, listener: usize| HostPort {
        host: "127.0.0.1".to_owned(),
        port: ports[(id as usize - 1) * LISTENERS + listener],
    };
    let initial = |id: u32| InitialBroker { id: BrokerId(id), address: at(id, 1) };
    let config = |id: u32| {
        let mut config = Config {
            broker_id: Some(id),
            data_dir: dir.path().join(format!("broker-{id}")),
            initial_brokers: (1..=brokers).map(initial).collect(),
            ..Config::default()
        };
        config.listener.client.bind = at(id, 0);
        config.listener.internal.bind = at(id, 1);
        config.listener.http.bind = at(id, 2);
        config.storage.flush_threads = 2;
        // Whatever is left on the disk of whoever tests.
        config.storage.free_min = ByteSize(0);
        config.storage.read_threads = 1;
        config.storage.tail_cache = ByteSize::mib(8);
        config
    };
    Ok((1..=brokers).map(config).collect())
}

/// Ports that are free now. They are not held: a broker that is started again needs its own.
async fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(TcpListener::bind("127.0.0.1:0").await?);
    }
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
