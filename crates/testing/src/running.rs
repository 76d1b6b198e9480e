//! A broker on a runtime of its own.

use std::time::{Duration, Instant};

use tidelog_broker::{Broker, Config, Environment, StartError};
use tokio::runtime::{self, Runtime};
use tokio::time::sleep;

use crate::Error;

/// Threads of a broker's runtime.
const WORKER_THREADS: usize = 2;

/// How long a broker that was killed may take to let go of its directory and its ports: its threads end
/// what they are at.
const LET_GO_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause between two tries to start.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// A running broker.
#[derive(Debug)]
pub(crate) struct Running {
    broker: Broker,
    runtime: Runtime,
}

impl Running {
    /// Starts a broker; it may not be ready yet.
    pub(crate) async fn start(config: &Config) -> Result<Self, Error> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .thread_name(format!("broker-{}", config.broker()))
            .enable_all()
            .build()?;
        let begun = Instant::now();
        loop {
            let env = Environment::system(config)?;
            let started = runtime.spawn(Broker::start(config.clone(), env)).await;
            match started.map_err(std::io::Error::other)? {
                Ok(broker) => return Ok(Self { broker, runtime }),
                Err(StartError::Locked(_) | StartError::Bind { .. })
                    if begun.elapsed() < LET_GO_TIMEOUT =>
                {
                    sleep(AGAIN_AFTER).await;
                }
                Err(source) => {
                    runtime.shutdown_background();
                    let source = Box::new(source);
                    return Err(Error::Start { broker: config.broker().0, source });
                }
            }
        }
    }

    /// What the broker waits for; `None` when it takes requests.
    pub(crate) fn not_ready(&self) -> Option<String> {
        self.broker.not_ready()
    }

    /// Ends every task of the broker where it stands; sockets close.
    pub(crate) fn kill(self) {
        let Self { broker, runtime } = self;
        // First: a broker that is dropped while its tasks run would hand its leaderships over.
        runtime.shutdown_background();
        drop(broker);
    }

    /// Stops the broker in order.
    pub(crate) async fn stop(self, within: Duration) {
        let Self { broker, runtime } = self;
        // A panic while it stops shows in its own words.
        drop(runtime.spawn(async move { broker.stop(within).await }).await);
        runtime.shutdown_background();
    }
}
