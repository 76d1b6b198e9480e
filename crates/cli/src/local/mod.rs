//! A cluster of real broker processes on this machine, for `dev`, `demo`, `bench` and the end-to-end tests.
//!
//! Each broker is this very binary, started again as `tidelog server -c FILE`, with its own data
//! directory, configuration file and log file below one directory. Brokers are killed, stopped,
//! frozen and started again by process, as an operator or a kernel would do it.

mod broker;
mod dev;
mod error;
mod http;
mod metrics;
mod parent;
mod place;
mod ports;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use broker::{Broker, BrokerPorts};
pub use dev::{DevArgs, dev};
pub use error::Error;
pub use http::http_get;
pub use metrics::Scraper;
pub use parent::parent_watch;
pub use place::Place;
pub use ports::free_ports;

/// What a local cluster is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The `tidelog` binary.
    pub binary: PathBuf,
    /// Holds everything of the cluster: `node<id>.toml`, `node<id>.log`, `node<id>/`.
    pub dir: PathBuf,
    /// Words before the binary, by which each broker is started; the first are broker 1's.
    pub launchers: Vec<Vec<OsString>>,
    /// The ports of each broker; the first has id 1.
    pub ports: Vec<BrokerPorts>,
    /// Configuration keys beside the identity and the listeners, as in a node's file.
    pub settings: toml::Table,
}

impl Setup {
    /// `nodes` brokers below `dir` that run this process's own binary, on free ports.
    ///
    /// # Errors
    /// No free ports, or no way to find this binary.
    pub fn new(dir: &Path, nodes: u32) -> Result<Self, Error> {
        let binary =
            std::env::current_exe().map_err(Error::at("find", Path::new("this binary")))?;
        let free = free_ports(3 * nodes as usize)?;
        let ports = free
            .chunks_exact(3)
            .map(|p| BrokerPorts {
                host: Ipv4Addr::LOCALHOST,
                client: p[0],
                internal: p[1],
                http: p[2],
            })
            .collect();
        Ok(Self {
            binary,
            dir: dir.to_owned(),
            launchers: Vec::new(),
            ports,
            settings: toml::Table::new(),
        })
    }
}

/// A cluster of broker processes. They end with it: on drop they are killed, and when this process
/// dies in any other way they end by themselves (see [`parent_watch`]).
#[derive(Debug)]
pub struct LocalCluster {
    setup: Setup,
    brokers: Vec<Broker>,
}

impl LocalCluster {
    /// Writes the configuration files; starts nothing.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn create(setup: &Setup) -> Result<Self, Error> {
        std::fs::create_dir_all(&setup.dir).map_err(Error::at("create", &setup.dir))?;
        let brokers = (1..=setup.ports.len() as u32).map(|id| Broker::create(id, setup));
        Ok(Self { brokers: brokers.collect::<Result<_, _>>()?, setup: setup.clone() })
    }

    /// Adds a broker that joins the cluster of the others; starts nothing. Gives its id.
    ///
    /// # Errors
    /// No free ports, or a file that cannot be written.
    pub fn join(&mut self) -> Result<u32, Error> {
        let free = free_ports(3)?;
        let seeds = self.setup.ports.clone();
        self.setup.ports.push(BrokerPorts {
            host: Ipv4Addr::LOCALHOST,
            client: free[0],
            internal: free[1],
            http: free[2],
        });
        let id = self.setup.ports.len() as u32;
        self.brokers.push(Broker::join(id, &self.setup, &seeds)?);
        Ok(id)
    }

    /// Starts every broker that does not run.
    ///
    /// # Errors
    /// The first that cannot be started.
    pub fn start_all(&mut self) -> Result<(), Error> {
        for broker in &mut self.brokers {
            if !broker.is_running() {
                broker.start()?;
            }
        }
        Ok(())
    }

    /// Waits until every running broker says that it is ready.
    ///
    /// # Errors
    /// A broker that exited meanwhile, with the end of its log, or one that is not ready in time.
    pub async fn ready(&mut self, within: Duration) -> Result<(), Error> {
        let deadline = tokio::time::Instant::now() + within;
        for broker in self.brokers.iter_mut().filter(|b| b.was_started()) {
            broker.ready(deadline.duration_since(tokio::time::Instant::now())).await?;
        }
        Ok(())
    }

    /// SIGKILLs every broker at once: all signals are sent before any end is awaited.
    ///
    /// # Errors
    /// A signal that cannot be sent.
    pub fn kill_all(&mut self) -> Result<(), Error> {
        self.kill_many(&(1..=self.brokers.len() as u32).collect::<Vec<_>>())
    }

    /// SIGKILLs the running ones of these brokers at once.
    ///
    /// # Errors
    /// A signal that cannot be sent.
    ///
    /// # Panics
    /// When there is no broker of an id.
    pub fn kill_many(&mut self, ids: &[u32]) -> Result<(), Error> {
        for id in ids {
            self.broker_mut(*id).send_kill()?;
        }
        ids.iter().try_for_each(|id| self.broker_mut(*id).reap())
    }

    /// Asks every running broker to stop and waits for it, one at a time, each within `within`.
    ///
    /// # Errors
    /// A broker that does not stop in time or ends with a failure.
    pub async fn stop_all(&mut self, within: Duration) -> Result<(), Error> {
        for broker in self.brokers.iter_mut().filter(|b| b.was_started()) {
            broker.stop(within).await?;
        }
        Ok(())
    }

    /// All brokers, in the order of their ids.
    #[must_use]
    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// The broker of this id.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn broker(&self, id: u32) -> &Broker {
        &self.brokers[index(id)]
    }

    /// The broker of this id, to act on it.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn broker_mut(&mut self, id: u32) -> &mut Broker {
        &mut self.brokers[index(id)]
    }

    /// The client addresses of all brokers, up or not.
    #[must_use]
    pub fn bootstrap(&self) -> Vec<String> {
        self.brokers.iter().map(|b| b.ports().client_address()).collect()
    }
}

fn index(id: u32) -> usize {
    id.checked_sub(1).expect("broker ids start at 1") as usize
}
