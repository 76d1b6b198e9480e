//! Which leader epoch each offset belongs to (KIP-101, KIP-320).

use tidelog_types::{Offset, Term};

/// The most epochs remembered; older ones are forgotten first. A consumer whose epoch is forgotten
/// learns no end offset for it, as after retention.
pub(super) const EPOCHS_MAX: usize = 1_000;

/// The first offset of each leader epoch that has, or may still get, records.
///
/// Invariants: terms and offsets both ascend strictly; at most [`EPOCHS_MAX`] epochs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Epochs {
    starts: Vec<(Term, Offset)>,
}

impl Epochs {
    /// A leader begins `term` at `first`. Epochs that stayed without records vanish.
    pub(super) fn begin(&mut self, term: Term, first: Offset) {
        match self.starts.last_mut() {
            Some((last, _)) if *last >= term => return,
            Some(last) if last.1 == first => *last = (term, first),
            _ => self.starts.push((term, first)),
        }
        if self.starts.len() > EPOCHS_MAX {
            self.starts.remove(0);
        }
    }

    /// Forgets the epochs whose records all lie below `log_start`.
    pub(super) fn trim(&mut self, log_start: Offset) {
        let first_kept = self.starts.partition_point(|(_, first)| *first <= log_start);
        if first_kept > 0 {
            self.starts.drain(..first_kept - 1);
            self.starts[0].1 = self.starts[0].1.max(log_start);
        }
    }

    /// The epoch of the record at `offset`.
    pub(super) fn of(&self, offset: Offset) -> Option<Term> {
        let after = self.starts.partition_point(|(_, first)| *first <= offset);
        Some(self.starts[after.checked_sub(1)?].0)
    }

    /// The newest epoch not above `term`, and the offset where it ends.
    pub(super) fn end_of(&self, term: Term, high_watermark: Offset) -> Option<(Term, Offset)> {
        let after = self.starts.partition_point(|(epoch, _)| *epoch <= term);
        let found = self.starts[after.checked_sub(1)?].0;
        let end = self.starts.get(after).map_or(high_watermark, |(_, first)| *first);
        Some((found, end))
    }

    /// The epochs, oldest first.
    pub(super) fn starts(&self) -> &[(Term, Offset)] {
        &self.starts
    }

    /// The inverse of [`Epochs::starts`]; `None` when the order is broken.
    pub(super) fn from_starts(starts: Vec<(Term, Offset)>) -> Option<Self> {
        let ascends = starts.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
        (ascends && starts.len() <= EPOCHS_MAX).then_some(Self { starts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(starts: &[(u64, u64)]) -> Epochs {
        let mut epochs = Epochs::default();
        starts.iter().for_each(|(term, first)| epochs.begin(Term(*term), Offset(*first)));
        epochs
    }

    #[test]
    fn empty_epochs_vanish() {
        let epochs = epochs(&[(1, 0), (2, 0), (3, 10), (4, 10)]);
        assert_eq!(epochs.starts(), [(Term(2), Offset(0)), (Term(4), Offset(10))]);
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let epochs = epochs(&[(2, 0), (5, 10)]);
        let end = |term| epochs.end_of(Term(term), Offset(25));
        assert_eq!(end(1), None);
        assert_eq!(end(2), Some((Term(2), Offset(10))));
        assert_eq!(end(4), Some((Term(2), Offset(10))));
        assert_eq!(end(5), Some((Term(5), Offset(25))));
        assert_eq!(epochs.of(Offset(9)), Some(Term(2)));
        assert_eq!(epochs.of(Offset(10)), Some(Term(5)));
    }

    #[test]
    fn trim_keeps_the_epoch_of_the_log_start() {
        let mut epochs = epochs(&[(2, 0), (5, 10), (7, 20)]);
        epochs.trim(Offset(12));
        assert_eq!(epochs.starts(), [(Term(5), Offset(12)), (Term(7), Offset(20))]);
        epochs.trim(Offset(20));
        assert_eq!(epochs.starts(), [(Term(7), Offset(20))]);
    }

    #[test]
    fn the_number_of_epochs_is_bounded() {
        let mut epochs = Epochs::default();
        (0..EPOCHS_MAX as u64 + 5).for_each(|n| epochs.begin(Term(n + 1), Offset(n)));
        assert_eq!(epochs.starts().len(), EPOCHS_MAX);
        assert_eq!(epochs.of(Offset(4)), None);
    }
}
