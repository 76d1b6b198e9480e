//! What a broker takes from outside, so that a simulation can put its own in.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tidelog_log::disk::{Disk, OsDisk};
use tidelog_log::flusher::ThreadFlusher;
use tidelog_raft::{BoxedIo, SystemClock, TcpConnector, ThreadExecutor};
use tidelog_state::metadata::Software;
use tidelog_types::FeatureLevels;
use tokio::net::TcpListener;

use crate::config::{Config, HostPort};
use crate::view::{OpenMap, SledMaps};

/// The world of one broker.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Disk, flusher, executor, clock, randomness and connector.
    pub node: tidelog_raft::Environment,
    /// Where listeners come from.
    pub network: Arc<dyn Network>,
    /// Where the view that describes the cluster is kept.
    pub maps: Arc<dyn OpenMap>,
    /// What can be logged; `None` when it cannot be changed while the broker runs.
    pub log_filter: Option<Arc<dyn LogFilter>>,
    /// Whether the data directory is locked: not on a simulated disk.
    pub lock_data_dir: bool,
    /// What this broker is, and which feature levels it supports.
    pub software: Software,
}

/// What this build is; of its commit only the binary knows.
#[must_use]
pub fn software(commit: &str) -> Software {
    Software::new(env!("CARGO_PKG_VERSION"), commit, FeatureLevels::SUPPORTED)
}

impl Environment {
    /// The machine that the process runs on.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn system(config: &Config) -> io::Result<Self> {
        let random = std::collections::hash_map::RandomState::new();
        let drawn = std::sync::atomic::AtomicU64::new(0);
        // The standard library's only source of the system's randomness: each key is hashed under
        // keys that were drawn when the process started.
        let entropy = move || {
            use std::hash::BuildHasher;
            let number = drawn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            random.hash_one((number, std::time::SystemTime::now(), std::process::id()))
        };
        let node = tidelog_raft::Environment {
            disk: system_disk()?,
            flusher: Arc::new(ThreadFlusher::new(config.storage.flush_threads as usize)?),
            executor: Arc::new(ThreadExecutor::new(config.storage.read_threads as usize)?),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(entropy),
            connector: Arc::new(TcpConnector),
        };
        Ok(Self {
            node,
            network: Arc::new(TcpNetwork),
            maps: Arc::new(SledMaps),
            log_filter: None,
            lock_data_dir: true,
            software: software(""),
        })
    }

    /// Runs `work` on the executor for blocking work.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (done, result) = tokio::sync::oneshot::channel();
        self.node.executor.run(Box::new(move || {
            // Whoever waited may be gone; the work had to be done all the same.
            let _ = done.send(work());
        }));
        result.await.map_err(|_| io::Error::other("blocking work panicked or its executor stopped"))
    }

    /// 128 random bits.
    pub(crate) fn random_u128(&self) -> u128 {
        let draw = || u128::from((self.node.entropy)());
        draw() << 64 | draw()
    }

    /// A random UUID of version 4.
    pub(crate) fn random_uuid(&self) -> u128 {
        const VERSION: u128 = 0xf << 76;
        const VARIANT: u128 = 0x3 << 62;
        self.random_u128() & !VERSION & !VARIANT | 0x4 << 76 | 0x2 << 62
    }
}

#[cfg(not(tidelog_faults))]
fn system_disk() -> io::Result<Arc<dyn Disk>> {
    Ok(Arc::new(OsDisk))
}

#[cfg(tidelog_faults)]
fn system_disk() -> io::Result<Arc<dyn Disk>> {
    use crate::faults::{Faults, FaultyDisk};
    let faults = Arc::new(Faults::from_environment()?);
    Ok(Arc::new(FaultyDisk::new(Arc::new(OsDisk), faults)))
}

/// One of a broker's listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerName {
    /// gRPC for clients.
    Client,
    /// gRPC between brokers.
    Internal,
    /// HTTP for monitoring.
    Http,
}

impl ListenerName {
    /// The name, as in the configuration and in the broker registry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Internal => "internal",
            Self::Http => "http",
        }
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Gives listeners.
pub trait Network: Send + Sync + fmt::Debug + 'static {
    /// Listens at `address`.
    fn bind<'a>(
        &'a self,
        name: ListenerName,
        address: &'a HostPort,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
}

/// Takes connections.
pub trait Listener: Send + 'static {
    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    fn address(&self) -> io::Result<SocketAddr>;

    /// The next connection. Cancel safe.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<BoxedIo>>;
}

/// TCP, with `TCP_NODELAY` on each connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpNetwork;

impl Network for TcpNetwork {
    fn bind<'a>(
        &'a self,
        _name: ListenerName,
        address: &'a HostPort,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind((address.host.as_str(), address.port)).await?;
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }
}

impl Listener for TcpListener {
    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<BoxedIo>> {
        Box::pin(async move {
            let (stream, _) = TcpListener::accept(self).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxedIo)
        })
    }
}

/// Listeners that were bound before, for tests that let the system choose ports.
#[derive(Default)]
pub struct BoundNetwork(Mutex<HashMap<ListenerName, Box<dyn Listener>>>);

impl BoundNetwork {
    /// The three listeners of one broker.
    #[must_use]
    pub fn new(listeners: HashMap<ListenerName, Box<dyn Listener>>) -> Self {
        Self(Mutex::new(listeners))
    }
}

impl fmt::Debug for BoundNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundNetwork").finish_non_exhaustive()
    }
}

impl Network for BoundNetwork {
    fn bind<'a>(
        &'a self,
        name: ListenerName,
        _address: &'a HostPort,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        let listener = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        let taken = || io::Error::new(io::ErrorKind::AddrInUse, "listener was taken before");
        Box::pin(std::future::ready(listener.ok_or_else(taken)))
    }
}

/// Changes what is logged while the broker runs.
pub trait LogFilter: Send + Sync + fmt::Debug + 'static {
    /// Sets the filter and gives the one until now.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    fn set(&self, filter: &str) -> Result<String, String>;
}

/// Makes `dir` and what is above it, durably: a power loss that took a data directory's own name would
/// take everything in it, however well that was synced.
pub(crate) fn create_dir_all(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    match create_dir(disk, dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).ok_or(err)?;
            create_dir_all(disk, parent)?;
            // Once more and no further: a pseudo file system answers "not found" for ever.
            create_dir(disk, dir)
        }
        made => made,
    }
}

/// Makes `dir`, if it is not there.
fn create_dir(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    match disk.create_dir(dir) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(err) => Err(err),
        Ok(()) => {
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            disk.sync_dir(parent.unwrap_or(Path::new(".")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_directory_is_still_there_after_a_power_loss() {
        let disk = tidelog_log::sim::SimDisk::new();
        let dir = Path::new("/var/data");
        create_dir_all(&disk, dir).unwrap();
        disk.crash(tidelog_log::sim::CrashPlan::LoseAll);
        assert_eq!(disk.list(dir).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn directory_that_cannot_be_made_is_an_error_and_no_endless_recursion() {
        let refused = create_dir_all(&OsDisk, Path::new("/proc/tidelog/data"));
        assert!(refused.is_err());
    }
}
