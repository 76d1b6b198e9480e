//! One multiplexed stream on a live connection, seen from the caller's side.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidelog_proto::v1::raft_request::Body as Ask;
use tidelog_proto::v1::raft_service_client::RaftServiceClient;
use tidelog_proto::v1::{ExchangeRequest, RaftRequest, RaftResponse, StreamHello};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::{LINK_BYTES_MAX, MESSAGE_BYTES_MAX, MESSAGE_BYTES_SOON, REQUESTS_PER_MESSAGE};

/// Messages handed to HTTP/2 ahead of what it has sent.
const MESSAGES_AHEAD: usize = 2;

/// How long the other side may take to accept a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// The stream is gone; whoever waited on it asks again on the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection to the broker was lost")]
pub(crate) struct Lost;

/// Where the answers to one stream id go.
#[derive(Debug)]
enum Waiter {
    Call(oneshot::Sender<RaftResponse>),
    Stream(mpsc::UnboundedSender<RaftResponse>),
}

/// One multiplexed stream. Dropping the last handle ends it.
#[derive(Debug)]
pub(crate) struct Session {
    queue: mpsc::UnboundedSender<Queued>,
    /// `None` once the stream has ended: who registers later is lost at once.
    waiters: Mutex<Option<HashMap<u64, Waiter>>>,
    next_stream: AtomicU64,
    budget: Arc<Semaphore>,
    last_heard: Mutex<Instant>,
    ended: Notify,
    tasks: Mutex<Vec<AbortHandle>>,
}

#[derive(Debug)]
struct Queued {
    request: RaftRequest,
    bytes: usize,
    /// Returned to the budget once the request is in HTTP/2's hands.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Session {
    /// Opens a stream on `channel` and starts its reader and writer. They end with the stream and
    /// then fail everything that waits; [`Session::ended`] tells.
    pub(crate) async fn open(
        channel: Channel,
        hello: StreamHello,
    ) -> Result<Arc<Self>, tonic::Status> {
        let (queue, queued) = mpsc::unbounded_channel();
        let (messages, outgoing) = mpsc::channel(MESSAGES_AHEAD);
        let first = ExchangeRequest { hello: Some(hello), requests: Vec::new() };
        // The channel was made one line above and has room.
        let _ = messages.try_send(first);

        let mut client = RaftServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let exchange = client.exchange(ReceiverStream::new(outgoing));
        let answers = timeout(OPEN_TIMEOUT, exchange)
            .await
            .map_err(|_| tonic::Status::deadline_exceeded("stream was not accepted in time"))??
            .into_inner();

        let session = Arc::new(Self {
            queue,
            waiters: Mutex::new(Some(HashMap::new())),
            next_stream: AtomicU64::new(1),
            budget: Arc::new(Semaphore::new(LINK_BYTES_MAX)),
            last_heard: Mutex::new(Instant::now()),
            ended: Notify::new(),
            tasks: Mutex::default(),
        });
        let writer = tokio::spawn(write(queued, messages)).abort_handle();
        let reader = tokio::spawn(Arc::clone(&session).read(answers)).abort_handle();
        session.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend([writer, reader]);
        Ok(session)
    }

    /// When the last answer of any group came.
    pub(crate) fn last_heard(&self) -> Instant {
        *self.last_heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes when the stream has ended. One waiter at most: the peer's task.
    pub(crate) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Sends one request and waits for its answer. Cancelling forgets the answer.
    pub(crate) async fn call(
        self: &Arc<Self>,
        group: Vec<u8>,
        ask: Ask,
    ) -> Result<RaftResponse, Lost> {
        let (answer, answered) = oneshot::channel();
        let stream = self.register(Waiter::Call(answer));
        let _registered = Registered { session: Arc::clone(self), stream };
        self.push(RaftRequest { group: group.into(), stream, body: Some(ask) }, 0, None)?;
        answered.await.map_err(|_| Lost)
    }

    /// Opens an append stream of one group.
    pub(crate) fn stream(self: &Arc<Self>, group: Vec<u8>) -> AppendStream {
        let (answers, answered) = mpsc::unbounded_channel();
        let stream = self.register(Waiter::Stream(answers));
        let registered = Registered { session: Arc::clone(self), stream };
        AppendStream { registered, group: group.into(), answered }
    }

    fn register(&self, waiter: Waiter) -> u64 {
        let stream = self.next_stream.fetch_add(1, Ordering::Relaxed);
        // Dropping the waiter of an ended stream tells it at once.
        if let Some(waiters) = self.waiters().as_mut() {
            waiters.insert(stream, waiter);
        }
        stream
    }

    fn waiters(&self) -> MutexGuard<'_, Option<HashMap<u64, Waiter>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(
        &self,
        request: RaftRequest,
        bytes: usize,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Lost> {
        self.queue.send(Queued { request, bytes, _permit: permit }).map_err(|_| Lost)
    }

    async fn read(
        self: Arc<Self>,
        mut answers: tonic::Streaming<tidelog_proto::v1::ExchangeResponse>,
    ) {
        // A broken stream and an ended one are the same to the waiters.
        while let Some(Ok(message)) = answers.next().await {
            *self.last_heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            let mut waiters = self.waiters();
            let Some(waiters) = waiters.as_mut() else { return };
            for answer in message.responses {
                match waiters.get(&answer.stream) {
                    // A waiter that went away meanwhile is no error.
                    Some(Waiter::Stream(answers)) => drop(answers.send(answer)),
                    Some(Waiter::Call(_)) => {
                        if let Some(Waiter::Call(call)) = waiters.remove(&answer.stream) {
                            drop(call.send(answer));
                        }
                    }
                    None => {}
                }
            }
        }
        self.close();
    }

    /// Fails everything that waits and everything that will.
    pub(crate) fn close(&self) {
        self.budget.close();
        *self.waiters() = None;
        self.ended.notify_one();
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }
}

/// Gathers what is queued into messages, as many requests as are there.
async fn write(
    mut queued: mpsc::UnboundedReceiver<Queued>,
    messages: mpsc::Sender<ExchangeRequest>,
) {
    let mut ready = Vec::with_capacity(REQUESTS_PER_MESSAGE);
    while queued.recv_many(&mut ready, REQUESTS_PER_MESSAGE).await > 0 {
        let mut message = ExchangeRequest::default();
        let mut bytes = 0;
        for item in ready.drain(..) {
            if bytes > 0 && bytes + item.bytes > MESSAGE_BYTES_SOON {
                if messages.send(std::mem::take(&mut message)).await.is_err() {
                    return;
                }
                bytes = 0;
            }
            bytes += item.bytes;
            message.requests.push(item.request);
        }
        if messages.send(message).await.is_err() {
            return;
        }
    }
}

/// A registered stream id; forgotten on drop.
#[derive(Debug)]
struct Registered {
    session: Arc<Session>,
    stream: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(waiters) = self.session.waiters().as_mut() {
            waiters.remove(&self.stream);
        }
    }
}

/// The appends of one group to one follower: requests out, answers in, both in order.
#[derive(Debug)]
pub(crate) struct AppendStream {
    registered: Registered,
    group: bytes::Bytes,
    answered: mpsc::UnboundedReceiver<RaftResponse>,
}

impl AppendStream {
    /// Reserves room for `bytes` of payload on the connection.
    pub(crate) fn reserve(
        &self,
        bytes: usize,
    ) -> impl Future<Output = Result<OwnedSemaphorePermit, Lost>> + Send + use<> {
        let budget = Arc::clone(&self.registered.session.budget);
        let permits = bytes.min(LINK_BYTES_MAX) as u32;
        async move { budget.acquire_many_owned(permits).await.map_err(|_| Lost) }
    }

    /// Queues a request that holds `bytes` of payload.
    pub(crate) fn send(
        &self,
        ask: Ask,
        bytes: usize,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), Lost> {
        let request = RaftRequest {
            group: self.group.clone(),
            stream: self.registered.stream,
            body: Some(ask),
        };
        self.registered.session.push(request, bytes, Some(permit))
    }

    /// The next answer; `Lost` when the connection is gone. Cancel safe.
    pub(crate) async fn answer(&mut self) -> Result<RaftResponse, Lost> {
        self.answered.recv().await.ok_or(Lost)
    }
}

impl Drop for AppendStream {
    fn drop(&mut self) {
        let end = RaftRequest {
            group: self.group.clone(),
            stream: self.registered.stream,
            body: Some(Ask::End(tidelog_proto::v1::EndStream {})),
        };
        // On a lost connection the other side forgets the stream by itself.
        let _ = self.registered.session.push(end, 0, None);
    }
}
