//! Commits: under the present epoch, and again when that has changed.

use std::sync::Arc;
use std::time::Duration;

use tidelog_types::{ErrorCode, TopicPartition};
use tokio::time::{Instant, sleep, timeout_at};

use super::CommitError;
use super::core::{Core, Member};
use super::reading::Reading;
use crate::cluster::Backoff;
use crate::{Error, OffsetCommit};

/// An offset to commit, for a partition as it is held.
#[derive(Debug)]
pub(super) struct Commit {
    reading: Arc<Reading>,
    offset: OffsetCommit,
    /// A try without an answer may have taken effect.
    maybe_written: bool,
}

impl Commit {
    pub(super) fn new(reading: Arc<Reading>, offset: OffsetCommit) -> Self {
        Self { reading, offset, maybe_written: false }
    }

    fn partition(&self) -> TopicPartition {
        self.reading.partition.clone()
    }

    fn not_held(&self) -> CommitError {
        CommitError::NotHeld { partition: self.partition(), maybe_written: self.maybe_written }
    }
}

/// What one call left over.
struct Left {
    /// To be sent again.
    again: Vec<Commit>,
    /// Whether the epoch was not the present one.
    stale: bool,
    /// Why the last of them failed.
    last: Option<Error>,
}

impl Core {
    /// Commits what is marked in `readings`.
    pub(super) async fn commit_marked(
        &self,
        readings: &[Arc<Reading>],
        within: Duration,
    ) -> Result<(), CommitError> {
        let due = readings.iter().filter_map(|reading| {
            let due = reading.due()?;
            Some(Commit::new(Arc::clone(reading), OffsetCommit::new(due)))
        });
        self.commit(due.collect(), within).await
    }

    /// Commits offsets of held partitions, and tries again for as long as it may help.
    pub(super) async fn commit(
        &self,
        commits: Vec<Commit>,
        within: Duration,
    ) -> Result<(), CommitError> {
        let deadline = Instant::now() + within;
        let mut heard = self.heard.subscribe();
        let mut backoff = Backoff::long();
        let mut outcome = Ok(());
        let mut commits = commits;
        loop {
            heard.borrow_and_update();
            let member = self.member();
            commits.retain(|commit| {
                let held = member.is_some() && self.holds(commit);
                if !held {
                    fail(&mut outcome, commit.not_held());
                }
                held
            });
            let Some(member) = member.filter(|_| !commits.is_empty()) else { return outcome };
            let left = deadline.saturating_duration_since(Instant::now());
            let tried = self.try_commit(&member, commits, left, &mut outcome).await;
            let Some(commit) = tried.again.first() else { return outcome };
            let in_time = if !tried.stale {
                timeout_at(deadline, sleep(backoff.next())).await.is_ok()
            } else if self.member().as_ref() == Some(&member) {
                // The answer that tells the new epoch is on its way.
                timeout_at(deadline, heard.changed()).await.is_ok()
            } else {
                Instant::now() < deadline
            };
            if !in_time {
                let (partition, source) = (commit.partition(), tried.last.map(Box::new));
                fail(&mut outcome, CommitError::TimedOut { partition, after: within, source });
                return outcome;
            }
            commits = tried.again;
        }
    }

    /// Whether what is to be committed still belongs to what is held.
    fn holds(&self, commit: &Commit) -> bool {
        let Commit { reading, .. } = commit;
        self.is_granted(&reading.partition, reading.granted_epoch)
    }

    async fn try_commit(
        &self,
        member: &Member,
        commits: Vec<Commit>,
        within: Duration,
        outcome: &mut Result<(), CommitError>,
    ) -> Left {
        let offsets = commits
            .iter()
            .map(|commit| commit.offset.wire(&commit.reading.partition, &commit.reading.topic_id));
        let identity = Some((member.id.clone(), member.epoch));
        let answers = match self.calls.commit(identity, offsets.collect(), within).await {
            Ok(answers) => answers,
            Err(error) => commits.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut left = Left { again: Vec::new(), stale: false, last: None };
        for (mut commit, answer) in commits.into_iter().zip(answers) {
            let error = match answer {
                Ok(committed) => {
                    commit.reading.set_committed(committed.offset);
                    continue;
                }
                Err(error) => error,
            };
            commit.maybe_written |= error.maybe_written();
            match error.code() {
                Some(ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch) => {
                    self.poke.notify_one();
                    fail(outcome, commit.not_held());
                    continue;
                }
                Some(ErrorCode::StaleMemberEpoch) => left.stale = true,
                _ if error.is_retriable() => {}
                _ => {
                    let (partition, source) = (commit.partition(), Box::new(error));
                    let maybe_written = commit.maybe_written;
                    fail(outcome, CommitError::Refused { partition, maybe_written, source });
                    continue;
                }
            }
            left.last = Some(error);
            left.again.push(commit);
        }
        left
    }
}

/// The first error counts.
fn fail(outcome: &mut Result<(), CommitError>, error: CommitError) {
    if outcome.is_ok() {
        *outcome = Err(error);
    }
}
