//! How a broker dials another: a seam, so that a simulated network can take its place.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Mutex;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use super::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};

/// A byte stream to a broker.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A byte stream to a broker, boxed.
pub type BoxedIo = Box<dyn Io>;

/// A dial in progress.
pub type Dial = Pin<Box<dyn Future<Output = io::Result<BoxedIo>> + Send>>;

/// Dials brokers.
pub trait Connector: Send + Sync + fmt::Debug + 'static {
    /// Connects to `address`, a `host:port`.
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

/// Connects to `address` and speaks HTTP/2 on it. The connection is used once: when it breaks, the
/// channel is broken for good and its owner dials again, knowing why.
///
/// # Errors
/// As the dial fails; `ConnectionRefused` is what tells a dead process from a slow one.
pub(crate) async fn channel(connector: &dyn Connector, address: &str) -> io::Result<Channel> {
    let io = connector.connect(address.to_owned()).await?;
    let once = Mutex::new(Some(io));
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|err| io::Error::new(io::ErrorKind::InvalidInput, err))?
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let dial = tower::service_fn(move |_| {
        let io = once.lock().ok().and_then(|mut io| io.take());
        std::future::ready(
            io.map(TokioIo::new)
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "connection was lost")),
        )
    });
    endpoint.connect_with_connector(dial).await.map_err(io::Error::other)
}
