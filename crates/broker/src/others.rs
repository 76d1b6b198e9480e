//! Connections to the other brokers' internal listeners, for what one broker forwards to another.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tidelog_raft::Connector;
use tonic::transport::{Channel, Endpoint};

use crate::limits;

/// How long a dial may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a connection is tried, used or not. On one that silently broke every call would time out,
/// for as long as the system takes to notice: a quarter of an hour.
const PING_EVERY: Duration = Duration::from_secs(2);

/// How long the answer to a ping may take before the connection is dialed anew.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections per address for calls that wait. HTTP/2 holds a call up when its connection has as many
/// as it may have, so calls that wait must not share one with calls that do not.
const WAITING_CONNECTIONS: usize = 4;

// Every call of the group service may wait at the same broker, and as many reads besides.
const _: () = assert!(
    WAITING_CONNECTIONS * limits::INTERNAL_STREAMS_PER_CONNECTION_MAX as usize
        >= 2 * limits::GROUP_CALLS_MAX
);

/// Connections per address, dialed when they are first used and again when they broke.
#[derive(Debug)]
pub(crate) struct Others {
    connector: Arc<dyn Connector>,
    links: Mutex<BTreeMap<String, Links>>,
}

/// The connections to one address.
#[derive(Debug)]
struct Links {
    short: Channel,
    waiting: Vec<Channel>,
    /// Which of `waiting` is next.
    turn: usize,
}

impl Others {
    pub(crate) fn new(connector: Arc<dyn Connector>) -> Self {
        Self { connector, links: Mutex::default() }
    }

    /// The connection to `address` for calls that are answered at once.
    pub(crate) fn channel(&self, address: &str) -> io::Result<Channel> {
        self.with(address, |links| links.short.clone())
    }

    /// A connection to `address` for a call that may wait for news before it is answered. Such calls
    /// take turns among a few connections.
    pub(crate) fn waiting_channel(&self, address: &str) -> io::Result<Channel> {
        self.with(address, |links| {
            links.turn = (links.turn + 1) % links.waiting.len();
            links.waiting[links.turn].clone()
        })
    }

    /// Forgets addresses at which no broker is any more.
    pub(crate) fn keep(&self, known: impl Fn(&str) -> bool) {
        self.lock().retain(|address, _| known(address));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Links>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(
        &self,
        address: &str,
        choose: impl FnOnce(&mut Links) -> Channel,
    ) -> io::Result<Channel> {
        let mut links = self.lock();
        if let Some(known) = links.get_mut(address) {
            return Ok(choose(known));
        }
        let waiting = (0..WAITING_CONNECTIONS).map(|_| self.open(address));
        let new = Links {
            short: self.open(address)?,
            waiting: waiting.collect::<io::Result<_>>()?,
            turn: 0,
        };
        Ok(choose(links.entry(address.to_owned()).or_insert(new)))
    }

    fn open(&self, address: &str) -> io::Result<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|err| io::Error::new(io::ErrorKind::InvalidInput, err))?
            .connect_timeout(DIAL_TIMEOUT)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            // A call gives up before a ping does: only pings between calls find a dead connection.
            .keep_alive_while_idle(true)
            .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES);
        let (connector, address) = (Arc::clone(&self.connector), address.to_owned());
        let dial = tower::service_fn(move |_| {
            let dial = connector.connect(address.clone());
            async move { dial.await.map(TokioIo::new) }
        });
        Ok(endpoint.connect_with_connector_lazy(dial))
    }
}
