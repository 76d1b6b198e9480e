//! What a client needs of its surroundings: a seam, so that a simulated world can take their place.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tidelog_types::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A byte stream to a broker.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A byte stream to a broker, boxed.
pub type BoxedIo = Box<dyn Io>;

/// A dial in progress.
pub type Dial = Pin<Box<dyn Future<Output = io::Result<BoxedIo>> + Send>>;

/// Dials brokers.
pub trait Connector: Send + Sync + fmt::Debug + 'static {
    /// Connects to `address`, a `host:port`. The client gives up by itself after its connect timeout.
    fn connect(&self, address: String) -> Dial;
}

/// Dials over TCP with `TCP_NODELAY`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn connect(&self, address: String) -> Dial {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxedIo)
        })
    }
}

/// The wall clock, for the timestamps of records only.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// The time.
    fn now(&self) -> Timestamp;
}

/// The machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Randomness: spreads load, decides nothing that must be safe.
pub trait Entropy: Send + Sync + 'static {
    /// A random number.
    fn next(&self) -> u64;
}

impl<F: Fn() -> u64 + Send + Sync + 'static> Entropy for F {
    fn next(&self) -> u64 {
        self()
    }
}

/// The surroundings of a client. The default is the real world.
#[derive(Clone)]
pub struct Environment {
    /// Dials brokers.
    pub connector: Arc<dyn Connector>,
    /// Stamps records that come without a time.
    pub clock: Arc<dyn Clock>,
    /// Spreads load.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            connector: Arc::new(TcpConnector),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(rand::random::<u64>),
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("connector", &self.connector)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}
