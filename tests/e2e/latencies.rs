//! How long each send of a load took, by the phase that it fell into.
//!
//! Printed and not asserted, but for what no send may take: a machine's speed is not ours to promise.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use tidelog::audit::Ack;
use tidelog::demo::ledger_of;

use crate::stage::PRODUCERS;

/// The latencies of sends, sorted. A send counts until its producer took the ack, so with whatever kept
/// that one busy.
#[derive(Debug)]
pub(crate) struct Latencies(Vec<u64>);

impl Latencies {
    /// Of the sends of a load that has ended: those that were over before `change_us`, and those that
    /// were not, without the ones that began before `from_us`. Times are the load's own, and come from
    /// its ack files, which have every send.
    pub(crate) fn before_and_after(acks: &Path, from_us: u64, change_us: u64) -> (Self, Self) {
        let (ledger, _) = ledger_of(acks, PRODUCERS).unwrap();
        let acks = ledger.acks.into_iter().filter(|ack| ack.invoked_us >= from_us);
        let (before, after) = acks.partition::<Vec<_>, _>(|ack| ack.completed_us < change_us);
        (Self::of(&before), Self::of(&after))
    }

    fn of(acks: &[Ack]) -> Self {
        let mut all: Vec<_> = acks.iter().map(|ack| ack.completed_us - ack.invoked_us).collect();
        all.sort_unstable();
        Self(all)
    }

    /// The least that is not below so many hundredths of all.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        Duration::from_micros(self.0.get(rank - 1).copied().unwrap_or_default())
    }

    /// The longest.
    pub(crate) fn max(&self) -> Duration {
        self.percentile(100)
    }

    /// How often `of` goes into the 99th percentile of this one.
    pub(crate) fn p99_over(&self, of: &Self) -> f64 {
        self.percentile(99).as_secs_f64() / of.percentile(99).as_secs_f64()
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sends, p50, p99) = (self.0.len(), self.percentile(50), self.percentile(99));
        write!(f, "{sends} sends, p50 {p50:?}, p99 {p99:?}, max {:?}", self.max())
    }
}

#[test]
fn percentiles_are_sends_that_there_were() {
    let of = |all: &[u64]| Latencies(all.to_vec());
    let hundred: Vec<u64> = (1..=100).collect();
    let told = |latencies: &Latencies| {
        [50, 99, 100].map(|percent| latencies.percentile(percent).as_micros())
    };
    assert_eq!(told(&of(&hundred)), [50, 99, 100]);
    assert_eq!(told(&of(&[7])), [7, 7, 7]);
    assert_eq!(told(&of(&[1, 2, 3])), [2, 3, 3]);
    assert_eq!(told(&of(&[])), [0, 0, 0]);
}
