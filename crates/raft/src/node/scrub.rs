//! Reads every byte of every log again, slowly, so that rot is found while other replicas can still
//! mend it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidelog_log as log;
use tidelog_log::{Damage, DamagedFile, Log, Scrub, Scrubbed};
use tidelog_types::{GroupId, LogIndex, NodeId};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::Shared;
use crate::executor;
use crate::sources::with_sources;

/// Bytes that are read at a time.
const STEP_BYTES: usize = 256 * 1024;

/// Bytes a second below which no pass is slowed down: a small log is read in a moment.
const RATE_MIN: u64 = 64 * 1024;

/// Pause before a look whether there is something to read, when there is nothing.
const IDLE: Duration = Duration::from_secs(10);

/// Pause before another try to mend what nobody could help with.
const LEFT_AGAIN: Duration = Duration::from_secs(1);

/// Suspects that wait to be read; who finds the queue full is passed over, the next pass comes by.
const SUSPECTS_MAX: usize = 64;

/// Replicas that wait to be taken out of their groups.
const OUTS_MAX: usize = 1024;

/// How a node's disk is read again.
#[derive(Clone, Copy, Debug)]
pub struct Scrubbing {
    /// Within this time every byte is read once.
    pub every: Duration,
    /// Bytes a second that are read at most; zero turns it off.
    pub rate_max: u64,
}

impl Default for Scrubbing {
    fn default() -> Self {
        Self { every: Duration::from_secs(7 * 24 * 60 * 60), rate_max: 10 * 1024 * 1024 }
    }
}

/// What one pass over a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubReport {
    /// Bytes that were read.
    pub bytes: u64,
    /// Damage that was mended at once, in a line each.
    pub mended: Vec<String>,
    /// Damage for which the replica leaves its group until it is whole again, in a line each.
    pub stepped_out: Vec<String>,
    /// Damage that could not be mended yet: no other replica helps. It is tried again every second.
    pub left: Vec<String>,
}

/// A replica that must leave its group, be closed and be filled up again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SteppedOut {
    /// The group.
    pub group: GroupId,
    /// What is wrong, in one line.
    pub reason: String,
}

/// A segment that a reader has found damaged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suspect {
    pub(crate) group: GroupId,
    pub(crate) segment: LogIndex,
}

impl Suspect {
    /// Has the segment read again at once in which a reader met damage.
    pub(crate) fn tell(suspects: &mpsc::Sender<Self>, group: GroupId, err: &log::Error) {
        let log::Error::Corrupt { path, .. } = err else { return };
        let first = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let Some(segment) = first.map(LogIndex) {
            // A full queue, or a node that stops: the next pass comes by.
            let _ = suspects.try_send(Self { group, segment });
        }
    }
}

/// The node's scrubber, beside the task that drives it.
#[derive(Debug)]
pub(crate) struct Scrubber {
    suspects: mpsc::Sender<Suspect>,
    outs: mpsc::Sender<SteppedOut>,
    /// Told to the first who asks.
    outs_told: std::sync::Mutex<Option<mpsc::Receiver<SteppedOut>>>,
    /// One pass at a time: two would find the same damage.
    turn: Mutex<()>,
    /// Damage that no other replica could help with yet.
    left: std::sync::Mutex<BTreeSet<(GroupId, LogIndex)>>,
    pub(super) counters: Counters,
}

/// What scrubbers have done since the node started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(super) bytes: AtomicU64,
    pub(super) found: AtomicU64,
    pub(super) repaired: AtomicU64,
}

impl Counters {
    pub(super) fn repaired(&self) {
        self.repaired.fetch_add(1, Ordering::Relaxed);
    }
}

impl Scrubber {
    /// The scrubber, and what its task must follow.
    pub(super) fn new() -> (Self, mpsc::Receiver<Suspect>) {
        let (suspects, suspected) = mpsc::channel(SUSPECTS_MAX);
        let (outs, told) = mpsc::channel(OUTS_MAX);
        let (turn, counters) = (Mutex::default(), Counters::default());
        let outs_told = std::sync::Mutex::new(Some(told));
        (
            Self { suspects, outs, outs_told, turn, left: std::sync::Mutex::default(), counters },
            suspected,
        )
    }

    /// The replicas that must step out; for the first caller only.
    pub(super) fn outs(&self) -> Option<mpsc::Receiver<SteppedOut>> {
        self.outs_told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    fn left(&self) -> std::sync::MutexGuard<'_, BTreeSet<(GroupId, LogIndex)>> {
        self.left.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Where readers tell what they have met.
    pub(crate) fn suspects(&self) -> mpsc::Sender<Suspect> {
        self.suspects.clone()
    }
}

/// Reads on for as long as the node runs: suspects at once, everything else at its pace.
pub(super) async fn scrub(shared: Arc<Shared>, mut suspects: mpsc::Receiver<Suspect>) {
    let Scrubbing { every, rate_max } = shared.config.scrubbing;
    let mut pass = Box::pin(passes(Arc::clone(&shared), every, rate_max));
    loop {
        tokio::select! {
            biased;
            suspect = suspects.recv() => {
                let Some(Suspect { group, segment }) = suspect else { return };
                shared.scrub_segment(group, segment).await;
            }
            () = &mut pass => return,
        }
    }
}

async fn passes(shared: Arc<Shared>, every: Duration, rate_max: u64) {
    if rate_max == 0 {
        return std::future::pending().await;
    }
    loop {
        let began = Instant::now();
        let groups: Vec<GroupId> = shared.groups().keys().copied().collect();
        let bytes: u64 =
            groups.iter().filter_map(|group| shared.log_of(*group)).map(|log| log.bytes()).sum();
        // Twice as fast as need be: what is appended meanwhile is to be read, too.
        let needed = bytes.saturating_mul(2) / every.as_secs().max(1);
        let rate = needed.clamp(RATE_MIN, rate_max.max(RATE_MIN));
        for group in groups {
            shared.scrub_group(group, rate).await;
        }
        sleep(every.saturating_sub(began.elapsed()).max(IDLE)).await;
    }
}

impl Shared {
    fn log_of(&self, group: GroupId) -> Option<Arc<Log>> {
        self.groups().get(&group).map(|hosted| hosted.port.log())
    }

    /// Reads the whole log of a group, `rate` bytes a second; `None` when it is not open here.
    pub(super) async fn scrub_group(&self, group: GroupId, rate: u64) -> Option<ScrubReport> {
        let _turn = self.scrubber.turn.lock().await;
        let log = self.log_of(group)?;
        let mut report = ScrubReport::default();
        self.read(&log, Scrub::new(Arc::clone(&log)), rate, |_| false, &mut report).await;
        Some(report)
    }

    /// Reads one segment, for somebody has met damage in it.
    async fn scrub_segment(&self, group: GroupId, segment: LogIndex) {
        let _turn = self.scrubber.turn.lock().await;
        let Some(log) = self.log_of(group) else { return };
        let of_it = log.segments().into_iter().find(|info| info.first_index == segment);
        let (mut report, mut left) = (ScrubReport::default(), of_it.map_or(0, |info| info.bytes));
        let over = |read: u64| {
            left = left.saturating_sub(read);
            left == 0
        };
        self.read(&log, Scrub::at(Arc::clone(&log), segment), u64::MAX, over, &mut report).await;
    }

    /// Reads on until the log is over, or `over` says so of the bytes that were read.
    async fn read(
        &self,
        log: &Arc<Log>,
        mut pass: Scrub,
        rate: u64,
        mut over: impl FnMut(u64) -> bool,
        report: &mut ScrubReport,
    ) {
        loop {
            let step = move || {
                let stepped = pass.step(STEP_BYTES);
                (pass, stepped)
            };
            let stepped = match executor::run(&*self.env.executor, step).await {
                Ok((back, stepped)) => {
                    pass = back;
                    stepped
                }
                Err(err) => return warn!(group = %log.group(), %err, "a log is not read on"),
            };
            match stepped {
                Ok(Scrubbed::Clean(bytes)) => {
                    report.bytes += bytes;
                    self.scrubber.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
                    if over(bytes) {
                        return;
                    }
                    sleep(Duration::from_secs_f64(bytes as f64 / rate as f64)).await;
                }
                Ok(Scrubbed::Damaged(damage)) => {
                    if self.damaged(log, damage, report).await {
                        return;
                    }
                }
                Ok(Scrubbed::Over) => return,
                Err(err) => return warn!(group = %log.group(), %err, "a log is not read on"),
            }
        }
    }

    /// Has damage mended; `true` when the replica steps out.
    async fn damaged(&self, log: &Arc<Log>, damage: Damage, report: &mut ScrubReport) -> bool {
        let group = log.group();
        let Damage { segment, place, is_last, reason } = damage;
        if self.scrubber.left().insert((group, segment)) {
            error!(%group, %segment, reason, "damage was found on disk");
            self.scrubber.counters.found.fetch_add(1, Ordering::Relaxed);
        }
        let mended = match place {
            DamagedFile::Start => {
                let log = Arc::clone(log);
                let forget = move || log.forget_start(segment);
                let forgotten = executor::run(&*self.env.executor, forget).await;
                forgotten.map_err(|err| err.to_string()).and_then(|forgotten| {
                    forgotten.map(|()| reason.clone()).map_err(|err| err.to_string())
                })
            }
            DamagedFile::Entries if !is_last => {
                let voters = self.voters_of(group);
                let mended = self.mend(log, segment, &voters).await;
                mended
                    .map(|aside| {
                        format!("{reason}; the damaged file is kept as {}", aside.display())
                    })
                    .map_err(|err| format!("{reason}; {}", with_sources(&err)))
            }
            DamagedFile::Entries | DamagedFile::FirstStart => {
                self.scrubber.left().remove(&(group, segment));
                report.stepped_out.push(reason.clone());
                let out = SteppedOut { group, reason };
                if self.scrubber.outs.send(out).await.is_err() {
                    warn!(%group, "nobody takes a damaged replica out of its group");
                }
                return true;
            }
        };
        match mended {
            Ok(how) => {
                info!(%group, %segment, how, "damage was mended");
                self.scrubber.left().remove(&(group, segment));
                self.scrubber.counters.repaired();
                report.mended.push(how);
            }
            Err(why) => {
                warn!(%group, %segment, why, "damage is not mended yet");
                report.left.push(why);
                let suspects = self.scrubber.suspects();
                tokio::spawn(async move {
                    sleep(LEFT_AGAIN).await;
                    // As in `Suspect::tell`.
                    let _ = suspects.try_send(Suspect { group, segment });
                });
            }
        }
        false
    }

    fn voters_of(&self, group: GroupId) -> BTreeSet<NodeId> {
        self.groups().get(&group).map(|hosted| hosted.member.voters()).unwrap_or_default()
    }
}
