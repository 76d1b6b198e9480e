//! When the partition that loses its leader was acked.

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

/// The times of acks, in microseconds from the beginning. All clients share it.
#[derive(Debug)]
pub(super) struct Pulse {
    began: Instant,
    acks_us: Mutex<Vec<u64>>,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), acks_us: Mutex::default() }
    }

    pub(super) fn now_us(&self) -> u64 {
        self.us_of(Instant::now())
    }

    /// A moment as this counts.
    pub(super) fn us_of(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_micros() as u64
    }

    pub(super) fn ack(&self, at_us: u64) {
        self.acks().push(at_us);
    }

    pub(super) fn count(&self) -> usize {
        self.acks().len()
    }

    /// In milliseconds, see [`longest_pause_us`].
    pub(super) fn longest_pause_ms(&self, from_us: u64, until_us: u64) -> f64 {
        let mut acks = self.acks();
        // Two clients may get here in the wrong order.
        acks.sort_unstable();
        longest_pause_us(&acks, from_us, until_us) as f64 / 1e3
    }

    fn acks(&self) -> MutexGuard<'_, Vec<u64>> {
        self.acks_us.lock().expect("no holder of this lock panics")
    }
}

/// The longest time between two consecutive acks of which some part lies between `from` and `until`.
/// It counts whole: it began with the last ack before. Zero when there are none.
fn longest_pause_us(acks: &[u64], from: u64, until: u64) -> u64 {
    let overlap = acks.windows(2).filter(|pair| pair[1] > from && pair[0] < until);
    overlap.map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_count_whole_when_they_overlap() {
        let acks = [0, 900, 1_000, 1_500, 1_550, 3_000];
        for (from, until, expected, why) in [
            (1_100, 1_400, 500, "lost and back within one pause"),
            (1_000, 1_520, 500, "what ends with the loss does not count"),
            (950, 1_520, 500, "an ack right after the loss is no end of it"),
            (1_100, 1_600, 1_450, "the later one is longer"),
            (1_100, 1_550, 500, "what begins at the end does not count"),
            (3_000, 4_000, 0, "no ack after"),
        ] {
            assert_eq!(longest_pause_us(&acks, from, until), expected, "{why}");
        }
        assert_eq!(longest_pause_us(&[7], 0, 10), 0);
    }

    #[test]
    fn acks_in_the_wrong_order_are_put_right() {
        let pulse = Pulse::new();
        [5_000, 1_000, 2_000].into_iter().for_each(|at| pulse.ack(at));
        assert_eq!((pulse.count(), pulse.longest_pause_ms(0, 9_000)), (3, 3.0));
    }
}
