//! The produce stream: batches in, in the order of arrival; answers out, in order per partition.
//!
//! A batch's bytes are checked and queued where they were received, without a copy. One task polls
//! the whole stream: requests, outcomes and deadlines.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{Stream, StreamExt};
use tidelog_proto::v1::produce_response::Result as Answer;
use tidelog_proto::v1::{Appended, Error, ProduceRequest, ProduceResponse};
use tidelog_raft::{PendingAppend, ProposeError};
use tidelog_types::batch::{self, Info};
use tidelog_types::{ErrorCode, GroupId, TOPIC_NAME_BYTES_MAX, failpoint};
use tokio::time::{Instant, timeout_at};
use tonic::{Status, Streaming};

use super::produce_lanes::Lanes;
use super::{Api, time};
use crate::access::{Operation, Resource};
use crate::budget::Permit;
use crate::cluster::Cluster;
use crate::hosted::{Replica, Takes};
use crate::limits;

/// Requests taken in before answers are looked at again.
const REQUESTS_PER_TURN: usize = 64;

/// The pause that is asked for when the leader cannot write for a moment.
const LEADER_BUSY: std::time::Duration = std::time::Duration::from_millis(10);

/// One produce stream.
pub(super) struct ProduceStream {
    api: Api,
    /// `None` once the client has ended it, or the broker stops.
    requests: Option<Streaming<ProduceRequest>>,
    lanes: Lanes<ProduceResponse>,
    stopping: Option<BoxFuture<'static, ()>>,
    failed: Option<Status>,
}

impl ProduceStream {
    pub(super) fn new(api: Api, requests: Streaming<ProduceRequest>) -> Self {
        let mut stopping = api.core.stopping.subscribe();
        let stopping = async move {
            // An error says that the broker is gone: that is a stop too.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        };
        Self {
            api,
            requests: Some(requests),
            lanes: Lanes::default(),
            stopping: Some(stopping.boxed()),
            failed: None,
        }
    }

    /// Takes in what has arrived, up to the limits.
    fn take_in(&mut self, cx: &mut Context<'_>) {
        if self.stopping.as_mut().is_some_and(|stopping| stopping.poll_unpin(cx).is_ready()) {
            self.stopping = None;
            self.requests = None;
        }
        for _ in 0..REQUESTS_PER_TURN {
            if self.lanes.waiting() >= limits::PRODUCE_STREAM_BATCHES_MAX {
                return;
            }
            let Some(requests) = &mut self.requests else { return };
            match requests.poll_next_unpin(cx) {
                Poll::Pending => return,
                Poll::Ready(None) => self.requests = None,
                Poll::Ready(Some(Ok(request))) => self.accept(request),
                Poll::Ready(Some(Err(status))) => {
                    self.requests = None;
                    self.failed = Some(status);
                }
            }
        }
        // More may be there.
        cx.waker().wake_by_ref();
    }

    fn accept(&mut self, request: ProduceRequest) {
        let (api, id) = (self.api.clone(), request.correlation_id);
        let taken = take(&api, &request);
        let outcome = async move {
            let answer = match taken {
                Ok(taken) => taken.outcome(&api).await,
                Err(refused) => Err(refused.explain(&api).await),
            };
            if answer.is_err() {
                api.core.counters.produce_errors.add(1);
            }
            let result = Some(answer.map_or_else(Answer::Error, Answer::Appended));
            ProduceResponse { correlation_id: id, result }
        };
        // A name that is too long to be one is remembered by none.
        let known = request.topic.len() <= TOPIC_NAME_BYTES_MAX;
        let topic = if known { request.topic } else { String::new() };
        self.lanes.push(topic, request.partition, outcome.boxed());
    }
}

impl Stream for ProduceStream {
    type Item = Result<ProduceResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.take_in(cx);
        match self.lanes.poll_next_unpin(cx) {
            Poll::Ready(Some(answer)) => Poll::Ready(Some(Ok(answer))),
            Poll::Pending => Poll::Pending,
            // What was taken in is answered before the stream ends.
            Poll::Ready(None) if self.requests.is_some() => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(self.failed.take().map(Err)),
        }
    }
}

/// A batch on its way into the log, in its place.
pub(super) struct Taken {
    cluster: Arc<Cluster>,
    replica: Arc<Replica>,
    pending: PendingAppend,
    permit: Permit,
    info: Info,
    deadline: Instant,
}

/// A batch that was not taken.
pub(super) enum Refused {
    /// For this reason.
    Because(Error),
    /// Its topic is not known here; another broker may just have created it.
    Unknown(Arc<Cluster>, Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Because(error)
    }
}

impl Refused {
    /// The answer, after a second look at a topic that is not known.
    pub(super) async fn explain(self, api: &Api) -> Error {
        let (cluster, unknown) = match self {
            Self::Because(error) => return error,
            Self::Unknown(cluster, error) => (cluster, error),
        };
        let before = cluster.machine().applied();
        let deadline = Instant::now() + limits::RETRY_AFTER * 10;
        let caught_up = cluster.catch_up(deadline).await;
        let news = cluster.machine().applied() != before;
        match caught_up {
            Ok(()) if news => {
                let message = format!(
                    "broker {} has just learned of new topics, send the batch again",
                    api.core.config.broker().0
                );
                Error::new(ErrorCode::LeaderNotAvailable, message)
            }
            _ => unknown,
        }
    }
}

/// Checks one batch and puts it into its partition's queue, in its place.
fn take(api: &Api, request: &ProduceRequest) -> Result<Taken, Refused> {
    let deadline = Instant::now() + deadline(request.timeout_ms)?;
    api.allow(Operation::Write, Resource::Topic(&request.topic))?;
    let cluster = api.core.cluster()?;
    let group = match cluster.find(&request.topic, request.partition, &request.topic_id) {
        Ok(group) => group,
        Err(error) => return Err(Refused::Unknown(cluster, error)),
    };
    Ok(enqueue(api, &cluster, group, request.batch.clone(), deadline)?)
}

/// A batch's time, out of its request.
pub(super) fn deadline(timeout_ms: u32) -> Result<std::time::Duration, Error> {
    time(timeout_ms, limits::PRODUCE_TIMEOUT_DEFAULT, limits::TIMEOUT_MAX, "timeout_ms")
}

/// Checks one batch and queues it at the partition that this broker leads.
pub(super) fn enqueue(
    api: &Api,
    cluster: &Arc<Cluster>,
    group: GroupId,
    batch: bytes::Bytes,
    deadline: Instant,
) -> Result<Taken, Error> {
    let (replica, _) = cluster.serving(group, api.listener)?;
    let Some(partition) = replica.partition() else {
        return Err(cluster.not_leader(group, api.listener));
    };
    let Takes { batch_bytes_max, needs_keys } = replica.takes();
    let refused = |err: batch::BatchError| Error::new(err.error_code(), err.to_string());
    let info = batch::check(&batch, &batch::Limits { batch_bytes_max }).map_err(refused)?;
    if needs_keys {
        batch::check_keys(&batch, limits::KEYS_INFLATE_BYTES_MAX).map_err(refused)?;
    }
    let core = &api.core;
    let permit = Permit::take(&core.in_flight, &replica.share, batch.len()).ok_or_else(|| {
        core.counters.produce_throttled.add(1);
        exhausted("bytes in flight are used up (limits.in_flight_bytes, or the partition's share)")
    })?;
    let pending = partition.enqueue(batch, info);
    let pending = pending.map_err(|err| propose_error(api, cluster, group, &err))?;
    let cluster = Arc::clone(cluster);
    Ok(Taken { cluster, replica, pending, permit, info, deadline })
}

impl Taken {
    /// What becomes of the batch, by its deadline.
    pub(super) async fn outcome(self, api: &Api) -> Result<Appended, Error> {
        let Self { cluster, replica, mut pending, permit, info, deadline } = self;
        let Ok(outcome) = timeout_at(deadline, &mut pending).await else {
            // Its bytes stay in memory, so its room stays taken, until its outcome is known.
            tokio::spawn(async move {
                let _outcome = pending.await;
                drop(permit);
            });
            let message =
                format!("no quorum of partition {} has written it in time", replica.group);
            return Err(Error::new(ErrorCode::RequestTimedOut, message));
        };
        drop(permit);
        let appended = outcome.map_err(|err| propose_error(api, &cluster, replica.group, &err))?;
        let counters = &api.core.counters;
        counters.produce_batches.add(1);
        counters.produce_records.add(info.count.into());
        counters.produce_bytes.add(info.bytes.into());
        let partition = replica.partition();
        let log_start = partition.map(|one| one.view().borrow().progress.log_start);
        let term = replica.leadership().map(|leadership| leadership.term);
        failpoint!("answer", "produce", Before);
        Ok(Appended {
            base_offset: appended.base_offset.to_wire(),
            append_time_ms: appended.append_time.0,
            log_start: log_start.unwrap_or_default().to_wire(),
            duplicate: appended.duplicate,
            leader_epoch: term.unwrap_or_default().to_leader_epoch(),
        })
    }
}

fn exhausted(message: &str) -> Error {
    Error::new(ErrorCode::ResourceExhausted, message).with_retry_after(limits::RETRY_AFTER)
}

/// The wire's error for what a partition said.
pub(super) fn propose_error(
    api: &Api,
    cluster: &Cluster,
    group: GroupId,
    err: &ProposeError,
) -> Error {
    match err {
        ProposeError::NotLeader { .. } => cluster.not_leader(group, api.listener),
        ProposeError::Rejected(code) => {
            Error::new(*code, format!("partition {group} refuses the batch"))
        }
        ProposeError::Retry => {
            Error::new(ErrorCode::LeaderNotAvailable, err.to_string()).with_retry_after(LEADER_BUSY)
        }
        ProposeError::Overloaded => exhausted(&err.to_string()),
        ProposeError::StorageFull => {
            let (broker, floor) = (api.core.config.broker().0, api.core.config.storage.free_min);
            let message = format!(
                "broker {broker} has no room on its disk, or less than storage.free_min = {floor}, and takes \
                 no records until it has more"
            );
            Error::new(ErrorCode::StorageFull, message).with_retry_after(limits::RETRY_AFTER)
        }
        ProposeError::Unknown => Error::new(
            ErrorCode::RequestTimedOut,
            format!("leadership of partition {group} moved before the outcome was known"),
        ),
        other => {
            Error::new(ErrorCode::UnknownServerError, other.to_string()).with_maybe_written(true)
        }
    }
}
