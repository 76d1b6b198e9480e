//! What the sequencer let in and has not yet seen applied.

use std::collections::{BTreeMap, VecDeque};

use tidelog_types::{ProducerEpoch, ProducerId};

use super::Ticket;
use super::producers::{Claim, sequence_after};

/// One producer's batches on their way, oldest first; never empty.
type Waiting = VecDeque<(Ticket, Claim)>;

/// The producers with batches on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Overlay {
    producers: BTreeMap<ProducerId, Waiting>,
}

impl Overlay {
    /// The newest epoch of the producer and the sequence number that follows.
    pub(super) fn newest(&self, id: ProducerId) -> Option<(ProducerEpoch, i32)> {
        let (_, last) = self.producers.get(&id)?.back()?;
        Some((last.epoch, sequence_after(last.base_sequence, last.count)))
    }

    /// The first send of the same batch.
    pub(super) fn find(&self, claim: &Claim) -> Option<Ticket> {
        let waiting = self.producers.get(&claim.producer)?;
        waiting.iter().find(|(_, known)| known == claim).map(|(ticket, _)| *ticket)
    }

    pub(super) fn contains(&self, id: ProducerId) -> bool {
        self.producers.contains_key(&id)
    }

    pub(super) fn producers(&self) -> impl Iterator<Item = ProducerId> {
        self.producers.keys().copied()
    }

    pub(super) fn push(&mut self, ticket: Ticket, claim: Claim) {
        self.producers.entry(claim.producer).or_default().push_back((ticket, claim));
    }

    /// Drops the producer's oldest batch, which has been applied.
    pub(super) fn settle(&mut self, claim: &Claim) {
        let Some(waiting) = self.producers.get_mut(&claim.producer) else { return };
        waiting.pop_front();
        if waiting.is_empty() {
            self.producers.remove(&claim.producer);
        }
    }

    pub(super) fn clear(&mut self) {
        self.producers.clear();
    }
}
