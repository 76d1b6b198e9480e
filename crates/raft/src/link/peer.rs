//! One other broker: its connection, kept open, and whether it lives.
//!
//! The node finds out about a death faster than any group's election timeout would: a process that
//! died closes its connections and its port refuses; one that froze or was cut off misses probes.

use std::borrow::Cow;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tidelog_proto::v1::raft_request::Body as Ask;
use tidelog_proto::v1::raft_response::Body as Answer;
use tidelog_proto::v1::{Probe, RaftResponse, StreamHello};
use tidelog_types::NodeId;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;
use tracing::{debug, info};

use super::connector::{self, Connector};
use super::server;
use super::session::Session;

/// Whether a peer answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerStatus {
    /// Not reached yet since this node started.
    Unknown,
    /// Its probes are answered.
    Live,
    /// Its port refuses, or it missed its probes.
    Dead,
}

/// How the peer's task behaves in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probing {
    /// Pause between two probes, and the longest pause between two dials.
    pub(crate) every: Duration,
    /// Silence after which a connected peer counts as dead.
    pub(crate) missed: Duration,
}

/// The shortest pause between two dials.
const REDIAL_MIN: Duration = Duration::from_millis(10);

/// The longest pause between two dials of a dead peer.
const REDIAL_MAX: Duration = Duration::from_millis(200);

/// How long a connection must have lasted for the next dial to be made at once.
const STABLE_AFTER: Duration = Duration::from_secs(1);

/// Why a peer is not reached.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Refused(Status),
    /// It has shut this node out.
    #[error("{0}")]
    CastOut(String),
}

impl From<Status> for DialError {
    fn from(status: Status) -> Self {
        match status.metadata().contains_key(server::SHUT_OUT) {
            true => Self::CastOut(status.message().to_owned()),
            false => Self::Refused(status),
        }
    }
}

/// The two streams of a live connection, and the connection for snapshots.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) appends: Arc<Session>,
    pub(crate) control: Arc<Session>,
    pub(crate) channel: Channel,
}

/// One other broker.
#[derive(Debug)]
pub(crate) struct Peer {
    hello: StreamHello,
    node: NodeId,
    connection: RwLock<Option<Connection>>,
    status: watch::Sender<PeerStatus>,
    address: watch::Sender<Option<String>>,
    /// Where it said itself that it listens, when it called.
    said: Mutex<Option<String>>,
    /// Whether it said that its disk is nearly full.
    low_on_space: AtomicBool,
    /// Whether it said on this connection that it understands beats, or does not.
    takes_beats: Mutex<Option<bool>>,
    /// Told why the peer has shut this node out.
    cast_out: watch::Sender<Option<String>>,
    /// Told of each death, which a watch could swallow when the peer is back at once.
    deaths: mpsc::UnboundedSender<NodeId>,
}

impl Peer {
    /// A peer that its task has yet to reach.
    pub(crate) fn new(
        hello: StreamHello,
        node: NodeId,
        deaths: mpsc::UnboundedSender<NodeId>,
        cast_out: watch::Sender<Option<String>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            hello,
            node,
            connection: RwLock::new(None),
            status: watch::Sender::new(PeerStatus::Unknown),
            address: watch::Sender::new(None),
            said: Mutex::new(None),
            low_on_space: AtomicBool::new(false),
            takes_beats: Mutex::default(),
            cast_out,
            deaths,
        })
    }

    /// The peer's node.
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// What this node says of itself when it opens a stream to the peer.
    pub(crate) fn hello(&self) -> StreamHello {
        self.hello.clone()
    }

    /// Ends the connection; whoever calls has stopped the task, or taken the address away.
    pub(crate) fn close(&self) {
        if let Some(connection) = self.connection() {
            connection.control.close();
            connection.appends.close();
        }
        self.set_connection(None);
    }

    /// Tells where the peer listens.
    pub(crate) fn set_address(&self, address: Option<String>) {
        self.address.send_if_modified(|known| {
            let news = *known != address;
            *known = address;
            news
        });
    }

    /// It says itself where it listens.
    pub(crate) fn said(&self, address: &str) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some(address.to_owned());
    }

    /// Where to dial, `tries` times after it was reached last: every other time where it said itself.
    fn place<'a>(&self, told: &'a str, tries: u32) -> Cow<'a, str> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match &*said {
            Some(said) if tries % 2 == 1 => Cow::Owned(said.clone()),
            _ => Cow::Borrowed(told),
        }
    }

    /// Whether it lives, as it changes.
    pub(crate) fn status(&self) -> watch::Receiver<PeerStatus> {
        self.status.subscribe()
    }

    /// The live connection, if there is one.
    pub(crate) fn connection(&self) -> Option<Connection> {
        self.connection.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_connection(&self, connection: Option<Connection>) {
        *self.connection.write().unwrap_or_else(PoisonError::into_inner) = connection;
    }

    /// Dials, serves the connection until it breaks, and dials again; ends when dropped.
    pub(crate) async fn run(self: Arc<Self>, connector: Arc<dyn Connector>, probing: Probing) {
        let mut addresses = self.address.subscribe();
        let mut pause = REDIAL_MIN;
        let mut run = None;
        let mut tries = 0;
        loop {
            let Some(address) = addresses.borrow_and_update().clone() else {
                if *self.status.borrow() == PeerStatus::Live {
                    // It was shut out.
                    self.mark(PeerStatus::Dead);
                }
                // The sender lives in `self`, so this ends only with a new address.
                if addresses.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let address = self.place(&address, tries);
            tries += 1;
            match timeout(probing.missed, self.dial(&*connector, &address)).await {
                // It was shut out meanwhile, or is elsewhere.
                Ok(Ok(_)) if addresses.has_changed().unwrap_or(true) => {}
                Ok(Ok(connection)) => {
                    // Where it was found it is looked for first, if the connection breaks.
                    tries -= 1;
                    let began = Instant::now();
                    self.serve(connection, probing, &mut run).await;
                    // A connection that breaks as soon as it is made is not dialled in a loop.
                    if began.elapsed() >= STABLE_AFTER {
                        pause = REDIAL_MIN;
                    } else {
                        sleep(pause).await;
                        pause = (pause * 2).min(REDIAL_MAX);
                    }
                }
                Ok(Err(err)) => {
                    if let DialError::CastOut(reason) = &err {
                        let told = format!("broker {} says: {reason}", self.node.broker);
                        self.cast_out.send_replace(Some(told));
                    }
                    debug!(node = %self.node, %address, %err, "peer not reached");
                    self.mark(PeerStatus::Dead);
                    sleep(pause).await;
                    pause = (pause * 2).min(REDIAL_MAX);
                }
                Err(_) => self.mark(PeerStatus::Dead),
            }
        }
    }

    async fn dial(
        &self,
        connector: &dyn Connector,
        address: &str,
    ) -> Result<Connection, DialError> {
        let channel = connector::channel(connector, address).await?;
        let appends = Session::open(channel.clone(), self.hello.clone());
        let control = Session::open(channel.clone(), self.hello.clone());
        let (appends, control) = futures_util::future::try_join(appends, control).await?;
        Ok(Connection { appends, control, channel })
    }

    /// Probes the connection until it breaks or falls silent.
    async fn serve(&self, connection: Connection, probing: Probing, run: &mut Option<u64>) {
        let control = Arc::clone(&connection.control);
        let appends = Arc::clone(&connection.appends);
        // It may be another version by now.
        *self.takes_beats.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.set_connection(Some(connection));
        self.mark(PeerStatus::Live);

        let silence = async {
            loop {
                let asked = Instant::now();
                let probe = control.call(Vec::new(), Ask::Probe(Probe {}));
                match timeout(probing.missed, probe).await {
                    Ok(Ok(answer)) => self.note(&answer, run),
                    // The stream has ended, which the other arms see.
                    Ok(Err(_)) => {}
                    // This process may itself have stood still: then answers wait to be read.
                    Err(_) if asked.elapsed() > probing.missed * 3 / 2 => {}
                    Err(_) => {
                        let heard = control.last_heard().max(appends.last_heard());
                        if heard.elapsed() >= probing.missed {
                            return;
                        }
                    }
                }
                sleep(probing.every.saturating_sub(asked.elapsed())).await;
            }
        };
        tokio::select! {
            biased;
            () = control.ended() => debug!(node = %self.node, "control stream ended"),
            () = appends.ended() => debug!(node = %self.node, "append stream ended"),
            () = silence => self.mark(PeerStatus::Dead),
        }
        self.set_connection(None);
        control.close();
        appends.close();
        // A broken connection alone is no death: the next dial tells, at once.
    }

    /// Whether it said that its disk is nearly full, when it was heard of last.
    pub(crate) fn is_low_on_space(&self) -> bool {
        self.low_on_space.load(Ordering::Relaxed)
    }

    /// Whether it understands beats; `None` until it has said so, each time that it is reached.
    pub(crate) fn takes_beats(&self) -> Option<bool> {
        let said = *self.takes_beats.lock().unwrap_or_else(PoisonError::into_inner);
        said.filter(|_| *self.status.borrow() == PeerStatus::Live)
    }

    /// A peer that answers as another run has died in between, however short that was.
    fn note(&self, answer: &RaftResponse, run: &mut Option<u64>) {
        let Some(Answer::Probe(reply)) = &answer.body else { return };
        self.low_on_space.store(reply.low_on_space, Ordering::Relaxed);
        *self.takes_beats.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply.beats);
        if run.replace(reply.run).is_some_and(|before| before != reply.run) {
            info!(node = %self.node, "peer restarted");
            self.tell_death();
        }
    }

    fn tell_death(&self) {
        // Nobody listens when the node is stopping.
        let _ = self.deaths.send(self.node);
    }

    fn mark(&self, status: PeerStatus) {
        let changed = self.status.send_if_modified(|known| {
            let news = *known != status;
            *known = status;
            news
        });
        if changed {
            info!(node = %self.node, ?status, "peer changed");
            if status == PeerStatus::Dead {
                self.tell_death();
            }
        }
    }
}
