//! A set of offsets that is mostly dense.

use std::collections::BTreeMap;

/// Offsets, kept as runs: start to exclusive end. No two runs touch.
#[derive(Debug, Default)]
pub(crate) struct Intervals {
    runs: BTreeMap<u64, u64>,
}

impl Intervals {
    /// Adds `[start, end)`.
    pub(crate) fn add(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        // Everything that overlaps or touches becomes one run.
        while let Some((&first, &last)) = self.runs.range(..=end).next_back()
            && last >= start
        {
            if first <= start && last >= end {
                return;
            }
            start = start.min(first);
            end = end.max(last);
            self.runs.remove(&first);
        }
        self.runs.insert(start, end);
    }

    /// The end of the run that holds `from`, which is `from` itself when that is missing.
    pub(crate) fn end_of_run(&self, from: u64) -> u64 {
        let run = self.runs.range(..=from).next_back();
        run.map_or(from, |(_, end)| from.max(*end))
    }
}

#[cfg(test)]
mod tests {
    use super::Intervals;

    #[test]
    fn runs_that_touch_become_one() {
        let mut set = Intervals::default();
        set.add(10, 12);
        set.add(14, 16);
        assert_eq!((set.end_of_run(10), set.end_of_run(12)), (12, 12));
        set.add(12, 14);
        assert_eq!((set.end_of_run(10), set.runs.len()), (16, 1));
        set.add(0, 30);
        set.add(5, 6);
        assert_eq!((set.end_of_run(3), set.runs.len()), (30, 1));
        set.add(40, 40);
        assert_eq!(set.end_of_run(40), 40);
    }
}
