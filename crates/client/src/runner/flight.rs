//! Which partitions have calls in progress: they are waited for before a partition is given up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidelog_types::TopicPartition;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cluster::locked;
use crate::{Listening, RebalanceListener};

/// Counts calls by partition, and keeps them out of partitions that are to go. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<()>>,
    /// How long calls are waited for.
    patience: Duration,
}

#[derive(Debug, Default)]
struct State {
    running: BTreeMap<TopicPartition, usize>,
    going: BTreeSet<TopicPartition>,
    all_going: bool,
}

/// A call in progress, until it is dropped.
#[derive(Debug)]
pub(super) struct Pass {
    flight: Flight,
    partition: TopicPartition,
}

impl Flight {
    pub(super) fn new(patience: Duration) -> Self {
        Self { state: Arc::default(), changed: Arc::new(watch::Sender::new(())), patience }
    }

    /// Lets a call of the partition in, unless that is to go.
    pub(super) fn enter(&self, partition: &TopicPartition) -> Option<Pass> {
        let mut state = locked(&self.state);
        if state.all_going || state.going.contains(partition) {
            return None;
        }
        *state.running.entry(partition.clone()).or_default() += 1;
        Some(Pass { flight: self.clone(), partition: partition.clone() })
    }

    /// Lets no call in any more, and waits for those in progress.
    pub(super) async fn stop(&self, within: Duration) {
        locked(&self.state).all_going = true;
        self.landed(within, |state| state.running.is_empty()).await;
    }

    async fn landed(&self, within: Duration, landed: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !landed(&locked(&self.state)) {
                // The sender lives as long as this.
                let _ = changed.changed().await;
            }
        };
        // Those that take longer go on; what they do counts for nothing.
        let _ = timeout(within, wait).await;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = locked(&self.flight.state);
        if let Some(running) = state.running.get_mut(&self.partition) {
            *running -= 1;
            if *running == 0 {
                state.running.remove(&self.partition);
            }
        }
        drop(state);
        self.flight.changed.send_replace(());
    }
}

impl RebalanceListener for Flight {
    fn assigned<'a>(&'a self, partitions: &'a [TopicPartition]) -> Listening<'a> {
        let mut state = locked(&self.state);
        state.going.retain(|partition| !partitions.contains(partition));
        Box::pin(std::future::ready(()))
    }

    fn revoked<'a>(&'a self, partitions: &'a [TopicPartition]) -> Listening<'a> {
        locked(&self.state).going.extend(partitions.iter().cloned());
        Box::pin(self.landed(self.patience, |state| {
            partitions.iter().all(|partition| !state.running.contains_key(partition))
        }))
    }

    fn lost<'a>(&'a self, partitions: &'a [TopicPartition]) -> Listening<'a> {
        locked(&self.state).going.extend(partitions.iter().cloned());
        Box::pin(std::future::ready(()))
    }
}
