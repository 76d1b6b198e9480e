//! Where partitions begin that the group has committed nothing for.

use std::sync::Arc;
use std::time::Duration;

use tidelog_types::{ErrorCode, Offset, Timestamp};
use tokio::time::{Instant, sleep};

use super::ConsumeError;
use super::commit::Commit;
use super::core::Core;
use super::reading::Reading;
use crate::admin::OffsetAt;
use crate::cluster::Backoff;
use crate::{Admin, Error, OffsetCommit};

/// How long one look-up may take, so that partitions without a leader hold up no others.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a group begins with a partition that it has committed nothing for.
///
/// There is no default: *latest* silently skips what is there, *earliest* may bring years of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartPolicy {
    /// With the first record that is still there.
    Earliest,
    /// With the next record that is written.
    Latest,
    /// With the first record of this time or later.
    Timestamp(Timestamp),
    /// Nowhere: it is an error, [`ConsumeError::NoOffset`].
    Error,
}

impl StartPolicy {
    fn offset_at(self) -> Option<OffsetAt> {
        match self {
            Self::Earliest => Some(OffsetAt::Earliest),
            Self::Latest => Some(OffsetAt::Latest),
            Self::Timestamp(time) => Some(OffsetAt::Timestamp(time)),
            Self::Error => None,
        }
    }
}

impl Core {
    /// Begins with partitions: where the group is, or else by the start policy.
    pub(super) fn start(self: &Arc<Self>, readings: Vec<Arc<Reading>>) {
        let mut without = Vec::new();
        for reading in readings {
            match (reading.committed(), self.config.start.offset_at()) {
                (Some(committed), _) => self.begin(&reading, committed),
                (None, Some(_)) => without.push(reading),
                (None, None) => {
                    let (group, partition) =
                        (self.calls.group().clone(), reading.partition.clone());
                    reading.fail(ConsumeError::NoOffset { group, partition });
                }
            }
        }
        if let Some(at) = self.config.start.offset_at().filter(|_| !without.is_empty()) {
            tokio::spawn(Arc::clone(self).find_starts(without, at));
        }
    }

    /// Begins at `offset`, and says so first when nothing is committed: otherwise what comes before the
    /// first commit is skipped, or comes again, with the next owner.
    pub(super) fn start_at(self: &Arc<Self>, reading: Arc<Reading>, offset: Offset) {
        if reading.committed().is_some() {
            self.begin(&reading, offset);
            return;
        }
        tokio::spawn(Arc::clone(self).settle(vec![(reading, offset)]));
    }

    /// Looks for the starts of `readings` until each is found or gone.
    async fn find_starts(self: Arc<Self>, mut readings: Vec<Arc<Reading>>, at: OffsetAt) {
        let admin = Admin::new(Arc::clone(&self.cluster));
        let mut trouble = Trouble::new();
        loop {
            readings.retain(|reading| reading.is_starting());
            if readings.is_empty() {
                return;
            }
            let items = readings.iter().map(|reading| (reading.partition.clone(), at)).collect();
            let listed = admin.look_up(items, LOOK_UP_TIMEOUT).await;
            let (mut found, mut missing, mut problem) = (Vec::new(), Vec::new(), None);
            for (reading, (_, listed)) in readings.into_iter().zip(listed) {
                match listed {
                    Ok(listed) => found.push((reading, listed.offset)),
                    Err(error) if may_pass(&error) => {
                        problem = Some(error);
                        missing.push(reading);
                    }
                    Err(error) => reading.fail(start_error(&reading, error)),
                }
            }
            if !found.is_empty() {
                tokio::spawn(Arc::clone(&self).settle(found));
            }
            readings = missing;
            if let Some(error) = problem {
                trouble.pause(&self, &readings, error).await;
            }
        }
    }

    /// Commits where partitions begin, and begins there. When somebody else has committed meanwhile,
    /// that is where.
    async fn settle(self: Arc<Self>, mut found: Vec<(Arc<Reading>, Offset)>) {
        let mut trouble = Trouble::new();
        loop {
            found.retain(|(reading, _)| reading.is_starting());
            let commits = found.iter().map(|(reading, offset)| {
                Commit::new(Arc::clone(reading), OffsetCommit::new(*offset))
            });
            let outcome = self.commit(commits.collect(), self.cluster.request_timeout()).await;
            found.retain(|(reading, offset)| match reading.committed() {
                Some(committed) => {
                    self.begin(reading, committed.max(*offset));
                    false
                }
                None => true,
            });
            found.retain(|(reading, _)| reading.is_starting());
            let Err(error) = outcome else { return };
            if found.is_empty() {
                return;
            }
            let readings = found.iter().map(|(reading, _)| Arc::clone(reading)).collect::<Vec<_>>();
            let error = Error::Unavailable {
                address: "any".to_owned(),
                reason: format!("the first position is not committed: {error}"),
            };
            trouble.pause(&self, &readings, error).await;
        }
    }
}

/// Whether another try may find where a partition begins. One that nobody has heard of was granted all
/// the same: the brokers that were asked lag, or it is being deleted and will be revoked.
fn may_pass(error: &Error) -> bool {
    error.is_retriable() || error.code() == Some(ErrorCode::UnknownTopicOrPartition)
}

fn start_error(reading: &Reading, error: Error) -> ConsumeError {
    ConsumeError::Start { partition: reading.partition.clone(), source: Box::new(error) }
}

/// Pauses between tries, and tells the application when it takes long.
struct Trouble {
    since: Instant,
    backoff: Backoff,
}

impl Trouble {
    fn new() -> Self {
        Self { since: Instant::now(), backoff: Backoff::long() }
    }

    async fn pause(&mut self, core: &Core, readings: &[Arc<Reading>], error: Error) {
        if self.since.elapsed() >= core.config.fetch.unavailable_timeout {
            self.since = Instant::now();
            readings.iter().for_each(|reading| reading.fail(start_error(reading, error.clone())));
        }
        sleep(self.backoff.next()).await;
    }
}
