//! The other end of the streams: hands each group its messages and answers in order per stream.
//!
//! The demultiplexer never waits on a group: every stream of a group has a task of its own, and a
//! caller that sends more than its window is cut off.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use openraft::EntryPayload;
use openraft::errors::Fatal;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendResult, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use tidelog_log::{Log, StartPoint};
use tidelog_proto::v1::raft_request::Body as Ask;
use tidelog_proto::v1::raft_response::Body as Answer;
use tidelog_proto::v1::raft_service_server::RaftService;
use tidelog_proto::v1::{self, ExchangeResponse, RaftRequest, RaftResponse};
use tidelog_types::{GroupId, LogIndex, NodeId, Term};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;

use super::{REQUESTS_PER_MESSAGE, STREAM_WINDOW, reading, wire};
use crate::config::{Entry, Proposal, TypeConfig, Vote};
use crate::executor::Executor;

/// Messages of answers handed to HTTP/2 ahead of what it has sent.
const MESSAGES_AHEAD: usize = 4;

/// The most calls of one group that a caller has under way while the disk is full.
const CALLS_PER_GROUP_MAX: usize = 8;

/// The largest start point in bytes that is taken from the wire.
pub(super) const SNAPSHOT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Calls of `ReadLog` that are answered at a time: repair must not take the disk from everybody else.
const READINGS_MAX: usize = 4;

/// What the refusal of a node that was shut out carries: on hearing it, that node ends.
pub(super) const SHUT_OUT: &str = "tidelog-shut-out";

/// One group, as the streams reach it.
pub(crate) trait Port: Send + Sync + fmt::Debug {
    /// Appends in order; answers in order; ends after an error.
    fn append(
        &self,
        input: BoxStream<'static, AppendEntriesRequest<TypeConfig>>,
    ) -> BoxStream<'static, Result<StreamAppendResult<TypeConfig>, Fatal<TypeConfig>>>;
    /// Answers a vote.
    fn vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> BoxFuture<'static, Result<VoteResponse<TypeConfig>, String>>;
    /// Answers a pre-vote.
    fn pre_vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> BoxFuture<'static, Result<VoteResponse<TypeConfig>, String>>;
    /// Takes leadership over from a leader that agrees.
    fn transfer(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> BoxFuture<'static, Result<(), String>>;
    /// Stands for election past the lease of the present leader.
    fn campaign(&self) -> BoxFuture<'static, Result<(), String>>;
    /// Installs a start point.
    fn install(&self, vote: Vote, start: StartPoint) -> BoxFuture<'static, Result<Vote, String>>;
    /// The vote by which this replica leads, once a quorum has confirmed that it does.
    fn confirm(&self) -> BoxFuture<'static, Result<Vote, String>>;
    /// The log.
    fn log(&self) -> Arc<Log>;
    /// Sleeps under `leader` of `term`, whose last entry is at `last`, or sleeps on; `false` when it does not.
    fn sleep_under(&self, leader: NodeId, term: Term, last: LogIndex) -> bool;
}

/// Finds the groups of this node.
pub(crate) trait Groups: Send + Sync + fmt::Debug + 'static {
    /// The group's port; `None` when it is not served here.
    fn port(&self, group: GroupId) -> Option<Arc<dyn Port>>;

    /// A node that calls says where it listens.
    fn met(&self, node: NodeId, address: &str);

    /// Where logs are read for others.
    fn executor(&self) -> Arc<dyn Executor>;

    /// Whether `node` was declared lost for good.
    fn is_shut_out(&self, node: NodeId) -> bool;

    /// How far replicas are here, after nodes were shut out.
    fn survey(&self, asked: v1::SurveyRequest)
    -> BoxFuture<'_, Result<v1::SurveyResponse, Status>>;

    /// Whether this node's disk is nearly full.
    fn is_low_on_space(&self) -> bool;

    /// Whether there is room for more records, of whichever group.
    fn takes_records(&self) -> bool;

    /// Whether something here waits for room on the disk, the votes maybe.
    fn is_full(&self) -> bool;
}

/// Answers who this broker is, in every phase of its life.
pub trait Introduce: Send + Sync + fmt::Debug + 'static {
    /// Who this broker is, told to a broker that asks.
    fn introduce(&self, asker: &v1::IntroduceRequest) -> v1::IntroduceResponse;
}

/// The gRPC service of the streams.
#[derive(Clone, Debug)]
pub struct RaftServer {
    me: Option<(NodeId, String)>,
    groups: Option<Arc<dyn Groups>>,
    introduce: Arc<dyn Introduce>,
    /// Drawn at start; tells a restart from a broken connection.
    run: u64,
    /// Turns true when the node stops: streams end, so that no peer takes it for alive.
    stopped: watch::Receiver<bool>,
    /// Places of calls that read a log.
    reading: Arc<Semaphore>,
}

impl RaftServer {
    /// A service that introduces itself and refuses everything else: before formation.
    #[must_use]
    pub fn unformed(introduce: Arc<dyn Introduce>) -> Self {
        let (stopped, reading) = (watch::channel(false).1, Arc::new(Semaphore::new(0)));
        Self { me: None, groups: None, introduce, run: 0, stopped, reading }
    }

    pub(crate) fn new(
        me: NodeId,
        cluster_id: String,
        groups: Arc<dyn Groups>,
        introduce: Arc<dyn Introduce>,
        run: u64,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let reading = Arc::new(Semaphore::new(READINGS_MAX));
        Self { me: Some((me, cluster_id)), groups: Some(groups), introduce, run, stopped, reading }
    }

    /// Refuses a caller that means another cluster or another node.
    fn admit(&self, hello: Option<&v1::StreamHello>) -> Result<Arc<dyn Groups>, Status> {
        let hello =
            hello.ok_or_else(|| Status::invalid_argument("the stream begins without hello"))?;
        let (Some((me, cluster_id)), Some(groups)) = (&self.me, &self.groups) else {
            return Err(Status::unavailable("this broker has not joined a cluster yet"));
        };
        if *self.stopped.borrow() {
            return Err(Status::unavailable("this broker is stopping"));
        }
        if hello.cluster_id != *cluster_id {
            return Err(Status::failed_precondition(format!(
                "caller belongs to cluster {}, this broker to {cluster_id}",
                hello.cluster_id
            )));
        }
        if hello.to != me.to_u64() {
            return Err(Status::failed_precondition(format!(
                "caller looks for node {}, this is node {me}",
                NodeId::from_u64(hello.to)
            )));
        }
        let from = NodeId::from_u64(hello.from);
        if groups.is_shut_out(from) {
            let mut status = Status::permission_denied(format!(
                "broker {} was declared lost for good, and the cluster goes on without it",
                from.broker
            ));
            status.metadata_mut().insert(SHUT_OUT, MetadataValue::from_static("1"));
            return Err(status);
        }
        if !hello.address.is_empty() {
            groups.met(from, &hello.address);
        }
        Ok(Arc::clone(groups))
    }
}

#[tonic::async_trait]
impl RaftService for RaftServer {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<ExchangeResponse, Status>> + Send>>;
    type ReadLogStream = ReceiverStream<Result<v1::ReadLogResponse, Status>>;

    async fn introduce(
        &self,
        request: Request<v1::IntroduceRequest>,
    ) -> Result<Response<v1::IntroduceResponse>, Status> {
        Ok(Response::new(self.introduce.introduce(request.get_ref())))
    }

    async fn exchange(
        &self,
        request: Request<Streaming<v1::ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let mut incoming = request.into_inner();
        let first = incoming.next().await.transpose()?;
        let hello = first.as_ref().and_then(|first| first.hello.as_ref());
        let groups = self.admit(hello)?;
        let from = NodeId::from_u64(hello.map_or(0, |hello| hello.from));

        let run = self.run;
        let mut stopped = self.stopped.clone();
        let (answers, answered) = mpsc::unbounded_channel();
        let (messages, outgoing) = mpsc::channel(MESSAGES_AHEAD);
        tokio::spawn(gather(answered, messages));
        tokio::spawn(async move {
            let mut demux = Demux::new(run, from, groups, answers);
            loop {
                let message = tokio::select! {
                    biased;
                    // The sender is gone only when the node is.
                    _ = stopped.wait_for(|stopped| *stopped) => return,
                    message = incoming.next() => message,
                };
                let Some(Ok(message)) = message else { return };
                if demux.groups.is_shut_out(from) {
                    return;
                }
                for request in message.requests {
                    if let Err(reason) = demux.take(request) {
                        debug!(%reason, "stream refused");
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn read_log(
        &self,
        request: Request<v1::ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        let request = request.into_inner();
        let groups = self.admit(request.hello.as_ref())?;
        let group = wire::group(&request.group);
        let group = group.map_err(|err| Status::invalid_argument(err.to_string()))?;
        let port = groups.port(group).ok_or_else(|| Status::unavailable(not_here(group)))?;
        let place = Arc::clone(&self.reading).try_acquire_owned();
        let busy = |_| Status::resource_exhausted("this broker sends enough logs already");
        let answer = reading::answer(port, groups.executor(), place.map_err(busy)?, &request);
        Ok(Response::new(ReceiverStream::new(answer)))
    }

    async fn survey(
        &self,
        request: Request<v1::SurveyRequest>,
    ) -> Result<Response<v1::SurveyResponse>, Status> {
        let request = request.into_inner();
        let groups = self.admit(request.hello.as_ref())?;
        groups.survey(request).await.map(Response::new)
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<v1::InstallSnapshotRequest>>,
    ) -> Result<Response<v1::InstallSnapshotResponse>, Status> {
        let mut incoming = request.into_inner();
        let malformed = |what: &dyn fmt::Display| Status::invalid_argument(what.to_string());
        let first = incoming.next().await.transpose()?.and_then(|first| first.header);
        let header = first.ok_or_else(|| malformed(&"the snapshot begins without header"))?;
        let groups = self.admit(header.hello.as_ref())?;
        let group = wire::group(&header.group).map_err(|err| malformed(&err))?;
        let vote = wire::vote_in(header.vote).map_err(|err| malformed(&err))?;
        if header.bytes > SNAPSHOT_BYTES_MAX {
            return Err(malformed(&"snapshot is too large"));
        }
        let mut bytes = bytes::BytesMut::with_capacity(header.bytes as usize);
        while let Some(part) = incoming.next().await.transpose()? {
            if (bytes.len() + part.data.len()) as u64 > header.bytes {
                return Err(malformed(&"snapshot is longer than announced"));
            }
            bytes.extend_from_slice(&part.data);
        }
        let start = StartPoint::decode(&bytes.freeze()).map_err(|err| malformed(&err))?;
        let port = groups.port(group).ok_or_else(|| Status::unavailable(not_here(group)))?;
        let vote = port.install(vote, start).await.map_err(Status::unavailable)?;
        Ok(Response::new(v1::InstallSnapshotResponse { vote: Some(wire::vote_out(&vote)) }))
    }
}

fn not_here(group: GroupId) -> String {
    format!("group {group} is not served here")
}

/// Gathers answers into messages.
async fn gather(
    mut answered: mpsc::UnboundedReceiver<RaftResponse>,
    messages: mpsc::Sender<Result<ExchangeResponse, Status>>,
) {
    loop {
        let mut responses = Vec::new();
        if answered.recv_many(&mut responses, REQUESTS_PER_MESSAGE).await == 0 {
            return;
        }
        if messages.send(Ok(ExchangeResponse { responses })).await.is_err() {
            return;
        }
    }
}

/// Takes one caller's stream apart. Dropping it ends the appends and calls that it started.
struct Demux {
    run: u64,
    /// Who calls.
    from: NodeId,
    groups: Arc<dyn Groups>,
    answers: mpsc::UnboundedSender<RaftResponse>,
    streams: HashMap<u64, mpsc::Sender<AppendEntriesRequest<TypeConfig>>>,
    calls: JoinSet<()>,
    /// Held by each call of a group that is not over.
    pending: HashMap<GroupId, Pending>,
}

/// One call of a group, for as long as it is held.
type Pending = Arc<()>;

impl Demux {
    fn new(
        run: u64,
        from: NodeId,
        groups: Arc<dyn Groups>,
        answers: mpsc::UnboundedSender<RaftResponse>,
    ) -> Self {
        let (streams, calls, pending) = (HashMap::new(), JoinSet::new(), HashMap::new());
        Self { run, from, groups, answers, streams, calls, pending }
    }

    /// Passes one request on; an error ends the whole stream, for the caller broke its contract.
    fn take(&mut self, request: RaftRequest) -> Result<(), String> {
        while self.calls.try_join_next().is_some() {}
        let stream = request.stream;
        let Some(ask) = request.body else {
            return Err("request without a body".to_owned());
        };
        match ask {
            Ask::Probe(_) => {
                let (run, low_on_space) = (self.run, self.groups.is_low_on_space());
                let reply = v1::ProbeReply { run, low_on_space, beats: true };
                self.answer(stream, Answer::Probe(reply));
                return Ok(());
            }
            Ask::Beat(beat) => {
                self.answer(stream, Answer::Beat(self.beat(beat)));
                return Ok(());
            }
            Ask::End(_) => {
                self.streams.remove(&stream);
                return Ok(());
            }
            _ => {}
        }
        let group = wire::group(&request.group).map_err(|err| err.to_string())?;
        let Some(port) = self.groups.port(group) else {
            self.answer(stream, Answer::Unavailable(not_here(group)));
            return Ok(());
        };
        let pending = Arc::clone(self.pending.entry(group).or_default());
        // The caller gives up and asks again, while an engine that waits for room keeps each question, for
        // however long. A disk that is slow is another matter: there each question renews a lease.
        let many = Arc::strong_count(&pending) > CALLS_PER_GROUP_MAX + 1;
        if many && self.groups.is_full() && !self.streams.contains_key(&stream) {
            self.answer(stream, Answer::Unavailable(format!("group {group} answers nothing here")));
            return Ok(());
        }
        self.dispatch(port, stream, ask, pending).map_err(|err| err.to_string())
    }

    fn dispatch(
        &mut self,
        port: Arc<dyn Port>,
        stream: u64,
        ask: Ask,
        pending: Pending,
    ) -> Result<(), wire::Malformed> {
        match ask {
            Ask::Append(append) => match wire::append_in(append) {
                // As if it were down. What is small goes on while there is room at all, a new leader's
                // first entry or a trim, and so does what is here already, by which that leader finds out
                // how far this log is.
                Ok(append) if self.lacks_room_for(&append, &port) => {
                    self.streams.remove(&stream);
                    let reason = "the disk of the follower is nearly full".to_owned();
                    self.answer(stream, Answer::Unavailable(reason));
                }
                Ok(append) => self.append(&port, stream, append, pending),
                // One damaged message ends one group's stream, not everybody's.
                Err(err) => {
                    self.streams.remove(&stream);
                    self.answer(stream, Answer::Unavailable(err.to_string()));
                }
            },
            Ask::Vote(vote) => {
                let reply = port.vote(wire::vote_request_in(vote)?);
                self.call(stream, pending, async {
                    reply.await.map(|reply| Answer::Vote(wire::vote_reply_out(&reply)))
                });
            }
            Ask::PreVote(vote) => {
                let reply = port.pre_vote(wire::vote_request_in(vote)?);
                self.call(stream, pending, async {
                    reply.await.map(|reply| Answer::Vote(wire::vote_reply_out(&reply)))
                });
            }
            Ask::Transfer(transfer) => {
                let from = wire::vote_in(transfer.from)?;
                let to = NodeId::from_u64(transfer.to);
                let last = transfer.last.map(wire::log_id_in);
                let reply = port.transfer(TransferLeaderRequest::new(from, to, last));
                self.call(stream, pending, async {
                    Ok(Answer::Transfer(transfer_reply(reply.await)))
                });
            }
            Ask::Campaign(_) => {
                let reply = port.campaign();
                self.call(stream, pending, async {
                    Ok(Answer::Transfer(transfer_reply(reply.await)))
                });
            }
            Ask::End(_) | Ask::Probe(_) | Ask::Beat(_) => {}
        }
        Ok(())
    }

    /// Tells which of the caller's sleeping groups do not sleep here.
    fn beat(&self, beat: v1::Beat) -> v1::BeatReply {
        let sleeps = |asked: &v1::SleepingGroup| {
            let port = wire::group(&asked.group).ok().and_then(|group| self.groups.port(group));
            let (term, last) = (Term(asked.term), LogIndex(asked.last));
            port.is_some_and(|port| port.sleep_under(self.from, term, last))
        };
        let awake = (0..).zip(&beat.groups).filter(|(_, asked)| !sleeps(asked));
        v1::BeatReply { awake: awake.map(|(place, _)| place).collect() }
    }

    /// Whether the request has entries that are not in the log yet, and there is no room for them: for
    /// records where the disk is nearly full, for any where the log waits for room.
    fn lacks_room_for(
        &self,
        append: &AppendEntriesRequest<TypeConfig>,
        port: &Arc<dyn Port>,
    ) -> bool {
        let (log, takes_records) = (port.log(), self.groups.takes_records());
        let waits = log.waits_for_room();
        if takes_records && !waits {
            return false;
        }
        let last = log.frontier().last.map_or(0, |last| last.index.0);
        let is_refused = |entry: &Entry| {
            let is_records = matches!(entry.payload, EntryPayload::Normal(Proposal::Records(_)));
            (waits || is_records) && entry.position().index.0 > last
        };
        append.entries.iter().any(is_refused)
    }

    fn answer(&self, stream: u64, body: Answer) {
        // The caller is gone when this fails, and so is its interest.
        let _ = self.answers.send(RaftResponse { stream, body: Some(body) });
    }

    fn call(
        &mut self,
        stream: u64,
        pending: Pending,
        reply: impl Future<Output = Result<Answer, String>> + Send + 'static,
    ) {
        let answers = self.answers.clone();
        self.calls.spawn(async move {
            let body = reply.await.unwrap_or_else(Answer::Unavailable);
            drop(pending);
            // As in `answer`.
            let _ = answers.send(RaftResponse { stream, body: Some(body) });
        });
    }

    fn append(
        &mut self,
        port: &Arc<dyn Port>,
        stream: u64,
        request: AppendEntriesRequest<TypeConfig>,
        pending: Pending,
    ) {
        let sender = self.streams.entry(stream).or_insert_with(|| {
            let (sender, requests) = mpsc::channel(STREAM_WINDOW * 2);
            let results = port.append(Box::pin(ReceiverStream::new(requests)));
            let answered = answer_appends(stream, results, self.answers.clone());
            self.calls.spawn(async move {
                answered.await;
                drop(pending);
            });
            sender
        });
        // Full or closed: the caller overran its window or has not yet seen the error that ended
        // the stream. Either way the stream is over, and the caller learns by its answers.
        if sender.try_send(request).is_err() {
            self.streams.remove(&stream);
            self.answer(stream, Answer::Unavailable("append stream is over".to_owned()));
        }
    }
}

async fn answer_appends(
    stream: u64,
    mut results: BoxStream<'static, Result<StreamAppendResult<TypeConfig>, Fatal<TypeConfig>>>,
    answers: mpsc::UnboundedSender<RaftResponse>,
) {
    while let Some(result) = results.next().await {
        let body = match result {
            Ok(result) => wire::append_answer_out(result),
            Err(fatal) => Answer::Unavailable(fatal.to_string()),
        };
        if answers.send(RaftResponse { stream, body: Some(body) }).is_err() {
            return;
        }
    }
}

fn transfer_reply(result: Result<(), String>) -> v1::TransferReply {
    v1::TransferReply { refusal: result.err().unwrap_or_default() }
}
