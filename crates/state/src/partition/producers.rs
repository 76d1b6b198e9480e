//! What a partition remembers of its idempotent producers (KIP-98).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidelog_types::{ErrorCode, Offset, ProducerEpoch, ProducerId, Timestamp, batch};

/// Batches remembered per producer, as in Kafka: what a producer may have in flight.
pub const BATCHES_REMEMBERED: usize = 5;

/// Producers remembered per partition: 10,000 take about 3 MB. Smaller: more producers at once are
/// answered `RESOURCE_EXHAUSTED`. Larger: memory, and snapshots of that size.
pub const PRODUCERS_MAX: u32 = 10_000;

/// A producer that was silent for so long is forgotten: 24 h, in append time.
pub const PRODUCER_EXPIRY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Within this time after its last append no producer is pushed out by others: 10 min, well above
/// the 2 min for which clients retry, since a retry by a forgotten producer could append twice.
pub const PRODUCER_KEPT_MS_MIN: i64 = 10 * 60 * 1_000;

/// Bounds of a table. They are part of the replicated state: a build with other constants must not
/// evict differently from the replicas beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) producers_max: u32,
    pub(super) expiry_ms: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { producers_max: PRODUCERS_MAX, expiry_ms: PRODUCER_EXPIRY_MS }
    }
}

/// The next sequence number after `count` records from `base`; wraps after `i32::MAX` to zero.
pub(super) const fn sequence_after(base: i32, count: u32) -> i32 {
    ((base as u32).wrapping_add(count) & i32::MAX as u32) as i32
}

/// How a batch names itself among its producer's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) producer: ProducerId,
    pub(super) epoch: ProducerEpoch,
    pub(super) base_sequence: i32,
    pub(super) count: u32,
}

impl Claim {
    /// The claim in a batch's header; `None` when the batch is not to be deduplicated.
    pub(super) fn of(batch: &batch::Info) -> Option<Self> {
        (batch.producer_id.0 >= 0).then_some(Self {
            producer: batch.producer_id,
            epoch: batch.producer_epoch,
            base_sequence: batch.base_sequence,
            count: batch.count,
        })
    }

    /// Whether both are sends of the same batch.
    pub(super) fn same_batch(&self, base_sequence: i32, count: u32) -> bool {
        self.base_sequence == base_sequence && self.count == count
    }

    /// Whether the whole batch lies before `sequence`, in the present lap of sequence numbers.
    ///
    /// Numbers of an earlier lap count as not before: a false "yes" would be taken for an append.
    pub(super) fn lies_before(&self, sequence: i32) -> bool {
        i64::from(self.base_sequence) + i64::from(self.count) <= i64::from(sequence)
    }
}

/// A remembered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) base_sequence: i32,
    pub(super) count: u32,
    pub(super) base_offset: Offset,
    pub(super) append_time: Timestamp,
}

/// One producer's last batches, all of one epoch, oldest first; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Producer {
    pub(super) epoch: ProducerEpoch,
    pub(super) batches: VecDeque<Remembered>,
}

impl Producer {
    fn last(&self) -> &Remembered {
        self.batches.back().expect("a producer is known by its batches")
    }

    pub(super) fn append_time(&self) -> Timestamp {
        self.last().append_time
    }

    pub(super) fn sequence_next(&self) -> i32 {
        sequence_after(self.last().base_sequence, self.last().count)
    }

    pub(super) fn find(&self, claim: &Claim) -> Option<&Remembered> {
        self.batches.iter().find(|b| claim.same_batch(b.base_sequence, b.count))
    }
}

/// The producers of a partition.
///
/// A function of the record entries alone: every replica holds the same table, and so does the
/// sequencer once it has settled them.
///
/// Invariants: at most `producers_max` producers; `by_age` holds each producer once, under its last
/// append time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProducerTable {
    limits: Limits,
    producers: BTreeMap<ProducerId, Producer>,
    by_age: BTreeSet<(Timestamp, ProducerId)>,
}

impl ProducerTable {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn len(&self) -> usize {
        self.producers.len()
    }

    pub(super) fn find(&self, id: ProducerId) -> Option<&Producer> {
        self.producers.get(&id)
    }

    /// The producers by id.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (ProducerId, &Producer)> {
        self.producers.iter().map(|(id, producer)| (*id, producer))
    }

    /// The producers by the time of their last append, the longest silent first.
    pub(super) fn by_age(&self) -> impl Iterator<Item = (Timestamp, ProducerId)> {
        self.by_age.iter().copied()
    }

    /// Remembers an appended batch, then forgets whoever is expired or too many.
    pub(super) fn append(&mut self, claim: Claim, base_offset: Offset, append_time: Timestamp) {
        self.expire(append_time);
        let Claim { producer: id, epoch, base_sequence, count } = claim;
        let mut producer = self
            .remove(id)
            .filter(|known| known.epoch == epoch)
            .unwrap_or(Producer { epoch, batches: VecDeque::with_capacity(BATCHES_REMEMBERED) });
        if producer.batches.len() == BATCHES_REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Remembered { base_sequence, count, base_offset, append_time });
        self.insert(id, producer);
        while self.producers.len() > self.limits.producers_max as usize {
            self.forget_oldest();
        }
    }

    /// Adds a producer read from a snapshot.
    pub(super) fn insert(&mut self, id: ProducerId, producer: Producer) {
        self.by_age.insert((producer.append_time(), id));
        self.producers.insert(id, producer);
    }

    fn expire(&mut self, append_time: Timestamp) {
        let kept_from = Timestamp(append_time.0.saturating_sub(self.limits.expiry_ms));
        while self.by_age.first().is_some_and(|(last, _)| *last < kept_from) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.by_age.pop_first() {
            self.producers.remove(&id);
        }
    }

    fn remove(&mut self, id: ProducerId) -> Option<Producer> {
        let producer = self.producers.remove(&id)?;
        self.by_age.remove(&(producer.append_time(), id));
        Some(producer)
    }
}

/// What a producer's last known state says to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It follows: it may be appended.
    Follows,
    /// It is not new; the batches themselves tell which one it repeats.
    Known,
    /// It may not be appended.
    Refused(ErrorCode),
}

/// Kafka's rules for a batch after a producer whose newest epoch and next sequence are `newest`.
pub(super) fn judge(claim: &Claim, newest: Option<(ProducerEpoch, i32)>) -> Verdict {
    let first = claim.base_sequence == 0;
    match newest {
        None if first => Verdict::Follows,
        None => Verdict::Refused(ErrorCode::UnknownProducerId),
        Some((epoch, _)) if claim.epoch < epoch => {
            Verdict::Refused(ErrorCode::InvalidProducerEpoch)
        }
        Some((epoch, _)) if claim.epoch > epoch => {
            if first {
                Verdict::Follows
            } else {
                Verdict::Refused(ErrorCode::OutOfOrderSequence)
            }
        }
        Some((_, next)) if claim.base_sequence == next => Verdict::Follows,
        Some(_) => Verdict::Known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(producer: i64, base_sequence: i32, count: u32) -> Claim {
        let (producer, epoch) = (ProducerId(producer), ProducerEpoch(0));
        Claim { producer, epoch, base_sequence, count }
    }

    #[test]
    fn sequences_wrap_after_the_largest() {
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 4), 2);
        assert!(!claim(1, i32::MAX - 1, 2).lies_before(0));
        assert!(!claim(1, 5, 2).lies_before(5));
        assert!(claim(1, 3, 2).lies_before(5));
        assert!(!claim(1, 9, 2).lies_before(5));
    }

    #[test]
    fn the_longest_silent_producer_goes_first_then_the_lowest_id() {
        let limits = Limits { producers_max: 2, expiry_ms: 1_000 };
        let mut table = ProducerTable::new(limits);
        for (id, time) in [(7, 10), (3, 10), (5, 20)] {
            table.append(claim(id, 0, 1), Offset(0), Timestamp(time));
        }
        let ids: Vec<_> = table.iter().map(|(id, _)| id.0).collect();
        assert_eq!(ids, [5, 7]);
        table.append(claim(9, 0, 1), Offset(0), Timestamp(1_011));
        let ids: Vec<_> = table.iter().map(|(id, _)| id.0).collect();
        assert_eq!(ids, [5, 9], "7 has expired");
    }

    #[test]
    fn a_new_epoch_forgets_the_batches_of_the_old_one() {
        let mut table = ProducerTable::default();
        (0..7).for_each(|n| table.append(claim(1, n, 1), Offset(n as u64), Timestamp(0)));
        assert_eq!(table.find(ProducerId(1)).unwrap().batches.len(), BATCHES_REMEMBERED);
        let renewed = Claim { epoch: ProducerEpoch(1), ..claim(1, 0, 1) };
        table.append(renewed, Offset(7), Timestamp(0));
        assert_eq!(table.find(ProducerId(1)).unwrap().batches.len(), 1);
    }
}
