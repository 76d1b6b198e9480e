//! Bringing back what a replica has lost to damage, from the other replicas of its group.
//!
//! - A closed segment is mended while the group goes on, with entries of any replica: the chain vouches
//!   for them ([`Log::mend`]).
//! - Damage elsewhere takes the replica out of its group. Then [`Node::refill`] keeps what is whole and
//!   does below the engine what a leader's append would do: it takes over the vote of a leader that a
//!   quorum has just confirmed, and all that this leader holds. It must be all: the replica may have
//!   acked what it has lost, so that a shorter log here could elect a leader that lacks it. A vote for
//!   a later term than the leader's is kept: it may never have won, and then nobody else knows of it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use tidelog_log as log;
use tidelog_log::{Damage, DamagedFile, Log, Mending, NewEntry, Salvaged, Scrub, Scrubbed};
use tidelog_types::{GroupId, LogIndex, NodeId};
use tokio::sync::oneshot;
use tonic::Status;
use tracing::{debug, info};

use super::{COMMANDS_SEGMENT_BYTES, Kind, Node, Shared};
use crate::config::{Vote, stored_vote};
use crate::executor;
use crate::link::reading::LogReading;

/// Bytes that are read again at a time.
const SCRUB_BYTES: usize = 1024 * 1024;

/// Why a log is not whole again. Trying again goes on where it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// None of the other replicas could help; the last one's reason.
    #[error("no other replica can help: {0}")]
    NoHelp(String),
    /// The log here refuses.
    #[error("log here")]
    Log(#[from] log::Error),
    /// The log here does not open.
    #[error("log here")]
    Open(#[from] log::OpenError),
    /// The disk or a thread failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<Status> for RepairError {
    fn from(status: Status) -> Self {
        Self::NoHelp(status.message().to_owned())
    }
}

/// What came from another replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refilled {
    /// Entries.
    pub entries: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

impl Node {
    /// Makes the log of a quarantined replica whole again; it can be opened then. The group must not be
    /// open here.
    ///
    /// # Errors
    /// See [`RepairError`].
    pub async fn refill(&self, group: GroupId, voters: &[NodeId]) -> Result<Refilled, RepairError> {
        let shared = &self.shared;
        let _turn = Turn::take(shared, group)?;
        let (env, config) = (self.log_env(), self.log_config(COMMANDS_SEGMENT_BYTES));
        let salvage = {
            let (env, config) = (env.clone(), config.clone());
            move || Log::salvage(&env, group, &config)
        };
        let mut salvaged = executor::run(&*shared.env.executor, salvage).await??;
        let mut problem = "the group has no other voter".to_owned();
        for voter in voters.iter().filter(|voter| **voter != self.id()) {
            let from = match &salvaged {
                Salvaged::Prefix(log) => log.frontier().next_index(),
                Salvaged::Nothing => LogIndex::ZERO,
            };
            let peer = shared.peers.get(*voter);
            let mut reading = match LogReading::open(&peer, group, from, None).await {
                Ok(reading) => reading,
                Err(status) => {
                    problem = format!("{voter}: {}", status.message());
                    continue;
                }
            };
            self.follow_vote(group, reading.vote.as_ref()).await?;
            let begin = match (reading.start.take(), salvaged) {
                // The leader has nothing of before its start point, so neither need this replica.
                (Some(start), _) => Some(Some(start)),
                (None, Salvaged::Nothing) => Some(None),
                (None, Salvaged::Prefix(log)) => return self.fill(&log, reading, voters).await,
            };
            let start = begin.flatten();
            let (env, config) = (env.clone(), config.clone());
            let begin = move || Log::begin_again(&env, group, &config, start.as_ref());
            let log = executor::run(&*shared.env.executor, begin).await??;
            return self.fill(&log, reading, voters).await;
        }
        drop(std::mem::replace(&mut salvaged, Salvaged::Nothing));
        Err(RepairError::NoHelp(problem))
    }

    /// Takes the leader's vote over, as its append would, unless the one here is for a later term.
    ///
    /// Then nobody was elected in that term before this replica stepped out: one of its voters would have
    /// refused to confirm the leader that gives us its log. So whatever this replica has acked is in that
    /// log. What it promised stands: it acks nothing to that leader, which hears of the later term as soon
    /// as the replica takes part again.
    async fn follow_vote(&self, group: GroupId, vote: Option<&Vote>) -> Result<(), RepairError> {
        let vote = vote.filter(|vote| vote.is_committed()).map(stored_vote);
        let vote =
            vote.ok_or_else(|| RepairError::NoHelp("an answer without a vote".to_owned()))?;
        let votes = &self.shared.votes;
        let held = votes.get(group).and_then(|record| record.vote);
        if held == Some(vote) {
            return Ok(());
        }
        if held.is_some_and(|held| !vote.may_replace(&held)) {
            debug!(%group, ?vote, ?held, "the vote here is for a later term than the leader's");
            return Ok(());
        }
        let (done, saved) = oneshot::channel();
        votes.save_vote(group, vote, Box::new(move |result| drop(done.send(result))));
        settled(saved.await)
    }

    /// Appends all that comes, and declares the log whole.
    async fn fill(
        &self,
        log: &Arc<Log>,
        mut reading: LogReading,
        voters: &[NodeId],
    ) -> Result<Refilled, RepairError> {
        let mut refilled = Refilled::default();
        while let Some(entries) = reading.next().await? {
            refilled.count(&entries);
            let (done, flushed) = oneshot::channel();
            let appended = log.append(entries, Box::new(move |result| drop(done.send(result))));
            if let Err(err) = appended {
                // The entries here are not the leader's: none of them was ever committed for good.
                debug!(group = %log.group(), %err, "another history is left here, it begins anew");
                self.discard(log).await?;
                return Err(err.into());
            }
            settled(flushed.await)?;
        }
        if log.frontier().next_index() != reading.end {
            return Err(RepairError::NoHelp("the leader's log came cut short".to_owned()));
        }
        self.mend_all(log, &voters.iter().copied().collect()).await?;
        let (whole, group) = (Arc::clone(log), log.group());
        executor::run(&*self.shared.env.executor, move || whole.finish_salvage()).await??;
        self.shared.scrubber.counters.repaired();
        info!(%group, entries = refilled.entries, bytes = refilled.bytes, "a replica is whole again");
        Ok(refilled)
    }

    /// Reads the whole log, and mends what recovery does not look at.
    async fn mend_all(&self, log: &Arc<Log>, voters: &BTreeSet<NodeId>) -> Result<(), RepairError> {
        let mut pass = Scrub::new(Arc::clone(log));
        loop {
            let step = move || {
                let stepped = pass.step(SCRUB_BYTES);
                (pass, stepped)
            };
            let (back, stepped) = executor::run(&*self.shared.env.executor, step).await?;
            pass = back;
            match stepped? {
                Scrubbed::Clean(_) => {}
                Scrubbed::Over => return Ok(()),
                Scrubbed::Damaged(Damage { segment, place: DamagedFile::Start, .. }) => {
                    let log = Arc::clone(log);
                    let forget = move || log.forget_start(segment);
                    executor::run(&*self.shared.env.executor, forget).await??;
                }
                Scrubbed::Damaged(Damage {
                    segment,
                    place: DamagedFile::Entries,
                    is_last: false,
                    ..
                }) => {
                    self.shared.mend(log, segment, voters).await?;
                }
                // Damaged since it was salvaged: the next try sees to it.
                Scrubbed::Damaged(Damage { reason, .. }) => {
                    return Err(RepairError::NoHelp(reason));
                }
            }
        }
    }

    /// Sets everything aside: the next try begins with nothing.
    async fn discard(&self, log: &Arc<Log>) -> Result<(), RepairError> {
        let (env, group) = (self.log_env(), log.group());
        let discard = move || Log::set_aside(&env, group);
        Ok(executor::run(&*self.shared.env.executor, discard).await??)
    }
}

/// The right to fill a group's log up, given back when dropped.
struct Turn<'a> {
    shared: &'a Shared,
    group: GroupId,
}

impl<'a> Turn<'a> {
    fn take(shared: &'a Shared, group: GroupId) -> Result<Self, RepairError> {
        if shared.groups().contains_key(&group) {
            return Err(RepairError::NoHelp("the group is open here".to_owned()));
        }
        let mut all = shared.refilling.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.insert(group) {
            return Err(RepairError::NoHelp("it is being filled up already".to_owned()));
        }
        Ok(Self { shared, group })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let all = &self.shared.refilling;
        all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.group);
    }
}

impl Refilled {
    fn count(&mut self, entries: &[NewEntry]) {
        self.entries += entries.len() as u64;
        let bodies = entries.iter().flat_map(|entry| &entry.body);
        self.bytes += bodies.map(|part| part.len() as u64).sum::<u64>();
    }
}

impl Shared {
    /// Mends a closed segment of an open log with entries of whichever voter has them; says where the
    /// damaged bytes are kept.
    pub(super) async fn mend(
        &self,
        log: &Arc<Log>,
        segment: LogIndex,
        voters: &BTreeSet<NodeId>,
    ) -> Result<PathBuf, RepairError> {
        let mut problem = RepairError::NoHelp("the group has no other voter".to_owned());
        for voter in voters.iter().filter(|voter| **voter != self.config.node) {
            let begin = {
                let log = Arc::clone(log);
                move || log.mend(segment)
            };
            let mending = executor::run(&*self.env.executor, begin).await??;
            match self.mend_from(mending, log.group(), *voter).await {
                Ok(aside) => return Ok(aside),
                Err(err) => problem = err,
            }
        }
        Err(problem)
    }

    async fn mend_from(
        &self,
        mut mending: Mending,
        group: GroupId,
        voter: NodeId,
    ) -> Result<PathBuf, RepairError> {
        let wanted = mending.wanted();
        if !wanted.is_empty() {
            let peer = self.peers.get(voter);
            let mut reading =
                LogReading::open(&peer, group, wanted.start, Some(wanted.end)).await?;
            self.has_what_tombstones_need(&mending, group, voter, &reading)?;
            while let Some(entries) = reading.next().await? {
                let push = move || mending.push(&entries).map(|()| mending);
                mending = executor::run(&*self.env.executor, push).await??;
            }
        }
        Ok(executor::run(&*self.env.executor, move || mending.finish()).await??)
    }

    /// Refuses entries of a replica that has not compacted them, where tombstones may be gone that
    /// supersede what it still holds.
    fn has_what_tombstones_need(
        &self,
        mending: &Mending,
        group: GroupId,
        voter: NodeId,
        reading: &LogReading,
    ) -> Result<(), RepairError> {
        let needed = match self.groups().get(&group).map(|hosted| &hosted.kind) {
            Some(Kind::Partition(partition)) => {
                let goal = partition.progress.borrow().compaction;
                let mature = goal.mature.map_or(goal.tombstones_to, |mature| mature.offset);
                mature.min(mending.end_offset())
            }
            _ => return Ok(()),
        };
        if reading.compacted_to >= needed {
            return Ok(());
        }
        let to = reading.compacted_to;
        Err(RepairError::NoHelp(format!("{voter} has compacted up to {to} only, not {needed}")))
    }
}

fn settled(
    flushed: Result<Result<(), Arc<std::io::Error>>, oneshot::error::RecvError>,
) -> Result<(), RepairError> {
    let flushed = flushed.map_err(|_| std::io::Error::other("flusher stopped"))?;
    Ok(flushed.map_err(|err| std::io::Error::new(err.kind(), err))?)
}
