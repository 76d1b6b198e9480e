//! A connection of a gRPC listener, as HTTP/2 gets it: counted, and cut off when it says nothing.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tidelog_raft::BoxedIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;

/// What HTTP/2 clients send first (RFC 9113, 3.4).
const PREFACE_BYTES: usize = 24;

/// A connection. Until the preface has come it must hurry; while it lives it holds a permit.
pub(crate) struct Guarded {
    io: BoxedIo,
    preface: Option<Waiting>,
    _permit: OwnedSemaphorePermit,
}

struct Waiting {
    bytes: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Guarded {
    pub(crate) fn new(io: BoxedIo, permit: OwnedSemaphorePermit, patience: Duration) -> Self {
        let preface = Some(Waiting { bytes: 0, deadline: Box::pin(sleep(patience)) });
        Self { io, preface, _permit: permit }
    }
}

impl Connected for Guarded {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buffer);
        let Some(waiting) = &mut this.preface else { return polled };
        waiting.bytes += buffer.filled().len() - before;
        if waiting.bytes >= PREFACE_BYTES {
            this.preface = None;
            return polled;
        }
        if polled.is_pending() && waiting.deadline.as_mut().poll(cx).is_ready() {
            let late = io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 preface in time");
            return Poll::Ready(Err(late));
        }
        polled
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::sync::Semaphore;

    async fn guarded() -> (Guarded, tokio::io::DuplexStream, Arc<Semaphore>) {
        let (client, server) = duplex(64);
        let room = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&room).acquire_owned().await.unwrap();
        (Guarded::new(Box::new(server), permit, Duration::from_secs(10)), client, room)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_is_cut_off_and_gives_its_place_back() {
        let (mut guarded, mut client, room) = guarded().await;
        client.write_all(b"PRI").await.unwrap();
        let mut bytes = [0; 64];
        assert_eq!(guarded.read(&mut bytes).await.unwrap(), 3);
        assert_eq!(room.available_permits(), 0);
        let err = guarded.read(&mut bytes).await.unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::TimedOut);
        drop(guarded);
        assert_eq!(room.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_preface_silence_is_allowed() {
        let (mut guarded, mut client, _room) = guarded().await;
        client.write_all(&[b'x'; PREFACE_BYTES]).await.unwrap();
        let mut bytes = [0; PREFACE_BYTES];
        guarded.read_exact(&mut bytes).await.unwrap();
        let silence = tokio::time::timeout(Duration::from_secs(60), guarded.read(&mut bytes));
        assert!(silence.await.is_err());
    }
}
