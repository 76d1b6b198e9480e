//! Broker to broker: one connection per ordered pair, two multiplexed streams on it, all groups.
//!
//! [`peer`] dials and keeps a [`session`] per stream; [`server`] takes the other end and hands each
//! group its messages; [`network`] is what openraft sees; [`wire`] converts; [`reading`] is for logs that
//! have lost something.

pub(crate) mod connector;
pub(crate) mod network;
pub(crate) mod peer;
pub(crate) mod reading;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod wire;

/// The largest message of the stream in bytes: one entry of the largest size, and its envelope.
pub(crate) const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Requests gathered into one message of the stream.
const REQUESTS_PER_MESSAGE: usize = 256;

/// Bytes of payload after which a message of the stream is sent.
const MESSAGE_BYTES_SOON: usize = 1024 * 1024;

/// Requests that one append stream may have unanswered.
pub(crate) const STREAM_WINDOW: usize = 32;

/// Payload bytes that one connection may have queued and not yet handed to HTTP/2.
const LINK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// HTTP/2 flow-control window of one stream in bytes.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// HTTP/2 flow-control window of one connection in bytes.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 32 * 1024 * 1024;
