//! What openraft sees of the other brokers: one [`Link`] per group, target and purpose.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use openraft::RaftNetworkFactory;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tidelog_log::StartPoint;
use tidelog_proto::v1::raft_request::Body as Ask;
use tidelog_proto::v1::raft_response::Body as Answer;
use tidelog_proto::v1::{self, RaftResponse};
use tidelog_types::{GroupId, NodeId, Term};
use tokio::time::{Instant, timeout};

use super::peer::{Connection, Peer};
use super::session::{AppendStream, Session};
use super::{STREAM_WINDOW, wire};
use crate::config::{Snapshot, TypeConfig, Vote};
use crate::peers::Peers;

/// How long to leave an unreachable follower alone, first and at most. Each try reads up to a
/// message of entries before it is made, so a dead follower must not be tried often; one that
/// returns is tried at once all the same, see `Member::peer_returned`.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Bytes of a snapshot in one message.
const SNAPSHOT_CHUNK_BYTES: usize = 1024 * 1024;

type RpcError = RPCError<TypeConfig>;

/// Makes the links of one group.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) group: GroupId,
    pub(crate) peers: Arc<Peers>,
}

impl Network {
    fn link(&self, target: NodeId, lane: Lane) -> Link {
        let (peer, peers) = (self.peers.get(target), Arc::clone(&self.peers));
        Link { group: self.group, peer, peers, lane }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: NodeId, _node: &()) -> Link {
        self.link(target, Lane::Appends)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, _node: &()) -> Link {
        self.link(target, Lane::Control)
    }
}

/// Which of the two streams of a connection.
#[derive(Clone, Copy, Debug)]
enum Lane {
    Appends,
    Control,
}

/// One group's way to one peer.
#[derive(Debug)]
pub(crate) struct Link {
    group: GroupId,
    peer: Arc<Peer>,
    peers: Arc<Peers>,
    lane: Lane,
}

impl Link {
    fn connection(&self) -> Result<Connection, RpcError> {
        self.peer
            .connection()
            .ok_or_else(|| unreachable(format!("no connection to {}", self.peer.node())))
    }

    fn session(&self) -> Result<Arc<Session>, RpcError> {
        let connection = self.connection()?;
        Ok(match self.lane {
            Lane::Appends => connection.appends,
            Lane::Control => connection.control,
        })
    }

    async fn ask(&self, ask: Ask, option: &RPCOption) -> Result<Answer, RpcError> {
        let control = self.connection()?.control;
        let call = control.call(self.group.to_bytes().to_vec(), ask);
        let answer = timeout(option.hard_ttl(), call)
            .await
            .map_err(|_| unreachable(format!("no answer from {} in time", self.peer.node())))?
            .map_err(|err| unreachable(err.to_string()))?;
        match answer.body {
            Some(Answer::Unavailable(reason)) => Err(unreachable(reason)),
            Some(answer) => Ok(answer),
            None => Err(unreachable("empty answer".to_owned())),
        }
    }

    async fn ask_vote(
        &self,
        ask: Ask,
        option: &RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        match self.ask(ask, option).await? {
            Answer::Vote(reply) => {
                wire::vote_reply_in(reply).map_err(|err| unreachable(err.to_string()))
            }
            other => Err(unexpected(&other)),
        }
    }
}

fn unreachable(reason: String) -> RpcError {
    RPCError::Unreachable(Unreachable::from_string(reason))
}

fn unexpected(answer: &Answer) -> RpcError {
    unreachable(format!("unexpected answer {answer:?}"))
}

impl NetBackoff<TypeConfig> for Link {
    fn backoff(&self) -> Option<Backoff> {
        let doubling = |pause: &Duration| Some((*pause * 2).min(BACKOFF_MAX));
        Some(Backoff::new(std::iter::successors(Some(BACKOFF_MIN), doubling)))
    }
}

impl NetVote<TypeConfig> for Link {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(Ask::Vote(wire::vote_request_out(&rpc)), &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(Ask::PreVote(wire::vote_request_out(&rpc)), &option).await
    }
}

impl NetTransferLeader<TypeConfig> for Link {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let ask = Ask::Transfer(v1::TransferRequest {
            from: Some(wire::vote_out(req.from_leader())),
            to: req.to_node_id().to_u64(),
            last: req.last_log_id().map(wire::log_id_out),
        });
        match self.ask(ask, &option).await? {
            Answer::Transfer(reply) if reply.refusal.is_empty() => Ok(Ok(())),
            Answer::Transfer(reply) => Err(unreachable(reply.refusal)),
            other => Err(unexpected(&other)),
        }
    }
}

impl NetSnapshot<TypeConfig> for Link {
    type SnapshotData = StartPoint;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let send = async {
            let channel = self.connection().map_err(streaming)?.channel;
            let bytes = snapshot.snapshot.encode();
            let header = v1::SnapshotHeader {
                hello: Some(self.peer.hello()),
                group: self.group.to_bytes().to_vec().into(),
                vote: Some(wire::vote_out(&vote)),
                bytes: bytes.len() as u64,
            };
            let first =
                v1::InstallSnapshotRequest { header: Some(header), data: Default::default() };
            let chunks = (0..bytes.len()).step_by(SNAPSHOT_CHUNK_BYTES).map(move |from| {
                let to = (from + SNAPSHOT_CHUNK_BYTES).min(bytes.len());
                v1::InstallSnapshotRequest { header: None, data: bytes.slice(from..to) }
            });
            let requests = futures_util::stream::iter(std::iter::once(first).chain(chunks));
            let mut client = v1::raft_service_client::RaftServiceClient::new(channel);
            let reply = timeout(option.hard_ttl(), client.install_snapshot(requests))
                .await
                .map_err(|_| {
                    streaming(unreachable("snapshot was not answered in time".to_owned()))
                })?
                .map_err(|status| streaming(unreachable(status.message().to_owned())))?;
            let vote = wire::vote_in(reply.into_inner().vote)
                .map_err(|err| streaming(unreachable(err.to_string())))?;
            Ok(SnapshotResponse::new(vote))
        };
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = send => sent,
        }
    }
}

fn streaming(err: RpcError) -> StreamingError<TypeConfig> {
    match err {
        RPCError::Unreachable(err) => StreamingError::Unreachable(err),
        other => StreamingError::Unreachable(Unreachable::from_string(other.to_string())),
    }
}

impl NetStreamAppend<TypeConfig> for Link {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>, RpcError>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            let appends = Appends {
                link: self,
                input: Some(input),
                stream: None,
                asked: 0,
                patience: option.hard_ttl().max(PATIENCE_MIN),
                next_at: None,
                over: false,
            };
            let answers = futures_util::stream::unfold(appends, |mut appends| async move {
                let answer = appends.next().await?;
                Some((answer, appends))
            });
            Ok(answers.boxed())
        })
    }
}

/// The least time that a follower gets to write and sync an append.
const PATIENCE_MIN: Duration = Duration::from_secs(5);

/// One run of openraft's append stream: requests out under a window, answers in order.
struct Appends<'s, S> {
    link: &'s Link,
    /// Gone once it has ended: then the output ends with the last answer, as openraft expects.
    input: Option<S>,
    /// Opened with the first request: the engine applies its backoff while it makes one, so an
    /// error before that would be retried without a pause.
    stream: Option<AppendStream>,
    /// Requests without an answer.
    asked: usize,
    patience: Duration,
    /// Until when a follower that learns in a term is held up.
    next_at: Option<(Term, Instant)>,
    over: bool,
}

impl<S> Appends<'_, S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    /// The next answer; `None` once the input ended and everything was answered, or after an error.
    async fn next(&mut self) -> Option<Result<StreamAppendResult<TypeConfig>, RpcError>> {
        if self.over {
            return None;
        }
        match self.step().await {
            Ok(Some(answer)) => {
                self.over = answer.is_err();
                Some(Ok(answer))
            }
            Ok(None) => None,
            Err(err) => {
                self.over = true;
                Some(Err(err))
            }
        }
    }

    async fn step(&mut self) -> Result<Option<StreamAppendResult<TypeConfig>>, RpcError> {
        loop {
            let open = self.input.is_some() && self.asked < STREAM_WINDOW;
            let waiting = self.asked > 0;
            if !open && !waiting {
                return Ok(None);
            }
            let patience = self.patience;
            let stream = &mut self.stream;
            let next_answer = async {
                match stream {
                    Some(stream) if waiting => timeout(patience, stream.answer()).await,
                    _ => std::future::pending().await,
                }
            };
            let (input, next_at, link) = (self.input.as_mut(), self.next_at, self.link);
            let next_request = async {
                match input {
                    Some(input) if open => {
                        if let Some((term, at)) = next_at {
                            link.peers.pace.wait(link.group, term, link.peer.node(), at).await;
                        }
                        input.next().await
                    }
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = next_answer => {
                    let answer = answer
                        .map_err(|_| unreachable("append was not answered in time".to_owned()))?
                        .map_err(|err| unreachable(err.to_string()))?;
                    self.asked -= 1;
                    return result(answer).map(Some);
                }
                request = next_request => match request {
                    Some(request) => self.send(request).await?,
                    None => self.input = None,
                },
            }
        }
    }

    async fn send(&mut self, request: AppendEntriesRequest<TypeConfig>) -> Result<(), RpcError> {
        let term = Term(request.vote.leader_id.term);
        let (message, bytes) = wire::append_out(request);
        let lost = |err: super::session::Lost| unreachable(err.to_string());
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let group = self.link.group.to_bytes().to_vec();
                none.insert(self.link.session()?.stream(group))
            }
        };
        let permit = stream.reserve(bytes).await.map_err(lost)?;
        stream.send(Ask::Append(message), bytes, permit).map_err(lost)?;
        self.asked += 1;
        let link = self.link;
        let next_at = link.peers.pace.take(link.group, term, link.peer.node(), bytes);
        self.next_at = next_at.map(|at| (term, at));
        Ok(())
    }
}

fn result(answer: RaftResponse) -> Result<StreamAppendResult<TypeConfig>, RpcError> {
    match answer.body {
        Some(Answer::Append(success)) => Ok(Ok(success.last.map(wire::log_id_in))),
        Some(Answer::Conflict(at)) => Ok(Err(StreamAppendError::Conflict(wire::log_id_in(at)))),
        Some(Answer::HigherVote(vote)) => {
            let vote = wire::vote_in(Some(vote)).map_err(|err| unreachable(err.to_string()))?;
            Ok(Err(StreamAppendError::HigherVote(vote)))
        }
        Some(Answer::Unavailable(reason)) => Err(unreachable(reason)),
        other => Err(unreachable(format!("unexpected answer {other:?}"))),
    }
}
