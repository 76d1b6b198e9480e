//! What a node of a test stands on: a disk that may lose power, a flusher that can be held back, and
//! connections that are counted and can fall silent.

use std::collections::BTreeSet;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tidelog_log::disk::{Disk, OsDisk};
use tidelog_log::flusher::{FlushJob, Flusher, ThreadFlusher};
use tidelog_log::sim::SimDisk;
use tidelog_raft::{BoxedIo, Connector, Dial, TcpConnector};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The surroundings of one node; they outlive it, as a machine outlives a process.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) disk: Arc<dyn Disk>,
    /// The same disk, when it is a simulated one.
    pub(crate) sim: Option<SimDisk>,
    pub(crate) valve: Arc<Valve>,
    /// Connections that the node has made and that are open.
    pub(crate) open: Arc<AtomicUsize>,
}

impl World {
    /// A real disk, with `data` on it.
    pub(crate) fn real(data: &Path) -> Self {
        std::fs::create_dir_all(data).unwrap();
        Self::on(Arc::new(OsDisk), None)
    }

    /// A simulated disk, with `data` on it.
    pub(crate) fn simulated(data: &Path) -> Self {
        let disk = SimDisk::new();
        let mut dirs: Vec<_> = data.ancestors().filter(|dir| dir.parent().is_some()).collect();
        dirs.reverse();
        dirs.into_iter().for_each(|dir| disk.create_dir(dir).unwrap());
        // Durable from the beginning, as a data directory that an operator has made.
        let disk = SimDisk::of(disk.image());
        Self::on(Arc::new(disk.clone()), Some(disk))
    }

    fn on(disk: Arc<dyn Disk>, sim: Option<SimDisk>) -> Self {
        Self { disk, sim, valve: Valve::open(), open: Arc::default() }
    }
}

/// A flusher that lets everything through, or holds it back until it is told.
#[derive(Debug)]
pub(crate) struct Valve {
    threads: ThreadFlusher,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held(Option<Vec<Arc<dyn FlushJob>>>);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0.as_ref().map(Vec::len))
    }
}

impl Valve {
    fn open() -> Arc<Self> {
        Arc::new(Self { threads: ThreadFlusher::new(4).unwrap(), held: Mutex::default() })
    }

    /// From now on nothing is written or synced.
    pub(crate) fn hold(&self) {
        self.held.lock().unwrap().0.get_or_insert_default();
    }

    /// Writes and syncs what waits, on the caller, and goes on holding back.
    pub(crate) fn let_through(&self) {
        let jobs = self.held.lock().unwrap().0.as_mut().map(std::mem::take);
        jobs.into_iter().flatten().for_each(|job| job.flush());
    }

    /// Lets everything through again.
    pub(crate) fn release(&self) {
        let jobs = self.held.lock().unwrap().0.take();
        jobs.into_iter().flatten().for_each(|job| self.threads.submit(job));
    }
}

impl Flusher for Valve {
    fn submit(&self, job: Arc<dyn FlushJob>) {
        let mut held = self.held.lock().unwrap();
        match &mut held.0 {
            Some(jobs) => jobs.push(job),
            None => self.threads.submit(job),
        }
    }
}

/// The connections of a cluster. A node can fall silent, as one whose machine hangs does: nothing is
/// closed and nothing refused, but no byte reaches it or comes from it any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wires {
    silent: Arc<Mutex<BTreeSet<String>>>,
}

impl Wires {
    /// From now on, and for good, the node at `address` is silent.
    pub(crate) fn silence(&self, address: String) {
        self.silent.lock().unwrap().insert(address);
    }

    fn are_silent(&self, ends: &[String; 2]) -> bool {
        let silent = self.silent.lock().unwrap();
        ends.iter().any(|end| silent.contains(end))
    }
}

/// One node's way to the others: dials over TCP and counts what is open.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    /// Where the node itself listens.
    pub(crate) from: String,
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) wires: Wires,
}

impl Connector for Dialer {
    fn connect(&self, address: String) -> Dial {
        let Self { from, open, wires } = self.clone();
        Box::pin(async move {
            let ends = [from, address.clone()];
            let io = TcpConnector.connect(address).await?;
            open.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(Wire { io, open, ends, wires }) as BoxedIo)
        })
    }
}

struct Wire {
    io: BoxedIo,
    open: Arc<AtomicUsize>,
    ends: [String; 2],
    wires: Wires,
}

impl Wire {
    /// What to poll; `None`, for ever, once one of the ends is silent.
    fn alive(&mut self) -> Option<Pin<&mut BoxedIo>> {
        (!self.wires.are_silent(&self.ends)).then(|| Pin::new(&mut self.io))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.alive().map_or(Poll::Pending, |io| io.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.alive().map_or(Poll::Pending, |io| io.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.alive().map_or(Poll::Pending, |io| io.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.alive().map_or(Poll::Pending, |io| io.poll_shutdown(cx))
    }
}
