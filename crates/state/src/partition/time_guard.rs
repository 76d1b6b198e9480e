//! Keeps a leader's clock that leaps ahead from trimming what is still young.

use std::fmt;

use tidelog_types::Timestamp;

/// The largest step between two looks at the clock that retention believes: 1 h. Smaller: a
/// partition that slept takes longer until it trims again. Larger: a wrong clock deletes more.
pub const CLOCK_STEP_MS_MAX: i64 = 60 * 60 * 1_000;

/// The leader's clock is further ahead than retention believes at once.
///
/// The reference follows by one step per look, so a true gap closes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockJump {
    /// How far the clock is ahead of the reference.
    pub ahead_ms: i64,
}

impl fmt::Display for ClockJump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ahead_ms } = self;
        write!(f, "clock is {ahead_ms} ms ahead, at most {CLOCK_STEP_MS_MAX} ms are believed")
    }
}

impl std::error::Error for ClockJump {}

/// Compares each look at the clock with the one before; the first, with the last append time.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeGuard {
    /// Zero until something was appended or looked at.
    reference: Timestamp,
}

impl TimeGuard {
    pub(super) fn new(append_time: Timestamp) -> Self {
        Self { reference: append_time }
    }

    /// Admits `now` as the time by which retention may trim. `append_time` is that of the last append:
    /// the first look is compared with it where nothing was there when the guard was made.
    pub(super) fn admit(
        &mut self,
        now: Timestamp,
        append_time: Timestamp,
    ) -> Result<(), ClockJump> {
        const NONE: Timestamp = Timestamp(0);
        if self.reference == NONE {
            self.reference = append_time;
        }
        // An empty partition has nothing to compare with, and nothing that could be trimmed.
        let is_empty = self.reference == NONE;
        let ahead_ms = now.0.saturating_sub(self.reference.0);
        if is_empty || ahead_ms <= CLOCK_STEP_MS_MAX {
            // Also downwards: a clock that was set right must not leave room for the next leap.
            self.reference = if is_empty { NONE } else { now };
            return Ok(());
        }
        self.reference.0 += CLOCK_STEP_MS_MAX;
        Err(ClockJump { ahead_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_is_refused_and_a_gap_closes_step_by_step() {
        let mut guard = TimeGuard::new(Timestamp(1));
        let mut admit = |at: i64| guard.admit(Timestamp(at), Timestamp(1));
        assert_eq!(admit(CLOCK_STEP_MS_MAX), Ok(()));
        let leap = CLOCK_STEP_MS_MAX * 4 + 1;
        let ahead = |steps: i64| Err(ClockJump { ahead_ms: CLOCK_STEP_MS_MAX * steps + 1 });
        assert_eq!(admit(leap), ahead(3));
        assert_eq!(admit(leap), ahead(2));
        assert_eq!(admit(leap), ahead(1));
        assert_eq!(admit(leap), Ok(()));
    }

    #[test]
    fn a_partition_that_was_empty_is_compared_with_its_first_append() {
        let today = CLOCK_STEP_MS_MAX * 24 * 365 * 56;
        let mut guard = TimeGuard::new(Timestamp(0));
        assert_eq!(guard.admit(Timestamp(today), Timestamp(0)), Ok(()), "there is nothing to trim");
        let append_time = Timestamp(today + 5);
        assert!(guard.admit(Timestamp(today + CLOCK_STEP_MS_MAX * 2), append_time).is_err());
        let mut guard = TimeGuard::new(Timestamp(0));
        assert_eq!(guard.admit(Timestamp(today + 10), append_time), Ok(()));
    }

    #[test]
    fn a_clock_set_back_is_the_new_reference() {
        let mut guard = TimeGuard::new(Timestamp(CLOCK_STEP_MS_MAX * 10));
        let append_time = Timestamp(CLOCK_STEP_MS_MAX * 10);
        assert_eq!(guard.admit(Timestamp(1), append_time), Ok(()));
        assert!(guard.admit(append_time, append_time).is_err());
    }
}
