//! The simulated network as brokers and clients see it, with every byte in the trace.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use tidelog_broker::config::HostPort;
use tidelog_broker::{Listener, ListenerName, Network};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use crate::trace::Trace;

/// The network as one host sees it.
#[derive(Clone, Debug)]
pub(crate) struct HostNetwork {
    host: Arc<str>,
    trace: Trace,
}

impl HostNetwork {
    /// The network of `host`.
    pub(crate) fn new(host: &str, trace: Trace) -> Self {
        Self { host: host.into(), trace }
    }

    fn traced(&self, stream: TcpStream) -> io::Result<TracedStream> {
        let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
        let name = format!("{} {local} {peer}", self.host);
        self.trace.line(format_args!("net {name} connected"));
        Ok(TracedStream { stream, name, trace: self.trace.clone() })
    }

    async fn dial(self, address: String) -> io::Result<TracedStream> {
        match TcpStream::connect(address.as_str()).await {
            Ok(stream) => self.traced(stream),
            Err(err) => {
                self.trace.line(format_args!("net {} {address} {}", self.host, err.kind()));
                Err(err)
            }
        }
    }
}

impl tidelog_raft::Connector for HostNetwork {
    fn connect(&self, address: String) -> tidelog_raft::Dial {
        let dial = self.clone().dial(address);
        Box::pin(async { Ok(Box::new(dial.await?) as tidelog_raft::BoxedIo) })
    }
}

impl tidelog_client::Connector for HostNetwork {
    fn connect(&self, address: String) -> tidelog_client::Dial {
        let dial = self.clone().dial(address);
        Box::pin(async { Ok(Box::new(dial.await?) as tidelog_client::BoxedIo) })
    }
}

impl Network for HostNetwork {
    fn bind<'a>(
        &'a self,
        _name: ListenerName,
        address: &'a HostPort,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind((address.host.as_str(), address.port)).await?;
            let network = self.clone();
            Ok(Box::new(HostListener { listener, network }) as Box<dyn Listener>)
        })
    }
}

struct HostListener {
    listener: TcpListener,
    network: HostNetwork,
}

impl Listener for HostListener {
    fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<tidelog_raft::BoxedIo>> {
        Box::pin(async move {
            let (stream, _) = self.listener.accept().await?;
            Ok(Box::new(self.network.traced(stream)?) as tidelog_raft::BoxedIo)
        })
    }
}

/// A connection that tells what goes over it.
struct TracedStream {
    stream: TcpStream,
    name: String,
    trace: Trace,
}

impl TracedStream {
    fn told(&self, what: &str, bytes: &[u8]) {
        let (length, crc) = (bytes.len(), crc32c::crc32c(bytes));
        self.trace.line(format_args!("net {} {what} {length} {crc:08x}", self.name));
    }
}

impl fmt::Debug for TracedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracedStream").field("name", &self.name).finish_non_exhaustive()
    }
}

impl AsyncRead for TracedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        self.told("received", &buffer.filled()[before..]);
        Poll::Ready(read)
    }
}

impl AsyncWrite for TracedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.told("sent", &bytes[..written.as_ref().copied().unwrap_or_default()]);
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.told("closed", &[]);
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
