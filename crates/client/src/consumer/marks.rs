//! Which records were handed out and are not marked yet. No I/O.

use std::collections::BTreeMap;
use std::ops::Range;

use tidelog_types::Offset;

/// The offsets that were handed out and are not marked, as ranges: a record costs memory only where its
/// mark came out of turn.
///
/// Invariants:
/// - `front` and then the ranges of `behind` stand in order, apart from each other, and before `next`.
/// - `front` is empty only when `behind` is too.
/// - Offsets are handed out in order.
#[derive(Debug)]
pub(super) struct Marks {
    /// The first range, kept apart: marks in order touch nothing else.
    front: Range<u64>,
    /// The others, start to end.
    behind: BTreeMap<u64, u64>,
    /// Behind the last record that was handed out.
    next: u64,
}

impl Marks {
    /// Nothing was handed out; `next` comes first.
    pub(super) fn new(next: Offset) -> Self {
        Self { front: next.0..next.0, behind: BTreeMap::new(), next: next.0 }
    }

    /// The offset to hand out next, or one before it where offsets are not dense.
    pub(super) fn next(&self) -> Offset {
        Offset(self.next)
    }

    /// Up to here everything that was handed out is marked.
    pub(super) fn done(&self) -> Offset {
        Offset(if self.front.is_empty() { self.next } else { self.front.start })
    }

    /// Whether everything that was handed out is marked.
    pub(super) fn is_done(&self) -> bool {
        self.front.is_empty()
    }

    /// Notes that `offset` was handed out.
    pub(super) fn hand_out(&mut self, offset: Offset) {
        let Offset(offset) = offset;
        assert!(offset >= self.next, "offset {offset} was handed out after {}", self.next);
        let dense = offset == self.next;
        self.next = offset + 1;
        if self.front.is_empty() {
            self.front = offset..offset + 1;
            return;
        }
        match self.behind.last_entry() {
            Some(mut last) if dense && *last.get() == offset => *last.get_mut() += 1,
            None if dense && self.front.end == offset => self.front.end += 1,
            _ => {
                self.behind.insert(offset, offset + 1);
            }
        }
    }

    /// Marks `offset`; what was not handed out, or is marked already, stays as it is.
    pub(super) fn mark(&mut self, offset: Offset) {
        let Offset(offset) = offset;
        if self.front.contains(&offset) {
            let rest = offset + 1..self.front.end;
            if offset == self.front.start {
                self.front = rest;
                self.pull_up();
            } else {
                self.front.end = offset;
                self.insert(rest);
            }
            return;
        }
        let Some((&start, &end)) = self.behind.range(..=offset).next_back() else { return };
        if offset >= end {
            return;
        }
        self.behind.remove(&start);
        self.insert(start..offset);
        self.insert(offset + 1..end);
    }

    fn insert(&mut self, range: Range<u64>) {
        if !range.is_empty() {
            self.behind.insert(range.start, range.end);
        }
    }

    fn pull_up(&mut self) {
        if self.front.is_empty()
            && let Some((start, end)) = self.behind.pop_first()
        {
            self.front = start..end;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn done_stops_at_the_first_record_that_is_not_marked() {
        let mut marks = Marks::new(Offset(5));
        assert_eq!((marks.done(), marks.is_done()), (Offset(5), true));
        (5..10).for_each(|offset| marks.hand_out(Offset(offset)));
        for (offset, done) in [(7, 5), (9, 5), (5, 6), (5, 6), (6, 8), (4, 8), (77, 8), (8, 10)] {
            marks.mark(Offset(offset));
            assert_eq!(marks.done(), Offset(done), "after {offset}");
        }
        assert!(marks.is_done());
    }

    #[test]
    fn offsets_that_were_never_handed_out_are_not_waited_for() {
        let mut marks = Marks::new(Offset(0));
        [0, 3, 4, 9].iter().for_each(|offset| marks.hand_out(Offset(*offset)));
        marks.mark(Offset(0));
        assert_eq!(marks.done(), Offset(3));
        [9, 3, 4].iter().for_each(|offset| marks.mark(Offset(*offset)));
        assert_eq!(marks.done(), Offset(10));
    }

    /// Against a set of offsets, which is slow and plain.
    #[test]
    fn ranges_do_as_a_set_does() {
        let mut seed = 7_u64;
        let mut below = |bound: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % bound
        };
        for _ in 0..200 {
            let (mut marks, mut set, mut next) = (Marks::new(Offset(3)), BTreeSet::new(), 3);
            for _ in 0..200 {
                if below(2) == 0 {
                    next += u64::from(below(8) == 0);
                    marks.hand_out(Offset(next));
                    set.insert(next);
                    next += 1;
                } else {
                    let offset = below(next + 2);
                    marks.mark(Offset(offset));
                    set.remove(&offset);
                }
                assert_eq!(marks.done().0, set.first().copied().unwrap_or(next));
                assert_eq!((marks.is_done(), marks.next().0), (set.is_empty(), next));
            }
        }
    }
}
