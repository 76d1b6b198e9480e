//! Groups that are being opened, closed or deleted: each by one caller at a time.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tidelog_types::GroupId;
use tokio::sync::Notify;

/// The groups that somebody is at work on. One log must never be open twice.
#[derive(Debug, Default)]
pub(super) struct Opening {
    busy: Mutex<BTreeSet<GroupId>>,
    freed: Notify,
}

impl Opening {
    /// Waits until nobody else is at work on `group`, in no particular order. Cancel safe.
    pub(super) async fn lock(&self, group: GroupId) -> Held<'_> {
        loop {
            // Made before the look: it hears of whatever is freed from then on.
            let freed = self.freed.notified();
            if self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(group) {
                return Held { opening: self, group };
            }
            freed.await;
        }
    }
}

/// One group, for as long as this lives.
#[derive(Debug)]
pub(super) struct Held<'a> {
    opening: &'a Opening,
    group: GroupId,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let busy = &self.opening.busy;
        busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.group);
        self.opening.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tidelog_types::{PartitionId, TopicId};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_for_each_group() {
        let opening = Opening::default();
        let group = |partition| GroupId::new(TopicId(1), PartitionId(partition));
        let first = opening.lock(group(0)).await;
        let other = opening.lock(group(1)).now_or_never();
        assert!(other.is_some(), "another group is not held up");
        let again = timeout(Duration::from_secs(1), opening.lock(group(0))).await;
        assert!(again.is_err());
        let (second, ()) = tokio::join!(opening.lock(group(0)), async { drop(first) });
        drop(second);
        assert!(opening.lock(group(0)).now_or_never().is_some());
    }
}
