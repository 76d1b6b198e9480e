//! Compacts the logs of topics that want it.
//!
//! The leader of a partition raises the goal, which is part of the partition's state, and every replica
//! compacts its own log up to it: one log of a node at a time, at a pace. Before the tombstones below a
//! goal begin to wait for their end, the leader asks all replicas of the group whether they have come so
//! far: a replica that is gone, or behind, keeps them where they are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidelog_log as log;
use tidelog_log::{CompactLimits, CompactReport, CompactStep, Compacted, Log};
use tidelog_state::partition::{Closed, Command, CompactionPolicy, Goal};
use tidelog_types::{LogIndex, NodeId, Offset, Timestamp};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::{Hosted, Kind, Shared};
use crate::executor;
use crate::link::reading::LogReading;
use crate::partition::Partition;

/// Bytes that are read at a time.
const STEP_BYTES: usize = 512 * 1024;

/// What a batch may inflate to; one that is larger stays as it is. The memory of a pass is about three
/// times this, and its keys.
pub const COMPACT_INFLATE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long nothing was appended before a leader adds an entry so that others can close a segment.
const IDLE: Duration = Duration::from_secs(30);

/// How long a leader waits for a replica to say how far it has come.
const ASK_PATIENCE: Duration = Duration::from_secs(1);

/// How logs are compacted.
#[derive(Clone, Copy, Debug)]
pub struct Compacting {
    /// Bytes a second that are read for it at most; zero turns it off.
    pub rate_max: u64,
    /// Bytes of keys that are held in memory for it. With more keys than that a log is read more than
    /// once.
    pub keys_bytes_max: usize,
}

impl Default for Compacting {
    fn default() -> Self {
        Self { rate_max: 50 * 1024 * 1024, keys_bytes_max: 64 * 1024 * 1024 }
    }
}

/// How far the other replicas of a partition have come.
enum Others {
    /// All have come so far.
    Have,
    /// One says that it has not.
    MayNot,
    /// Not all could be asked.
    Unknown,
}

/// What compaction has done since the node started.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) bytes: AtomicU64,
    pub(super) records: AtomicU64,
}

/// Compacts for as long as the node runs.
pub(super) async fn compact(shared: Arc<Shared>) {
    if shared.config.compacting.rate_max == 0 {
        return std::future::pending().await;
    }
    loop {
        sleep(shared.config.clean_every).await;
        let hosted: Vec<Hosted> = shared.groups().values().cloned().collect();
        for group in hosted {
            let Kind::Partition(partition) = &group.kind else { continue };
            if let Some(policy) = partition.config().compaction {
                shared.lead_compaction(partition, &policy).await;
                shared.compact_log(partition).await;
            }
        }
    }
}

impl Shared {
    /// On the leader of a partition: raises its goal when that is due.
    async fn lead_compaction(&self, partition: &Partition, policy: &CompactionPolicy) {
        let Some(now) = partition.cleaned_at() else { return };
        let state = partition.progress.borrow().compaction;
        let to = state.due(policy, now, &closed(&partition.replica.log));
        let mature_to = match state.to_mature() {
            Some(to) => match self.has_compacted(partition, to).await {
                Others::Have => Some(to),
                // They have closed a segment each, perhaps, which an idle topic gives no entry to end.
                Others::MayNot if is_idle(&partition.replica.log, now) => Some(Offset::ZERO),
                Others::MayNot | Others::Unknown => None,
            },
            None => None,
        };
        let tombstones_to = state.tombstones_due(policy, now);
        if to.is_none() && mature_to.is_none() && tombstones_to.is_none() {
            return;
        }
        let or_zero = Option::unwrap_or_default;
        let goal = Goal {
            to: or_zero(to),
            mature_to: or_zero(mature_to),
            tombstones_to: or_zero(tombstones_to),
        };
        let group = partition.group();
        match timeout(ASK_PATIENCE, partition.command(Command::Compact(goal))).await {
            Ok(Ok(())) => debug!(%group, ?goal, "compaction is due"),
            // The next round asks again, here or on the next leader.
            Ok(Err(err)) => debug!(%group, %err, "compaction was not asked for"),
            Err(_) => debug!(%group, "compaction was not agreed on in time"),
        }
    }

    /// Whether every replica that there is has compacted its log up to `to`.
    async fn has_compacted(&self, partition: &Partition, to: Offset) -> Others {
        if partition.replica.log.compacted().to < to || !partition.config().is_settled {
            return Others::Unknown;
        }
        let status = partition.raft_status();
        let others: BTreeSet<NodeId> = status.voters.into_iter().chain(status.learners).collect();
        // Before anybody is waited for: the logs of all other partitions wait, too.
        if !others.is_subset(&self.peers.live()) {
            return Others::Unknown;
        }
        for node in others.into_iter().filter(|node| *node != self.config.node) {
            let peer = self.peers.get(node);
            // No entries, only what stands before them.
            let (from, until) = (LogIndex::ZERO, Some(LogIndex::ZERO));
            let asked = LogReading::open(&peer, partition.group(), from, until);
            match timeout(ASK_PATIENCE, asked).await {
                Ok(Ok(reading)) if reading.compacted_to >= to => {}
                Ok(Ok(_)) => return Others::MayNot,
                Ok(Err(_)) | Err(_) => return Others::Unknown,
            }
        }
        Others::Have
    }

    /// Compacts the log of a partition as far as its state and its closed segments allow.
    async fn compact_log(&self, partition: &Partition) {
        let log = Arc::clone(&partition.replica.log);
        let state = partition.progress.borrow().compaction;
        log.roll_below(state.to);
        let done = log.compacted();
        let closed_to = log.segments().last().map_or(Offset::ZERO, |last| last.base_offset);
        let to = state.to.min(closed_to).max(done.to);
        let tombstones_to = state.tombstones_to.min(to).max(done.tombstones_to);
        let goal = Compacted { to, tombstones_to };
        if goal == done {
            return;
        }
        let group = log.group();
        match self.pass(log, goal).await {
            Ok(report) => {
                self.compacted.bytes.fetch_add(report.freed, Ordering::Relaxed);
                self.compacted.records.fetch_add(report.removed, Ordering::Relaxed);
                let CompactReport { read, freed, removed: records, .. } = report;
                info!(%group, offset = %to, records, read, bytes = freed, "log was compacted");
            }
            // Cut, purged or mended under the pass: the next round begins anew.
            Err(err) if err.kind() == log::ErrorKind::Retry => {}
            Err(err) => {
                super::Suspect::tell(&self.scrubber.suspects(), group, &err);
                warn!(%group, %err, "log is not compacted");
            }
        }
    }

    async fn pass(&self, log: Arc<Log>, goal: Compacted) -> Result<CompactReport, log::Error> {
        let config = self.config.compacting;
        let limits = CompactLimits {
            keys_bytes_max: config.keys_bytes_max,
            inflate_bytes_max: COMPACT_INFLATE_BYTES_MAX,
        };
        let mut pass = log::Compaction::new(log, goal, limits);
        loop {
            let step = move || {
                let stepped = pass.step(STEP_BYTES);
                (pass, stepped)
            };
            let stepped = executor::run(&*self.env.executor, step).await;
            let (back, stepped) = stepped.map_err(log::Error::io("compact", "log"))?;
            pass = back;
            match stepped? {
                CompactStep::Over(report) => return Ok(report),
                CompactStep::Read(bytes) => {
                    sleep(Duration::from_secs_f64(bytes as f64 / config.rate_max as f64)).await;
                }
            }
        }
    }
}

/// Whether nothing was appended for a while.
fn is_idle(log: &Log, now: Timestamp) -> bool {
    let idle = now.0.saturating_sub(log.frontier().append_time.0);
    idle >= i64::try_from(IDLE.as_millis()).unwrap_or(i64::MAX)
}

fn closed(log: &Log) -> Vec<Closed> {
    let mut segments = log.segments();
    // The last one takes entries.
    segments.pop();
    let closed = segments.into_iter().map(|segment| Closed {
        end: segment.end_offset,
        bytes: segment.bytes,
        append_time: segment.append_time,
    });
    closed.collect()
}

/// Closes the segment that takes entries when it is older than the topic's configuration allows.
pub(super) async fn roll(shared: &Shared, partition: &Partition, now: Timestamp) {
    let config = partition.config();
    let lag_max = config.compaction.and_then(|policy| policy.lag_max);
    let age = lag_max.map_or(config.segment_age, |lag| lag.min(config.segment_age));
    let log = Arc::clone(&partition.replica.log);
    if !log.may_roll_after(age, now) {
        return;
    }
    let roll = move || log.roll_after(age, now);
    match executor::run(&*shared.env.executor, roll).await {
        Ok(Ok(())) => {}
        Ok(Err(err)) => debug!(group = %partition.group(), %err, "segment was not closed"),
        Err(err) => debug!(group = %partition.group(), %err, "segment was not closed"),
    }
}
