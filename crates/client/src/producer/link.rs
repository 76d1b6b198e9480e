//! One produce stream to one broker, shared by the partitions that it leads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidelog_proto::v1::log_service_client::LogServiceClient;
use tidelog_proto::v1::produce_response::Result as Outcome;
use tidelog_proto::v1::{self, ProduceRequest, ProduceResponse};
use tidelog_types::{Offset, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;

use super::completion::Written;
use crate::Error;
use crate::cluster::{BATCH_MESSAGE_BYTES_MAX, Cluster, locked};

/// A stream that is not open after so long has failed.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);

/// A broker's answer to a request, by its number.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) request: u64,
    pub(super) outcome: Result<Written, v1::Error>,
}

/// How a link is. It never comes back from `Failed`.
#[derive(Clone, Debug)]
enum State {
    Opening,
    Open,
    Failed(Error),
}

/// One produce stream. Dropped it closes the stream.
pub(super) struct Link {
    address: String,
    shared: Arc<Shared>,
    // Not bounded here: what is in it has its place in the producer's buffer, which is.
    requests: mpsc::UnboundedSender<ProduceRequest>,
    task: AbortHandle,
}

struct Shared {
    state: watch::Sender<State>,
    /// Who waits for the answer to which request.
    waiting: Mutex<HashMap<u64, mpsc::UnboundedSender<Answer>>>,
}

impl Link {
    fn open(cluster: &Cluster, address: &str) -> Result<Arc<Self>, Error> {
        let channel = cluster.dial(address)?;
        let (requests, outgoing) = mpsc::unbounded_channel();
        let (state, waiting) = (watch::Sender::new(State::Opening), Mutex::default());
        let shared = Arc::new(Shared { state, waiting });
        let run = run(Arc::clone(&shared), address.to_owned(), channel, outgoing);
        let task = tokio::spawn(run).abort_handle();
        Ok(Arc::new(Self { address: address.to_owned(), shared, requests, task }))
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Waits until the broker has taken the stream.
    pub(super) async fn opened(&self) -> Result<(), Error> {
        let mut state = self.shared.state.subscribe();
        // The sender lives as long as this link.
        let state = state.wait_for(|state| !matches!(state, State::Opening)).await;
        match state.as_deref() {
            Ok(State::Failed(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Waits until the stream has failed.
    pub(super) async fn failed(&self) -> Error {
        let mut state = self.shared.state.subscribe();
        let state = state.wait_for(|state| matches!(state, State::Failed(_))).await;
        match state.as_deref() {
            Ok(State::Failed(error)) => error.clone(),
            _ => Error::protocol(&self.address, "stream is gone"),
        }
    }

    fn has_failed(&self) -> bool {
        matches!(*self.shared.state.borrow(), State::Failed(_))
    }

    /// Sends a request; its answer goes to `answers`, unless the link fails.
    pub(super) fn send(&self, request: ProduceRequest, answers: &mpsc::UnboundedSender<Answer>) {
        locked(&self.shared.waiting).insert(request.correlation_id, answers.clone());
        // When it fails the link has failed, and tells so by its state.
        let _ = self.requests.send(request);
    }

    /// Gives the stream up.
    pub(super) fn fail(&self, error: Error) {
        self.task.abort();
        self.shared.fail(error);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn fail(&self, error: Error) {
        self.state.send_if_modified(|state| {
            let alive = !matches!(state, State::Failed(_));
            if alive {
                *state = State::Failed(error);
            }
            alive
        });
        locked(&self.waiting).clear();
    }

    fn answer(&self, address: &str, response: ProduceResponse) -> Result<(), Error> {
        let request = response.correlation_id;
        let waiting = locked(&self.waiting).remove(&request);
        let waiting = waiting.ok_or_else(|| {
            Error::protocol(address, format!("an answer to request {request}, which is unknown"))
        })?;
        let outcome = match response.result {
            Some(Outcome::Appended(appended)) => {
                let base_offset = Offset::from_wire(appended.base_offset).ok_or_else(|| {
                    Error::protocol(address, format!("base offset {}", appended.base_offset))
                })?;
                Ok(Written { base_offset, append_time: Timestamp(appended.append_time_ms) })
            }
            Some(Outcome::Error(error)) => Err(error),
            None => return Err(Error::protocol(address, "an answer without a result")),
        };
        // Whoever asked may be gone.
        let _ = waiting.send(Answer { request, outcome });
        Ok(())
    }
}

async fn run(
    shared: Arc<Shared>,
    address: String,
    channel: Channel,
    outgoing: mpsc::UnboundedReceiver<ProduceRequest>,
) {
    let error = match converse(&shared, &address, channel, outgoing).await {
        Ok(()) => Error::Unavailable { address, reason: "ended the stream".to_owned() },
        Err(error) => error,
    };
    shared.fail(error);
}

/// Carries requests and answers until the stream ends.
async fn converse(
    shared: &Shared,
    address: &str,
    channel: Channel,
    outgoing: mpsc::UnboundedReceiver<ProduceRequest>,
) -> Result<(), Error> {
    let mut client = LogServiceClient::new(channel)
        .max_encoding_message_size(BATCH_MESSAGE_BYTES_MAX)
        .max_decoding_message_size(BATCH_MESSAGE_BYTES_MAX);
    let opened = timeout(OPEN_TIMEOUT, client.produce(UnboundedReceiverStream::new(outgoing)));
    let ended = |status| Error::from_status(address, &status);
    let mut answers = match opened.await {
        Ok(opened) => opened.map_err(ended)?.into_inner(),
        Err(_) => {
            return Err(Error::TimedOut { address: address.to_owned(), after: OPEN_TIMEOUT });
        }
    };
    shared.state.send_replace(State::Open);
    while let Some(response) = answers.message().await.map_err(ended)? {
        shared.answer(address, response)?;
    }
    Ok(())
}

/// The links of one producer, by address.
pub(super) struct Links {
    links: Mutex<HashMap<String, Arc<Link>>>,
}

impl Links {
    pub(super) fn new() -> Self {
        Self { links: Mutex::default() }
    }

    /// The link to `address`; a new one when there is none or it has failed.
    pub(super) fn to(&self, cluster: &Cluster, address: &str) -> Result<Arc<Link>, Error> {
        let mut links = locked(&self.links);
        if let Some(link) = links.get(address).filter(|link| !link.has_failed()) {
            return Ok(Arc::clone(link));
        }
        let link = Link::open(cluster, address)?;
        links.insert(address.to_owned(), Arc::clone(&link));
        Ok(link)
    }

    /// Closes all streams.
    pub(super) fn close(&self) {
        locked(&self.links).clear();
    }
}
