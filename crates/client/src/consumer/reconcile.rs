//! From what is held to what is to be held: give up first, take then.

use std::sync::Arc;
use std::time::Duration;

use tidelog_types::TopicPartition;
use tracing::{info, warn};

use super::CommitError;
use super::core::Core;
use super::reading::Reading;

/// What was done.
pub(super) enum Step {
    /// Everything is as it should be, by the target of this revision or a later one.
    Settled(u64),
    /// Something was given up, for the target of this revision: the coordinator has to hear of it.
    GaveUp(u64),
    /// Everything was given up.
    Closed(Result<(), CommitError>),
}

/// Does what the target asks for: what is to be given up first, and only when that is done, what is to
/// be taken.
pub(super) async fn reconcile(core: Arc<Core>) -> Step {
    let group = core.calls.group();
    let changes = core.part_with();
    lose(&core, &changes.moved).await;
    if !changes.gone.is_empty() {
        info!(%group, partitions = changes.gone.len(), "giving partitions up");
        if let Err(error) = give_up(&core, &changes.gone).await {
            warn!(%group, err = %error, "last commit failed: records will come again");
        }
    }
    if changes.freed || !changes.gone.is_empty() {
        return Step::GaveUp(changes.revision);
    }
    let new = core.take();
    if !new.is_empty() {
        info!(%group, partitions = new.len(), "took partitions");
        core.listener.assigned(&names(&new)).await;
        core.present(&new);
        core.start(new);
    }
    Step::Settled(changes.revision)
}

/// Gives everything up, at the end.
pub(super) async fn give_up_all(core: Arc<Core>) -> Step {
    lose(&core, &core.part_with().moved).await;
    let held = core.held();
    held.iter().for_each(|reading| reading.stop());
    let outcome = if held.is_empty() { Ok(()) } else { give_up(&core, &held).await };
    Step::Closed(outcome)
}

/// Tells of what was granted anew.
async fn lose(core: &Core, moved: &[TopicPartition]) {
    if !moved.is_empty() {
        info!(group = %core.calls.group(), partitions = moved.len(), "partitions were moved");
        core.listener.lost(moved).await;
    }
}

/// Gives up what has been stopped: tells, commits what is marked, lets go.
async fn give_up(core: &Core, gone: &[Arc<Reading>]) -> Result<(), CommitError> {
    core.listener.revoked(&names(gone)).await;
    let outcome = core.commit_marked(gone, commit_timeout(core)).await;
    core.give_up(gone);
    outcome
}

/// Half of the time that giving up may take: the other half is the listener's.
fn commit_timeout(core: &Core) -> Duration {
    core.cluster.request_timeout().min(core.config.rebalance_timeout / 2)
}

fn names(readings: &[Arc<Reading>]) -> Vec<TopicPartition> {
    readings.iter().map(|reading| reading.partition.clone()).collect()
}
