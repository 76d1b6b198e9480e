//! Since when the leader of the metadata has missed brokers.
//!
//! In memory only, and forgotten when leadership goes: the next leader counts from when it began to lead,
//! so that no broker is given up by somebody who could not have heard of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidelog_state::metadata::Machine;
use tidelog_types::BrokerId;
use tokio::time::Instant;

/// Since when each broker of the cluster that is not alive has been missed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Missed(BTreeMap<BrokerId, Instant>);

impl Missed {
    /// Notes who is there and who is not.
    pub(crate) fn look(&mut self, machine: &Machine, live: &BTreeSet<BrokerId>) {
        self.0.retain(|id, _| machine.broker(*id).is_some() && !live.contains(id));
        for broker in machine.brokers().filter(|broker| !live.contains(&broker.id)) {
            self.0.entry(broker.id).or_insert_with(Instant::now);
        }
    }

    /// Those that have been missed for so long.
    pub(crate) fn longer_than(&self, after: Duration) -> BTreeSet<BrokerId> {
        let long = self.0.iter().filter(|(_, since)| since.elapsed() >= after);
        long.map(|(id, _)| *id).collect()
    }

    /// For how long a broker has been missed.
    pub(crate) fn for_how_long(&self, id: BrokerId) -> Option<Duration> {
        self.0.get(&id).map(Instant::elapsed)
    }
}
