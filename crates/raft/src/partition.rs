//! A partition's replica on this node, as the broker uses it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tidelog_log as log;
use tidelog_state::partition::{Command, CompactionPolicy};
use tidelog_types::batch::Info;
use tidelog_types::canary;
use tidelog_types::{GroupId, NodeId, Offset, Term, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};

use crate::executor::{self, Executor};
use crate::leadership::{Leadership, Role};
use crate::members::{MemberError, MemberStep, Target};
use crate::node::Suspect;
use crate::replica::{Campaigner, RaftStatus, Refused, Replica};
use crate::sequencing::{Appended, ProposeError, Request};
use crate::space::DiskSpace;
use crate::store::machines::{PartitionMachine, Progress};

/// Requests that may wait for a partition's sequencer; beyond, it is overloaded.
pub(crate) const QUEUE_REQUESTS_MAX: usize = 1024;

/// What a partition is told by its topic's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionConfig {
    /// Size at which a segment is closed. Smaller: more files. Larger: retention is coarser.
    pub segment_bytes: u64,
    /// Age after which a closed segment may go; `None` keeps all.
    pub retention: Option<Duration>,
    /// Size beyond which the oldest closed segments may go; `None` keeps all.
    pub retention_bytes: Option<u64>,
    /// Age at which a segment is closed, though it is not full.
    pub segment_age: Duration,
    /// How the log is compacted, if it is.
    pub compaction: Option<CompactionPolicy>,
    /// Whether the replicas are where they should be, and none is left elsewhere: one that is not asked
    /// any more, and may come back, keeps tombstones where they are.
    pub is_settled: bool,
}

impl Default for PartitionConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            retention: Some(Duration::from_secs(7 * 24 * 60 * 60)),
            retention_bytes: None,
            segment_age: Duration::from_secs(7 * 24 * 60 * 60),
            compaction: None,
            is_settled: true,
        }
    }
}

/// What can be read of a partition here and now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// What the replica has applied.
    pub progress: Progress,
    /// The first offset that may not be read yet: the high watermark, or less while this replica's
    /// own disk is behind its quorum's.
    pub readable: Offset,
}

impl View {
    pub(crate) fn of(progress: Progress, log: &log::Log) -> Self {
        let written = log.written_end();
        let readable =
            if canary!(ReadAboveCommit) { written } else { progress.high_watermark.min(written) };
        Self { progress, readable }
    }
}

/// Why a read gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The offset lies outside what the partition holds.
    #[error("offset {offset} is out of range {log_start}..{high_watermark}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The first offset that may be read.
        log_start: Offset,
        /// The first offset that may not.
        high_watermark: Offset,
    },
    /// Bytes on disk are not what was written; they are not served.
    #[error("{0}")]
    Corrupt(String),
    /// The log moved while it was read; the same may succeed at once.
    #[error("{0}")]
    Retry(String),
    /// The disk failed.
    #[error("{0}")]
    Storage(String),
}

/// A partition's replica. Clones share it.
#[derive(Clone, Debug)]
pub struct Partition {
    pub(crate) replica: Replica<PartitionMachine>,
    pub(crate) requests: mpsc::Sender<Request>,
    /// For waking up; what is true now is in `progress` and in the log.
    pub(crate) view: watch::Receiver<View>,
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) config: Arc<Mutex<PartitionConfig>>,
    /// The time by which the log was cleaned last, on its leader; `None` while its clock is not to be
    /// believed.
    pub(crate) cleaned_at: Arc<Mutex<Option<Timestamp>>>,
    pub(crate) campaigner: Arc<dyn Campaigner>,
    pub(crate) suspects: mpsc::Sender<Suspect>,
    pub(crate) space: watch::Receiver<DiskSpace>,
}

/// A batch on its way. Its place is fixed; dropping this only forgets the outcome.
#[derive(Debug)]
pub struct PendingAppend(oneshot::Receiver<Result<Appended, ProposeError>>);

impl Future for PendingAppend {
    type Output = Result<Appended, ProposeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or(Err(ProposeError::Unknown)))
    }
}

impl Partition {
    /// The Raft group.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.replica.group
    }

    /// Who leads, as it changes.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.replica.leadership.clone()
    }

    /// What can be read, as it moves.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// What the replica has applied, as it moves.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// What can be read at this moment.
    #[must_use]
    pub fn now(&self) -> View {
        View::of(*self.progress.borrow(), &self.replica.log)
    }

    /// Queues one whole batch that was checked, and `info` is its head. The order of the calls is
    /// the order in the log. The future resolves once the batch is durable at a quorum and applied.
    ///
    /// # Errors
    /// At once: [`ProposeError::Overloaded`] when the queue is full, [`ProposeError::StorageFull`] when
    /// the disk nearly is.
    pub fn enqueue(&self, batch: Bytes, info: Info) -> Result<PendingAppend, ProposeError> {
        if *self.space.borrow() > DiskSpace::Enough || self.replica.log.waits_for_room() {
            return Err(ProposeError::StorageFull);
        }
        let (reply, outcome) = oneshot::channel();
        self.requests.try_send(Request::Append { batch, info, reply }).map_err(
            |err| match err {
                mpsc::error::TrySendError::Full(_) => ProposeError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => ProposeError::NotLeader { hint: None },
            },
        )?;
        Ok(PendingAppend(outcome))
    }

    /// [`Partition::enqueue`] and its outcome in one. Not cancel safe: the batch stays queued.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn produce(&self, batch: Bytes, info: Info) -> Result<Appended, ProposeError> {
        self.enqueue(batch, info)?.await
    }

    /// Whole batches from `from` on, up to what is readable; at least one if there is any, though
    /// it be larger than `bytes_max`. The first may begin below `from`. Every checksum was verified.
    ///
    /// Serves whatever is committed here: only a ready leader knows that nothing newer is.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read(&self, from: Offset, bytes_max: usize) -> Result<log::Read, ReadError> {
        let view = self.now();
        let Progress { log_start, high_watermark, .. } = view.progress;
        if from < log_start || from > high_watermark {
            return Err(ReadError::OutOfRange { offset: from, log_start, high_watermark });
        }
        if from >= view.readable {
            return Ok(log::Read { batches: Vec::new(), next: from });
        }
        let log = Arc::clone(&self.replica.log);
        let read = move || log.read(from, view.readable, bytes_max);
        let read = executor::run(&*self.executor, read).await.map_err(storage)?;
        read.map_err(|err| self.read_error(from, &err))
    }

    /// The first record at or after `at`, if there is one: its offset and timestamp.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn offset_at(&self, at: Timestamp) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let view = self.now();
        let log = Arc::clone(&self.replica.log);
        let find = move || log.offset_at(at, view.readable);
        let found = executor::run(&*self.executor, find).await.map_err(storage)?;
        let found = found.map_err(|err| self.read_error(Offset::ZERO, &err))?;
        Ok(found.map(|(offset, time)| (offset.max(view.progress.log_start), time)))
    }

    /// When the leader appended the record at `offset`; `None` at the end of what can be read.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn append_time_at(&self, offset: Offset) -> Result<Option<Timestamp>, ReadError> {
        let view = self.now();
        let Progress { log_start, high_watermark, .. } = view.progress;
        if offset < log_start || offset > high_watermark {
            return Err(ReadError::OutOfRange { offset, log_start, high_watermark });
        }
        let log = Arc::clone(&self.replica.log);
        let find = move || log.append_time_at(offset, view.readable);
        let found = executor::run(&*self.executor, find).await.map_err(storage)?;
        found.map_err(|err| self.read_error(offset, &err))
    }

    fn read_error(&self, offset: Offset, err: &log::Error) -> ReadError {
        Suspect::tell(&self.suspects, self.replica.group, err);
        match err.kind() {
            log::ErrorKind::Corrupt => ReadError::Corrupt(err.to_string()),
            // Retention passed by between the look and the read.
            log::ErrorKind::Invalid | log::ErrorKind::Retry => {
                let Progress { log_start, high_watermark, .. } = *self.progress.borrow();
                if offset < log_start {
                    ReadError::OutOfRange { offset, log_start, high_watermark }
                } else {
                    ReadError::Retry(err.to_string())
                }
            }
            log::ErrorKind::Fatal => ReadError::Storage(err.to_string()),
        }
    }

    /// Waits until everything committed before the call is applied here. Leader only.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`] when a quorum does not confirm this node.
    pub async fn linearize(&self) -> Result<(), ProposeError> {
        if canary!(DeposedLeaderServes) {
            return Ok(());
        }
        self.replica.linearize().await.map_err(refused)
    }

    /// Raises the log start to `to`. Leader only.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn trim(&self, to: Offset) -> Result<(), ProposeError> {
        self.command(Command::Trim { to }).await
    }

    /// Has all replicas do something. Leader only.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub(crate) async fn command(&self, command: Command) -> Result<(), ProposeError> {
        let (reply, outcome) = oneshot::channel();
        let request = Request::Command { command, reply };
        self.requests.send(request).await.map_err(|_| ProposeError::NotLeader { hint: None })?;
        outcome.await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// Hands leadership to `to`, or to another voter when that one does not take it.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`] on another node; a sentence when nobody took it.
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), TransferError> {
        transferred(self.replica.transfer(to, &*self.campaigner).await)
    }

    /// Takes one step towards `target`, which must have been asked for after this node was elected in
    /// `term`. Leader only. Cancelling may leave the change half done; the next step finishes it.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn step_towards(
        &self,
        term: Term,
        target: &Target,
    ) -> Result<MemberStep, MemberError> {
        self.replica.step_towards(term, target, &*self.campaigner).await
    }

    /// Where Raft stands.
    #[must_use]
    pub fn raft_status(&self) -> RaftStatus {
        self.replica.status()
    }

    /// Bytes of the log on this node's disk.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.replica.log.bytes()
    }

    /// Follows a change of the topic's configuration.
    pub fn set_config(&self, config: PartitionConfig) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// What the topic's configuration says.
    pub(crate) fn config(&self) -> PartitionConfig {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of the last [`Partition::retain`], on the leader only: one look at the clock serves both,
    /// for each that is too far ahead is believed a little more.
    pub(crate) fn cleaned_at(&self) -> Option<Timestamp> {
        if self.replica.leadership.borrow().role != Role::Leader {
            return None;
        }
        *self.cleaned_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time by which to clean; on the leader only, while its clock is to be believed.
    async fn time_to_clean(&self) -> Option<Timestamp> {
        if self.replica.leadership.borrow().role != Role::Leader {
            return None;
        }
        let (reply, admitted) = oneshot::channel();
        self.requests.send(Request::Retain { reply }).await.ok()?;
        admitted.await.ok().flatten()
    }

    /// On the leader: trims what retention no longer keeps.
    pub(crate) async fn retain(&self) {
        let now = self.time_to_clean().await;
        *self.cleaned_at.lock().unwrap_or_else(PoisonError::into_inner) = now;
        let Some(now) = now else { return };
        let config = self.config();
        let log = Arc::clone(&self.replica.log);
        let due = move || log.retention(now, config.retention, config.retention_bytes);
        if let Ok(Some(to)) = executor::run(&*self.executor, due).await
            && to > self.progress.borrow().log_start
            && let Err(err) = self.trim(to).await
        {
            // The next round asks again, here or on the next leader.
            tracing::debug!(group = %self.replica.group, %err, "retention was not applied");
        }
    }
}

/// Why leadership stayed where it was, or may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// Another node leads.
    #[error("not the leader")]
    NotLeader {
        /// Who does, when known.
        hint: Option<NodeId>,
    },
    /// The reason in one line.
    #[error("{0}")]
    Failed(String),
}

pub(crate) fn transferred(result: Result<(), Refused>) -> Result<(), TransferError> {
    result.map_err(|refused| match refused {
        Refused::NotLeader(hint) => TransferError::NotLeader { hint },
        Refused::Other(reason) => TransferError::Failed(reason),
    })
}

fn refused(refused: Refused) -> ProposeError {
    match refused {
        Refused::NotLeader(hint) => ProposeError::NotLeader { hint },
        Refused::Other(_) => ProposeError::Retry,
    }
}

fn storage(err: std::io::Error) -> ReadError {
    ReadError::Storage(err.to_string())
}
