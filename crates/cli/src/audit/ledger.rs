//! Everything one run wrote down about itself.

use super::{Ack, Read, Verdict, rules};

/// What was sent, acked and read in one run.
///
/// Invariants:
/// - producers are numbered from zero and so are their sequences, without a hole;
/// - `reads` is one complete read of every partition from its first offset, made after the last ack,
///   each partition's records in the order in which they were read;
/// - each list in `sightings` is what one reader of one partition saw during the run, in its order.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// How many records each producer sent: producer `p` sent the sequences `0..sent[p]`.
    pub sent: Vec<u64>,
    /// Every ack.
    pub acks: Vec<Ack>,
    /// The complete read.
    pub reads: Vec<Read>,
    /// What other readers saw before.
    pub sightings: Vec<Vec<Read>>,
}

impl Ledger {
    /// Compares what was promised with what is there.
    ///
    /// `expected` gives the fingerprint that a record of the run has, for records that were stored
    /// without an ack to compare with.
    ///
    /// Sorts the lists in place and needs about 24 bytes a record beside them.
    pub fn check(&mut self, expected: impl Fn(super::RecordId) -> u64) -> Verdict {
        let mut verdict = Verdict {
            sent: self.sent.iter().sum(),
            acked: self.acks.len() as u64,
            read: self.reads.len() as u64,
            ..Verdict::default()
        };
        // Density is about the order of reading, so it comes before anything is sorted.
        rules::density(&self.reads, &mut verdict);
        for seen in &self.sightings {
            rules::continuity(seen, &mut verdict);
        }
        self.reads.sort_by_key(|r| (r.partition, r.offset));
        self.acks.sort_unstable_by_key(|a| (a.partition, a.offset));

        let mut places = rules::places(&self.reads);
        rules::uniqueness(&places, &mut verdict);
        places.dedup_by_key(|place| place.0);
        rules::durability(&self.acks, &self.reads, &places, &mut verdict);
        rules::origin(&self.sent, &self.acks, &self.reads, &expected, &mut verdict);
        rules::producer_order(&self.reads, &mut verdict);
        rules::time_order(&self.acks, &mut verdict);
        for seen in &self.sightings {
            rules::permanence(seen, &self.reads, &mut verdict);
        }
        verdict
    }
}
