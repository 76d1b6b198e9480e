//! Connections: HTTP/2 with every limit stated.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};

use crate::{Environment, Error};

/// A dial that takes longer has failed.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// How much a broker may send on one stream, and on one connection, before it is read.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// A connection over which nothing came for so long is asked for a sign of life, and then given up.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// The largest message with batches in it: the largest batch that any topic may allow, 16 MiB, and
/// what a fetch adds to it.
pub(crate) const BATCH_MESSAGE_BYTES_MAX: usize = 25 << 20;
/// The largest answer to any other call.
pub(crate) const RESPONSE_BYTES_MAX: usize = 16 << 20;

pub(super) fn endpoint(address: &str, client_id: &str) -> Result<Endpoint, Error> {
    let refused = |reason: String| Error::Setting {
        key: "bootstrap.servers".to_owned(),
        value: address.to_owned(),
        reason,
    };
    if address
        .rsplit_once(':')
        .is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err())
    {
        return Err(refused("is not host:port".to_owned()));
    }
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| refused("is not host:port".to_owned()))?;
    let endpoint = endpoint.user_agent(client_id).map_err(|_| Error::Setting {
        key: "client.id".to_owned(),
        value: client_id.to_owned(),
        reason: "is not plain text".to_owned(),
    })?;
    Ok(endpoint
        .connect_timeout(DIAL_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// A connection to `address` that is made at its first use, and again after it broke.
pub(super) fn dial(
    environment: &Environment,
    address: &str,
    client_id: &str,
) -> Result<Channel, Error> {
    let endpoint = endpoint(address, client_id)?;
    let connector = environment.connector.clone();
    let address = address.to_owned();
    let dial = tower::service_fn(move |_| {
        let dial = connector.connect(address.clone());
        async move { dial.await.map(TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector_lazy(dial))
}
