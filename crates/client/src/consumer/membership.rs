//! The membership in the group: one task, which alone changes what the consumer holds.
//!
//! ```text
//! coordinator <══ heartbeat (long poll) ══ membership ── reconcile: stop, tell, commit, give up, take
//!                 always one in flight         │
//!                                              └ auto commit, deadline, close
//! ```

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tidelog_types::{ErrorCode, TopicPartition};
use tokio::sync::oneshot;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep};
use tracing::{debug, info, warn};

use super::core::{Core, Member};
use super::heartbeat::{Beat, Heart};
use super::reconcile::{Step, give_up_all, reconcile};
use super::{CommitError, ConsumeError};
use crate::Error;
use crate::cluster::Backoff;
use crate::group::ANY;

pub(super) use super::heartbeat::Target;

/// How long leaving may take, once nothing else is to be done.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Tells how closing ended.
pub(super) type Closed = oneshot::Sender<Result<(), CommitError>>;

/// Why a membership ended.
enum End {
    /// The consumer was closed, or dropped; all is given up.
    Closed(Result<(), CommitError>),
    /// The coordinator has ended it.
    Expired,
    /// The application has marked nothing for too long.
    Overdue(Duration),
    /// The group cannot be joined, or somebody took this member's place.
    Refused(Error),
}

/// Runs memberships, one after the other, until the consumer is closed or refused.
pub(super) async fn run(core: Arc<Core>, mut closing: oneshot::Receiver<Closed>) {
    let mut backoff = Backoff::long();
    let (reply, outcome) = loop {
        let mut membership = Membership::new(Arc::clone(&core), &mut closing);
        let end = membership.run().await;
        let Membership { heart, is_closing, reply, .. } = membership;
        let mut last = Ok(());
        if matches!(end, End::Overdue(_)) {
            last = commit_last(&core).await;
        }
        let (member, due) = (core.member(), core.first_due());
        let lost = core.lose_all();
        if !lost.is_empty() {
            warn!(group = %core.calls.group(), partitions = lost.len(), "lost partitions");
            core.listener.lost(&lost).await;
        }
        if heart.has_joined() {
            backoff = Backoff::long();
        }
        match end {
            End::Closed(outcome) => break (reply, outcome.and(leave(&core, member).await)),
            End::Refused(error) => {
                let source = Box::new(error.clone());
                core.tell(core.group_error(error));
                let refused =
                    |partition| CommitError::Refused { partition, maybe_written: true, source };
                break (reply, not_committed(due, refused));
            }
            End::Expired if is_closing => {
                let not_held = |partition| CommitError::NotHeld { partition, maybe_written: true };
                break (reply, not_committed(due, not_held));
            }
            End::Overdue(_) if is_closing => break (reply, last.and(leave(&core, member).await)),
            End::Expired => sleep(backoff.next()).await,
            End::Overdue(after) => {
                if let Err(error) = leave(&core, member).await {
                    debug!(group = %core.calls.group(), err = %error, "could not leave");
                }
                // What was asked for before the news does not count.
                let _ = core.wanted.notified().now_or_never();
                core.tell(ConsumeError::ProcessingDeadline { after });
                tokio::select! {
                    biased;
                    reply = &mut closing => break (reply.ok(), Ok(())),
                    () = core.wanted.notified() => {}
                }
            }
        }
    };
    core.finish();
    if let Some(reply) = reply {
        // Whoever closed the consumer may have gone.
        let _ = reply.send(outcome);
    }
}

/// Commits what is marked, before the partitions go.
async fn commit_last(core: &Core) -> Result<(), CommitError> {
    let held = core.held();
    held.iter().for_each(|reading| reading.stop());
    let outcome = core.commit_marked(&held, LEAVE_TIMEOUT).await;
    if let Err(error) = &outcome {
        warn!(group = %core.calls.group(), err = %error, "last commit failed");
    }
    outcome
}

/// How closing ends without a last commit: it fails if there was something `due`.
fn not_committed(
    due: Option<TopicPartition>,
    error: impl FnOnce(TopicPartition) -> CommitError,
) -> Result<(), CommitError> {
    due.map_or(Ok(()), |partition| Err(error(partition)))
}

/// A static member stays: whoever comes under the same instance id takes its partitions over.
async fn leave(core: &Core, member: Option<Member>) -> Result<(), CommitError> {
    let Some(member) = member.filter(|_| core.config.instance_id.is_none()) else { return Ok(()) };
    let left = core.calls.leave(member.id, LEAVE_TIMEOUT).await;
    left.map_err(|error| CommitError::Leave(Box::new(error)))
}

/// One membership, from joining to its end.
struct Membership<'a> {
    core: Arc<Core>,
    closing: &'a mut oneshot::Receiver<Closed>,
    heart: Heart,
    /// What is to be held, as last heard.
    target: Option<Arc<Target>>,
    /// The revision of the target that is settled.
    settled: u64,
    /// Set while the consumer closes.
    is_closing: bool,
    /// Who waits for that.
    reply: Option<Closed>,
    /// When the coordinator answered last, or the application was told that it does not.
    heard: Instant,
}

impl<'a> Membership<'a> {
    fn new(core: Arc<Core>, closing: &'a mut oneshot::Receiver<Closed>) -> Self {
        let heart = Heart::new(&core);
        let heard = Instant::now();
        let (target, settled, is_closing, reply) = (None, 0, false, None);
        Self { core, closing, heart, target, settled, is_closing, reply, heard }
    }

    async fn run(&mut self) -> End {
        let core = Arc::clone(&self.core);
        let mut beat = self.heart.beat(&core, None, Beat::Now);
        let mut work: Option<BoxFuture<'static, Step>> = None;
        let mut commit: Option<BoxFuture<'static, ()>> = None;
        let mut commits = core.config.auto_commit.map(every);
        let mut checks = core.config.processing_deadline.map(|deadline| every(deadline / 4));
        loop {
            if work.is_none() {
                work = self.next_work();
            }
            tokio::select! {
                biased;
                reply = &mut *self.closing, if !self.is_closing => {
                    (self.is_closing, self.reply) = (true, reply.ok());
                }
                answer = &mut beat => {
                    if let Some(end) = self.hear(answer) {
                        return end;
                    }
                    beat = self.heart.beat(&core, self.target.as_deref(), Beat::Wait);
                }
                step = maybe(&mut work) => {
                    work = None;
                    match step {
                        Step::Settled(revision) => self.settled = revision,
                        Step::GaveUp(revision) => {
                            self.heart.acknowledge(revision);
                            if self.heart.may_interrupt() {
                                beat = self.heart.beat(&core, self.target.as_deref(), Beat::Now);
                            }
                        }
                        Step::Closed(outcome) => return End::Closed(outcome),
                    }
                }
                () = core.poke.notified() => {
                    if self.heart.may_interrupt() {
                        beat = self.heart.beat(&core, self.target.as_deref(), Beat::Now);
                    }
                }
                () = tick(&mut commits) => {
                    if commit.is_none() {
                        commit = Some(auto_commit(Arc::clone(&core)).boxed());
                    }
                }
                () = maybe(&mut commit) => commit = None,
                () = tick(&mut checks) => {
                    if let Some(after) = overdue(&core) {
                        return End::Overdue(after);
                    }
                }
            }
        }
    }

    /// What is to be done about what is held.
    fn next_work(&self) -> Option<BoxFuture<'static, Step>> {
        let core = Arc::clone(&self.core);
        if self.is_closing {
            return Some(give_up_all(core).boxed());
        }
        let target = self.target.as_ref()?;
        (target.revision != self.settled).then(|| reconcile(core).boxed())
    }

    /// Takes an answer in; tells whether the membership is over.
    fn hear(&mut self, answer: Result<Target, Error>) -> Option<End> {
        let core = &self.core;
        let answer = match answer {
            Ok(target) if self.is_of_another_life(&target) => return Some(End::Expired),
            Ok(target) => self.not_outdated(target),
            Err(error) => Err(error),
        };
        let error = match answer {
            Ok(target) => {
                self.heard = Instant::now();
                self.heart.hear(&target);
                let (id, epoch) = (self.heart.member_id().to_owned(), target.member_epoch);
                let target = Arc::new(target);
                core.adopt(Member { id, epoch }, &target);
                self.target = Some(target);
                core.heard.send_modify(|heard| *heard += 1);
                return None;
            }
            Err(error) => error,
        };
        self.heart.fail();
        let (group, member) = (core.calls.group(), self.heart.member_id());
        match error.code() {
            Some(ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch) => {
                info!(%group, member, err = %error, "membership ended");
                return Some(End::Expired);
            }
            _ if error.is_retriable() => debug!(%group, member, err = %error, "no heartbeat"),
            _ => return Some(End::Refused(error)),
        }
        if self.heard.elapsed() >= core.config.fetch.unavailable_timeout {
            self.heard = Instant::now();
            core.tell(core.group_error(error));
        }
        None
    }

    /// Revisions begin anew only with the membership: it was expired, and a late copy of the first
    /// heartbeat has made a member of this id again. Epochs never begin anew.
    fn is_of_another_life(&self, new: &Target) -> bool {
        let old = self.target.as_ref();
        old.is_some_and(|old| new.revision < old.revision && new.member_epoch > old.member_epoch)
    }

    /// Passes over what a leader says that does not know yet that it is none: it is older than what was
    /// acted on already.
    fn not_outdated(&self, new: Target) -> Result<Target, Error> {
        match &self.target {
            Some(old) if new.revision < old.revision => {
                let reason = format!("revision {} came after {}", new.revision, old.revision);
                Err(Error::Unavailable { address: ANY.to_owned(), reason })
            }
            _ => Ok(new),
        }
    }
}

/// Commits what is marked. What fails is tried again with the next tick.
async fn auto_commit(core: Arc<Core>) {
    let within = core.cluster.request_timeout();
    if let Err(error) = core.commit_marked(&core.held(), within).await {
        warn!(group = %core.calls.group(), err = %error, "auto commit failed");
    }
}

/// The deadline, when no record was marked for so long though some wait for it.
fn overdue(core: &Core) -> Option<Duration> {
    let deadline = core.config.processing_deadline?;
    let held = core.held();
    let progress = held.iter().map(|reading| reading.progress()).max()?;
    let waiting = held.iter().any(|reading| reading.is_waiting());
    (waiting && progress.elapsed() > deadline).then_some(deadline)
}

fn every(period: Duration) -> Interval {
    let period = period.max(Duration::from_millis(1));
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => pending().await,
    }
}

async fn maybe<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}
