//! Tidelog clusters in the process of a test: for tests of services that use Tidelog, and of Tidelog.
//!
//! Brokers listen on loopback, on ports that were free, and keep their data in a temporary directory
//! that goes with the [`Cluster`]. Each runs on a runtime of its own, so that [`Cluster::kill`] can end
//! it at any point, as a crash would.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tidelog_testing::Cluster;
//!
//! let mut cluster = Cluster::start(3).await?;
//! // my_service::run(cluster.bootstrap()) …
//! cluster.kill(2);
//! cluster.restart(2).await?;
//! cluster.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! What it is not: a proof of durability. The data of a killed broker is in the operating system's cache.

mod builder;
mod running;

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidelog_broker::Config;
use tokio::time::sleep;

pub use builder::Builder;

use running::Running;

/// How long a cluster may take to form, or a broker to be ready again.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause between two looks at whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long a broker may take to stop in order.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a cluster is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A broker does not start.
    #[error("start broker {broker}")]
    Start {
        /// Its number.
        broker: u32,
        /// What is wrong.
        source: Box<tidelog_broker::StartError>,
    },
    /// A broker is not ready in time.
    #[error("broker {broker} is not ready after {} s: it waits for {reason}", READY_TIMEOUT.as_secs())]
    NotReady {
        /// Its number.
        broker: u32,
        /// What it waits for.
        reason: String,
    },
    /// The operating system refuses a port, a directory or a thread.
    #[error("set the cluster up")]
    Io(#[from] std::io::Error),
}

/// A cluster in this process. Dropped, it is gone at once, with its data.
#[derive(Debug)]
pub struct Cluster {
    seats: Vec<Seat>,
    /// Removed once the brokers are gone.
    _dir: TempDir,
}

/// A broker, running or not.
#[derive(Debug)]
struct Seat {
    config: Config,
    running: Option<Running>,
}

impl Cluster {
    /// A cluster of `brokers` brokers, 1, 3 or 5, that takes requests.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn start(brokers: u32) -> Result<Self, Error> {
        Self::builder().brokers(brokers).start().await
    }

    /// A cluster with settings of its own.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The addresses for clients, of all brokers, running or not.
    #[must_use]
    pub fn bootstrap(&self) -> Vec<String> {
        self.seats.iter().map(|seat| seat.config.listener.client.bind.to_string()).collect()
    }

    /// The numbers of the brokers that are running.
    #[must_use]
    pub fn running(&self) -> Vec<u32> {
        let running = self.seats.iter().filter(|seat| seat.running.is_some());
        running.map(|seat| seat.config.broker().0).collect()
    }

    /// Ends broker `id` at once: it hands nothing over and says nothing to anybody. One that does not
    /// run stays so.
    ///
    /// # Panics
    /// When there is no such broker.
    pub fn kill(&mut self, id: u32) {
        if let Some(running) = self.seat(id).running.take() {
            running.kill();
        }
    }

    /// Stops broker `id` in order: it hands its leaderships over first.
    ///
    /// # Panics
    /// When there is no such broker.
    pub async fn stop_broker(&mut self, id: u32) {
        if let Some(running) = self.seat(id).running.take() {
            running.stop(STOP_TIMEOUT).await;
        }
    }

    /// Starts broker `id` again, on its data and its ports, and waits until it is ready. One that runs
    /// is only waited for.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Panics
    /// When there is no such broker.
    pub async fn restart(&mut self, id: u32) -> Result<(), Error> {
        let seat = self.seat(id);
        if seat.running.is_none() {
            seat.running = Some(Running::start(&seat.config).await?);
        }
        seat.ready().await
    }

    /// The data directory of broker `id`.
    ///
    /// # Panics
    /// When there is no such broker.
    #[must_use]
    pub fn data_dir(&self, id: u32) -> &Path {
        &self.seats[index(id, self.seats.len())].config.data_dir
    }

    /// Stops all brokers in order and removes their data.
    pub async fn stop(mut self) {
        for seat in &mut self.seats {
            if let Some(running) = seat.running.take() {
                running.stop(STOP_TIMEOUT).await;
            }
        }
    }

    fn seat(&mut self, id: u32) -> &mut Seat {
        let index = index(id, self.seats.len());
        &mut self.seats[index]
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for seat in &mut self.seats {
            if let Some(running) = seat.running.take() {
                running.kill();
            }
        }
    }
}

impl Seat {
    async fn ready(&self) -> Result<(), Error> {
        let Some(running) = &self.running else { return Ok(()) };
        let begun = Instant::now();
        while let Some(reason) = running.not_ready() {
            if begun.elapsed() > READY_TIMEOUT {
                return Err(Error::NotReady { broker: self.config.broker().0, reason });
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

fn index(id: u32, brokers: usize) -> usize {
    assert!((1..=brokers).contains(&(id as usize)), "brokers are 1 to {brokers}, not {id}");
    id as usize - 1
}
