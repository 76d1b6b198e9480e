//! Dice that fall the same way for the same seed (SplitMix64: Steele, Lea, Flood, OOPSLA 2014).

use std::ops::Range;
use std::time::Duration;

/// What each draw adds to the state.
pub(crate) const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Turns a state into a number that looks nothing like it.
pub(crate) const fn mix(state: u64) -> u64 {
    let mut z = state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The dice.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice for one purpose of a run: other purposes do not change how these fall.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let purpose = purpose.bytes().fold(0, |all, byte| mix(all ^ u64::from(byte)));
        Self(mix(seed) ^ purpose)
    }

    /// Any number.
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// A number of `range`, which is not empty.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.roll() % (range.end - range.start)
    }

    /// Whether something happens that does so in `percent` of all cases.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    /// A length of time within `ms` milliseconds.
    pub(crate) fn ms(&mut self, ms: Range<u64>) -> Duration {
        Duration::from_millis(self.within(ms))
    }

    /// One of `all`, which is not empty.
    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.within(0..all.len() as u64) as usize]
    }
}
