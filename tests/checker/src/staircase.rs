//! The highest of what was there by a time.

/// Values that became known at times; asked for the highest that was known before a time.
#[derive(Debug)]
pub(crate) struct Staircase<V> {
    /// Sorted by time once closed; each with the highest value up to and including itself.
    steps: Vec<(u64, V)>,
    closed: bool,
}

impl<V> Default for Staircase<V> {
    fn default() -> Self {
        Self { steps: Vec::new(), closed: false }
    }
}

impl<V: Copy + Ord> Staircase<V> {
    /// `value` is known from `time` on.
    pub(crate) fn add(&mut self, time: u64, value: V) {
        assert!(!self.closed, "values are added before the first question");
        self.steps.push((time, value));
    }

    /// Ends the adding.
    pub(crate) fn close(&mut self) {
        self.steps.sort_unstable();
        for at in 1..self.steps.len() {
            self.steps[at].1 = self.steps[at].1.max(self.steps[at - 1].1);
        }
        self.closed = true;
    }

    /// The highest value known before `time`, not at it.
    pub(crate) fn before(&self, time: u64) -> Option<V> {
        self.at(self.steps.partition_point(|(known, _)| *known < time))
    }

    /// The highest value known before `time` or at it.
    pub(crate) fn until(&self, time: u64) -> Option<V> {
        self.at(self.steps.partition_point(|(known, _)| *known <= time))
    }

    fn at(&self, behind: usize) -> Option<V> {
        assert!(self.closed, "questions are asked after the last value");
        behind.checked_sub(1).map(|at| self.steps[at].1)
    }
}

#[cfg(test)]
mod tests {
    use super::Staircase;

    #[test]
    fn highest_value_is_of_those_before_the_time() {
        let mut stairs = Staircase::default();
        for (time, value) in [(10, 5), (30, 2), (20, 7)] {
            stairs.add(time, value);
        }
        stairs.close();
        assert_eq!((stairs.before(10), stairs.until(10)), (None, Some(5)));
        assert_eq!((stairs.before(20), stairs.before(21)), (Some(5), Some(7)));
        assert_eq!(stairs.until(99), Some(7));
    }
}
