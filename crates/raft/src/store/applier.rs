//! openraft's state machine over one of ours: applies committed entries, hands the log a start
//! point for each new segment, and serves and installs start points as snapshots.
//!
//! State lives in memory. What a restart needs is in the start points, which hold the machine as it
//! was at the segment's beginning; the entries after it are applied again.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, RaftSnapshotBuilder};
use tidelog_log::{Error, Frontier, Log, StartPoint};
use tidelog_types::{LogIndex, LogPosition, Offset, canary, failpoint};
use tokio::sync::oneshot;

use crate::config::{
    Entry, LogId, Outcome, Snapshot, SnapshotMeta, StoredMembership, TypeConfig, log_id, position,
};
use crate::executor::{self, Executor};
use crate::membership;
use crate::space;

/// A deterministic machine of ours, as the applier drives it.
pub(crate) trait Machine: Send + Sync + 'static {
    /// Applies one committed entry.
    fn apply(&mut self, entry: &Entry) -> io::Result<Outcome>;
    /// The whole state in bytes.
    fn encode(&self) -> Vec<u8>;
    /// Replaces the state.
    fn restore(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes the state visible after a run of entries.
    fn publish(&mut self);
    /// Offset below which nothing need be kept; `None` keeps only what follows the newest start.
    fn retained_from(&self) -> Option<Offset>;
}

/// One group's state machine. `M` is the machine; the applier keeps its place in the log.
pub(crate) struct Applier<M> {
    log: Arc<Log>,
    executor: Arc<dyn Executor>,
    pub(crate) machine: M,
    pub(crate) applied: Option<LogPosition>,
    /// The log's frontier right after `applied`.
    frontier: Frontier,
    membership: StoredMembership,
    /// Segment of the last snapshot that was built or installed: the engine counts on it.
    snapshot: Snapshotted,
}

/// The segment whose start point is the engine's snapshot; shared with builders.
type Snapshotted = Arc<Mutex<Option<LogIndex>>>;

impl<M> fmt::Debug for Applier<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Applier").field("applied", &self.applied).finish_non_exhaustive()
    }
}

impl<M: Machine> Applier<M> {
    /// The machine as the newest start point of `log` has it; the engine applies what follows.
    pub(crate) fn open(log: Arc<Log>, executor: Arc<dyn Executor>, machine: M) -> io::Result<Self> {
        let start = log.newest_start().map_err(io::Error::other)?;
        let mut applier = Self {
            log,
            executor,
            machine,
            applied: None,
            frontier: Frontier::default(),
            membership: StoredMembership::default(),
            snapshot: Snapshotted::default(),
        };
        if let Some(start) = start {
            applier.restore(&start)?;
        }
        Ok(applier)
    }

    fn restore(&mut self, start: &StartPoint) -> io::Result<()> {
        let mut rest = &start.machine[..];
        self.membership = membership::decode_stored(&mut rest).map_err(io::Error::other)?;
        self.machine.restore(rest)?;
        self.machine.publish();
        self.applied = start.frontier.last;
        self.frontier = start.frontier;
        Ok(())
    }

    /// The membership in force and the machine, as they stand in a start point.
    pub(crate) fn encode(&self) -> Bytes {
        let membership = membership::encode_stored(&self.membership);
        let machine = self.machine.encode();
        let mut bytes = BytesMut::with_capacity(membership.len() + machine.len());
        bytes.put_slice(&membership);
        bytes.put_slice(&machine);
        bytes.freeze()
    }

    fn apply_entry(&mut self, entry: &Entry) -> io::Result<Outcome> {
        let at = entry.position();
        if self.log.starts_at(at.index) {
            let machine = self.encode();
            let frontier = self.frontier;
            let start = StartPoint { index: at.index, frontier, machine };
            self.log.put_start(start).map_err(io::Error::other)?;
        }
        if let EntryPayload::Membership(members) = &entry.payload {
            self.membership = StoredMembership::new(Some(entry.log_id()), members.clone());
        }
        let outcome = self.machine.apply(entry)?;
        if let Some(header) = &entry.header {
            self.frontier = header.frontier();
        }
        self.applied = Some(at);
        Ok(outcome)
    }

    /// The segment whose start point a snapshot would hold now: the oldest one still needed.
    fn snapshot_index(&self) -> Option<LogIndex> {
        let retained = self.machine.retained_from().filter(|_| !canary!(PurgeTakesRetained));
        let keep_from = retained.unwrap_or(Offset(u64::MAX));
        // The very beginning of a log counts as started: it needs no start point, and has none. It
        // must stay in the choice all the same, or a later segment would pass for the oldest
        // needed one and take records with it that nobody trimmed.
        let segments = self.log.segments();
        let mut needed = segments.iter().rev().filter(|segment| segment.base_offset <= keep_from);
        let oldest = needed.find(|segment| segment.started)?;
        (oldest.first_index > LogIndex::ZERO).then_some(oldest.first_index)
    }
}

impl<M: Machine> Applier<M> {
    /// Whether segments at the log's beginning could go.
    pub(crate) fn purge_due(&self) -> bool {
        let first = self.log.first_index();
        self.snapshot_index().is_some_and(|index| index > first)
    }
}

/// A start point as openraft's snapshot; `None` at the very beginning of a log.
pub(crate) fn as_snapshot(start: StartPoint) -> io::Result<Option<Snapshot>> {
    let Some(last) = start.frontier.last else { return Ok(None) };
    let membership =
        membership::decode_stored(&mut &start.machine[..]).map_err(io::Error::other)?;
    let meta = SnapshotMeta { last_log_id: Some(log_id(last)), last_membership: membership };
    Ok(Some(Snapshot { meta, snapshot: start }))
}

impl<M: Machine> RaftStateMachine<TypeConfig> for Applier<M> {
    type SnapshotData = StartPoint;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied.map(log_id), self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let mut answers = Vec::new();
        failpoint!("replica", "apply", Before);
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            // A panic would leave an engine that leads and never applies again; an error stops it.
            let apply = std::panic::AssertUnwindSafe(|| self.apply_entry(&entry));
            let outcome = std::panic::catch_unwind(apply).map_err(|_| {
                io::Error::other(format!("entry {} broke an invariant", entry.position()))
            })??;
            if let Some(responder) = responder {
                answers.push((responder, outcome));
            }
        }
        // The state is visible before anybody is told of it: who has an ack can read the record.
        self.machine.publish();
        failpoint!("replica", "apply", After);
        for (responder, outcome) in answers {
            responder.send(outcome);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            log: Arc::clone(&self.log),
            executor: Arc::clone(&self.executor),
            index: self.snapshot_index(),
            snapshot: Arc::clone(&self.snapshot),
        }
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        if !force && self.snapshot_index().is_none() {
            return None;
        }
        Some(self.get_snapshot_builder().await)
    }

    /// Takes a start point of the leader. A log that holds its position keeps its entries: they may
    /// be part of a quorum. Any other log is replaced by an empty one that begins there.
    async fn install_snapshot(&mut self, meta: &SnapshotMeta, start: StartPoint) -> io::Result<()> {
        let Some(last) = meta.last_log_id.as_ref().map(position) else {
            return Err(io::Error::other("snapshot without a position"));
        };
        failpoint!("replica", "install", Before);
        let log = Arc::clone(&self.log);
        let installed = start.clone();
        let install = move || match log.position_of(last.index) {
            Ok(Some(held)) if held == last => Ok(true),
            _ => log.reset(installed.clone()).map(|()| false),
        };
        let held = space::run(&*self.executor, self.log.group(), install).await?;
        if held {
            // The engine takes the position as durable once this returns.
            let (done, flushed) = oneshot::channel();
            self.log.after_flush(Box::new(move |result| drop(done.send(result))));
            let flushed = flushed.await.map_err(|_| io::Error::other("flusher stopped"))?;
            flushed.map_err(|err| io::Error::new(err.kind(), err))?;
        } else {
            *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Some(start.index);
        }
        self.restore(&start)?;
        failpoint!("replica", "install", After);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let log = Arc::clone(&self.log);
        let snapshot = *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let start = executor::run(&*self.executor, move || retained_start(&log, snapshot)).await?;
        start.map_err(io::Error::other)?.map_or(Ok(None), as_snapshot)
    }
}

/// The start point at `wanted` or, when a purge passed by meanwhile, the oldest one there is.
fn retained_start(log: &Log, wanted: Option<LogIndex>) -> Result<Option<StartPoint>, Error> {
    if let Some(index) = wanted {
        match log.start_at(index) {
            Err(Error::Gone { .. }) => {}
            found => return found.map(Some),
        }
    }
    loop {
        match log.oldest_start() {
            Err(Error::Gone { .. }) => {}
            found => return found,
        }
    }
}

/// Reads the start point that was chosen when the builder was made.
pub(crate) struct Builder {
    log: Arc<Log>,
    executor: Arc<dyn Executor>,
    index: Option<LogIndex>,
    snapshot: Snapshotted,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = StartPoint;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        // The janitor asks only when there is one, and a follower needs one only after a purge.
        let missing = || io::Error::other("the log has no start point yet");
        failpoint!("replica", "snapshot", Before);
        let (log, index) = (Arc::clone(&self.log), self.index);
        let start = executor::run(&*self.executor, move || retained_start(&log, index)).await?;
        let start = start.map_err(io::Error::other)?.ok_or_else(missing)?;
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Some(start.index);
        failpoint!("replica", "snapshot", After);
        as_snapshot(start)?.ok_or_else(missing)
    }
}
