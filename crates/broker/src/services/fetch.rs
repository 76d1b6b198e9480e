//! The fetch stream: batches of one partition, as they become readable and as credit allows.
//!
//! The stream is pulled: nothing is read before HTTP/2 has room for it, so a slow consumer holds one
//! response at most, and that is counted against the node's budget until the next one is asked for.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt, unfold};
use tidelog_proto::v1::fetch_request::Request as Asked;
use tidelog_proto::v1::fetch_until::Until;
use tidelog_proto::v1::offset_spec::Spec;
use tidelog_proto::v1::{Error, FetchOpen, FetchRequest, FetchResponse, OffsetBound};
use tidelog_raft::{Leadership, Partition, Read, ReadError, Role, View};
use tidelog_types::batch::Info;
use tidelog_types::{ErrorCode, GroupId, Offset, Timestamp};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Status, Streaming};

use super::produce::propose_error;
use super::{Api, invalid, size, time};
use crate::access::{Operation, Resource};
use crate::budget::Loan;
use crate::cluster::Cluster;
use crate::counters::Place;
use crate::limits;

/// What a response may hold even when the node's budget is used up.
const RESPONSE_BYTES_LEAST: usize = 64 << 10;

/// One fetch stream.
struct Fetch {
    api: Api,
    cluster: Arc<Cluster>,
    group: GroupId,
    partition: Partition,
    requests: Option<Streaming<FetchRequest>>,
    leadership: watch::Receiver<Leadership>,
    view: watch::Receiver<View>,
    stopping: watch::Receiver<bool>,
    /// The next offset to send.
    next: Offset,
    until: Option<Offset>,
    wait: Duration,
    bytes_min: usize,
    bytes_max: usize,
    /// Below zero after a response that was larger than what was left.
    credit: i64,
    /// What the partition held when the stream opened; taken by the first response.
    opening: Option<View>,
    ended: bool,
    /// The room of the response that HTTP/2 has now.
    loan: Option<Loan>,
    _place: Place,
}

/// Opens a stream: its first request must say what to read.
pub(super) async fn open(
    api: Api,
    mut requests: Streaming<FetchRequest>,
) -> Result<impl Stream<Item = Result<FetchResponse, Status>> + Send + 'static, Status> {
    let first = requests.next().await.transpose()?;
    let Some(Asked::Open(open)) = first.and_then(|first| first.request) else {
        return Err(invalid("the first request of a fetch stream must open it").into());
    };
    let fetch = prepare(api, requests, open).await?;
    Ok(unfold(fetch, |mut fetch| async move {
        let response = fetch.respond().await.transpose()?;
        Some((response.map_err(Status::from), fetch))
    }))
}

async fn prepare(
    api: Api,
    requests: Streaming<FetchRequest>,
    open: FetchOpen,
) -> Result<Fetch, Error> {
    api.allow(Operation::Read, Resource::Topic(&open.topic))?;
    let cluster = api.core.cluster()?;
    let streams = &api.core.counters.fetch_streams;
    let place = streams.enter(api.core.config.limits.fetch_streams.into()).ok_or_else(|| {
        let message = "the broker has as many fetch streams as limits.fetch_streams allows";
        Error::new(ErrorCode::ResourceExhausted, message).with_retry_after(limits::RETRY_AFTER)
    })?;
    let wait =
        time(open.max_wait_ms, limits::FETCH_WAIT_DEFAULT, limits::FETCH_WAIT_MAX, "max_wait_ms")?;
    let bytes_min = size(open.min_bytes, 1, limits::FETCH_MIN_BYTES_MAX, "min_bytes")?;
    let (default, most) = (limits::FETCH_RESPONSE_BYTES_DEFAULT, limits::FETCH_RESPONSE_BYTES_MAX);
    let bytes_max = size(open.max_bytes, default, most, "max_bytes")?;

    let group = cluster.find_fresh(&open.topic, open.partition, &open.topic_id).await?;
    let partition = serving(&api, &cluster, group, open.leader_epoch)?;
    let view = fresh_view(&api, &cluster, &partition).await?;
    let spec = open.start.and_then(|start| start.spec);
    let start = spec.ok_or_else(|| invalid("start is missing: an offset, a time or a bound"))?;
    let next = resolve(&partition, view, &start).await?;
    let until = match open.until.and_then(|until| until.until) {
        Some(Until::Offset(offset)) => {
            Some(Offset::from_wire(offset).ok_or_else(|| invalid(format!("until is {offset}")))?)
        }
        Some(Until::End(true)) => Some(view.progress.high_watermark),
        Some(Until::End(false)) | None => None,
    };
    Ok(Fetch {
        leadership: partition.leadership(),
        view: partition.view(),
        stopping: api.core.stopping.subscribe(),
        api,
        cluster,
        group,
        partition,
        requests: Some(requests),
        next,
        until,
        wait: wait.max(limits::FETCH_WAIT_MIN),
        bytes_min: bytes_min.min(bytes_max),
        bytes_max,
        credit: i64::try_from(open.credit_bytes.min(limits::FETCH_CREDIT_BYTES_MAX))
            .unwrap_or(i64::MAX),
        opening: Some(view),
        ended: false,
        loan: None,
        _place: place,
    })
}

/// The partition, if this broker leads it and under no older epoch than the client has seen.
pub(super) fn serving(
    api: &Api,
    cluster: &Cluster,
    group: GroupId,
    leader_epoch: Option<i32>,
) -> Result<Partition, Error> {
    let (replica, leadership) = cluster.serving(group, api.listener)?;
    let deposed = leader_epoch.is_some_and(|known| leadership.term.to_leader_epoch() < known);
    match replica.partition() {
        Some(partition) if !deposed => Ok(partition.clone()),
        _ => Err(cluster.not_leader(group, api.listener)),
    }
}

/// What the partition holds, with everything that was committed before the call: a deposed leader
/// that has not noticed must neither hide acked records nor refuse an offset that exists.
pub(super) async fn fresh_view(
    api: &Api,
    cluster: &Cluster,
    partition: &Partition,
) -> Result<View, Error> {
    let group = partition.group();
    let fresh = async {
        let confirmed = partition.linearize().await;
        confirmed.map_err(|err| propose_error(api, cluster, group, &err))?;
        let applied = partition.raft_status().applied;
        let mut view = partition.view();
        let shows = view.wait_for(|view| view.progress.applied >= applied).await;
        shows.map(|view| *view).map_err(|_| cluster.not_leader(group, api.listener))
    };
    let late = |_| cluster.not_leader(group, api.listener);
    timeout(limits::LINEARIZE_TIMEOUT, fresh).await.map_err(late)?
}

/// The offset that `spec` stands for, checked against what the partition holds.
pub(super) async fn resolve(
    partition: &Partition,
    view: View,
    spec: &Spec,
) -> Result<Offset, Error> {
    let progress = view.progress;
    match spec {
        Spec::Offset(wire) => {
            let offset = Offset::from_wire(*wire);
            let offset = offset.ok_or_else(|| invalid(format!("offset is {wire}")))?;
            if (progress.log_start..=progress.high_watermark).contains(&offset) {
                return Ok(offset);
            }
            Err(read_error(&ReadError::OutOfRange {
                offset,
                log_start: progress.log_start,
                high_watermark: progress.high_watermark,
            }))
        }
        Spec::TimeMs(time) => {
            let found = find_time(partition, view, Timestamp(*time)).await?;
            Ok(found.map_or(progress.high_watermark, |(offset, _)| offset))
        }
        Spec::Bound(bound) => match OffsetBound::try_from(*bound) {
            Ok(OffsetBound::Earliest) => Ok(progress.log_start),
            Ok(OffsetBound::Latest) => Ok(progress.high_watermark),
            Ok(OffsetBound::Unspecified) | Err(_) => Err(invalid(format!("bound is {bound}"))),
        },
    }
}

/// The first record at or after `time`. All that is committed is looked at, so this replica's own
/// disk must have it first.
pub(super) async fn find_time(
    partition: &Partition,
    view: View,
    time: Timestamp,
) -> Result<Option<(Offset, Timestamp)>, Error> {
    let here = |now: &View| now.readable >= view.progress.high_watermark;
    let late = || {
        Error::new(ErrorCode::OffsetNotAvailable, "the leader's disk is behind its quorum")
            .with_retry_after(limits::RETRY_AFTER)
    };
    let mut changes = partition.view();
    match timeout(limits::LINEARIZE_TIMEOUT, changes.wait_for(here)).await {
        Ok(Ok(_)) => {}
        _ => return Err(late()),
    }
    partition.offset_at(time).await.map_err(|err| read_error(&err))
}

/// The wire's error for a read that gave nothing.
pub(super) fn read_error(err: &ReadError) -> Error {
    let code = match err {
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Corrupt(_) => ErrorCode::CorruptMessage,
        _ => ErrorCode::StorageError,
    };
    Error::new(code, err.to_string())
}

/// What to do next.
enum Step {
    Answer(FetchResponse),
    Wait,
}

impl Fetch {
    /// The next response; `None` at the end.
    async fn respond(&mut self) -> Result<Option<FetchResponse>, Error> {
        // HTTP/2 asks for more: it has passed the last response on.
        self.loan = None;
        if self.ended {
            return Ok(None);
        }
        let deadline = Instant::now() + self.wait;
        let answer = loop {
            match self.step(deadline).await {
                Ok(Step::Answer(answer)) => break answer,
                Ok(Step::Wait) => self.wait_for_news(deadline).await?,
                Err(error) => {
                    self.ended = true;
                    return Err(error);
                }
            }
        };
        self.ended = answer.end_of_range;
        Ok(Some(answer))
    }

    async fn step(&mut self, deadline: Instant) -> Result<Step, Error> {
        let leadership = *self.leadership.borrow_and_update();
        if leadership.role != Role::Leader || !leadership.ready || *self.stopping.borrow() {
            return Err(self.cluster.not_leader(self.group, self.api.listener));
        }
        if let Some(view) = self.opening.take() {
            return Ok(Step::Answer(self.response(view, leadership, Vec::new())));
        }
        let view = *self.view.borrow_and_update();
        if self.at_end() {
            return Ok(Step::Answer(self.response(view, leadership, Vec::new())));
        }
        let due = Instant::now() >= deadline;
        if self.credit > 0 && self.next < view.readable {
            let read = self.read().await?;
            let bytes: usize = read.batches.iter().map(bytes::Bytes::len).sum();
            let reaches = self.until.is_some_and(|until| read.next >= until);
            if bytes >= self.bytes_min || due || reaches {
                self.count(&read, bytes);
                self.next = read.next;
                return Ok(Step::Answer(self.response(view, leadership, read.batches)));
            }
            self.loan = None;
        } else if self.next < view.progress.log_start {
            return Err(read_error(&ReadError::OutOfRange {
                offset: self.next,
                log_start: view.progress.log_start,
                high_watermark: view.progress.high_watermark,
            }));
        }
        if due {
            return Ok(Step::Answer(self.response(view, leadership, Vec::new())));
        }
        Ok(Step::Wait)
    }

    fn at_end(&self) -> bool {
        self.until.is_some_and(|until| self.next >= until)
    }

    async fn read(&mut self) -> Result<Read, Error> {
        let mut loan = self.api.core.fetched.take_some(self.bytes_max, RESPONSE_BYTES_LEAST);
        let read = self.partition.read(self.next, loan.bytes()).await;
        let mut read = read.map_err(|err| read_error(&err))?;
        if let Some(until) = self.until {
            cut(&mut read, until);
        }
        loan.settle(read.batches.iter().map(bytes::Bytes::len).sum());
        self.loan = Some(loan);
        Ok(read)
    }

    fn count(&mut self, read: &Read, bytes: usize) {
        self.credit -= i64::try_from(bytes).unwrap_or(i64::MAX);
        let counters = &self.api.core.counters;
        counters.fetch_batches.add(read.batches.len() as u64);
        counters.fetch_bytes.add(bytes as u64);
        counters.fetch_records.add(read.next.0.saturating_sub(self.next.0));
    }

    fn response(
        &self,
        view: View,
        leadership: Leadership,
        batches: Vec<bytes::Bytes>,
    ) -> FetchResponse {
        FetchResponse {
            batches,
            high_watermark: view.progress.high_watermark.to_wire(),
            log_start: view.progress.log_start.to_wire(),
            next_offset: self.next.to_wire(),
            end_of_range: self.at_end(),
            leader_epoch: leadership.term.to_leader_epoch(),
        }
    }

    /// Waits for credit, batches, a change of leadership or the deadline.
    async fn wait_for_news(&mut self, deadline: Instant) -> Result<(), Error> {
        let Self { requests, leadership, view, stopping, .. } = self;
        let asked = async {
            match requests {
                Some(requests) => requests.next().await,
                // The client has no more to say; it still listens.
                None => std::future::pending().await,
            }
        };
        let asked = tokio::select! {
            biased;
            // An error says that the replica is gone: the next step tells.
            changed = leadership.changed() => return gone(changed.is_err(), self),
            _ = stopping.changed() => return Ok(()),
            asked = asked => asked,
            changed = view.changed() => return gone(changed.is_err(), self),
            () = sleep_until(deadline) => return Ok(()),
        };
        match asked {
            None | Some(Err(_)) => self.requests = None,
            Some(Ok(request)) => self.grant(&request)?,
        }
        Ok(())
    }

    fn grant(&mut self, request: &FetchRequest) -> Result<(), Error> {
        let Some(Asked::Credit(credit)) = &request.request else {
            self.ended = true;
            return Err(invalid("a fetch stream is opened once; later requests grant credit"));
        };
        let most = limits::FETCH_CREDIT_BYTES_MAX as i64;
        let bytes = i64::try_from(credit.bytes).unwrap_or(most);
        self.credit = self.credit.saturating_add(bytes).min(most);
        Ok(())
    }
}

fn gone(gone: bool, fetch: &mut Fetch) -> Result<(), Error> {
    if gone {
        fetch.ended = true;
        return Err(fetch.cluster.not_leader(fetch.group, fetch.api.listener));
    }
    Ok(())
}

/// Drops the batches that begin at `until` or later.
fn cut(read: &mut Read, until: Offset) {
    let below = |batch: &bytes::Bytes| Info::read(batch).is_ok_and(|info| info.base_offset < until);
    let keep = read.batches.iter().take_while(|batch| below(batch)).count();
    if keep < read.batches.len() {
        read.batches.truncate(keep);
        let last = read.batches.last().and_then(|batch| Info::read(batch).ok());
        read.next = last.map_or(until, |info| info.next_offset());
    }
}
