//! Connections to the other brokers' internal listeners, for what one broker forwards to another.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tidelog_raft::Connector;
use tonic::transport::{Channel, Endpoint};

use crate::limits;

/// How long a dial may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// One connection per address, dialed when it is first used and again when it broke.
#[derive(Debug)]
pub(crate) struct Others {
    connector: Arc<dyn Connector>,
    channels: Mutex<BTreeMap<String, Channel>>,
}

impl Others {
    pub(crate) fn new(connector: Arc<dyn Connector>) -> Self {
        Self { connector, channels: Mutex::default() }
    }

    /// The connection to `address`.
    pub(crate) fn channel(&self, address: &str) -> io::Result<Channel> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = self.open(address)?;
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Forgets addresses at which no broker is any more.
    pub(crate) fn keep(&self, known: impl Fn(&str) -> bool) {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.retain(|address, _| known(address));
    }

    fn open(&self, address: &str) -> io::Result<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|err| io::Error::new(io::ErrorKind::InvalidInput, err))?
            .connect_timeout(DIAL_TIMEOUT)
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
