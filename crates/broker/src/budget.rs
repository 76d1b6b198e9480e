//! Bytes that a broker lends to what is in flight, so that its memory stays bounded.
//!
//! Nobody waits for a budget: a producer that finds none is told to come back, a consumer gets less.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes that is lent and given back.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    max: usize,
}

impl Budget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max })
    }

    /// The bytes that are lent now.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "no more is given back than was lent");
    }

    /// Lends `wanted` bytes or, when little is left, fewer, but never fewer than `least`: whoever
    /// has nothing must get on. So the budget can be passed by `least` per borrower.
    pub(crate) fn take_some(self: &Arc<Self>, wanted: usize, least: usize) -> Loan {
        let left = self.max.saturating_sub(self.used());
        // A quarter, so that the first to come does not leave the next with nothing.
        let bytes = wanted.min((left / 4).max(least));
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Loan { budget: Arc::clone(self), bytes }
    }
}

/// Bytes lent by a budget to one borrower, who needs now more and now less.
#[derive(Debug)]
pub(crate) struct Lease {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Lease {
    /// Nothing yet.
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Takes `bytes` more, or nothing when there are not so many.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let taken = self.budget.take(bytes);
        if taken {
            self.bytes += bytes;
        }
        taken
    }

    /// Keeps `bytes` of what was lent.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let back = self.bytes.saturating_sub(bytes);
        self.budget.give_back(back);
        self.bytes -= back;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// What [`Budget::take_some`] lent; given back when dropped.
#[derive(Debug)]
pub(crate) struct Loan {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Loan {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Corrects the amount to what was used in the end.
    pub(crate) fn settle(&mut self, bytes: usize) {
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.budget.give_back(self.bytes);
        self.bytes = bytes;
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// Bytes lent by the node's budget and by one partition's share of it; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    node: Arc<Budget>,
    share: Arc<Budget>,
    bytes: usize,
}

impl Permit {
    /// Takes `bytes` from both, or from neither.
    pub(crate) fn take(node: &Arc<Budget>, share: &Arc<Budget>, bytes: usize) -> Option<Self> {
        if !share.take(bytes) {
            return None;
        }
        if !node.take(bytes) {
            share.give_back(bytes);
            return None;
        }
        Some(Self { node: Arc::clone(node), share: Arc::clone(share), bytes })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.node.give_back(self.bytes);
        self.share.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_taken_from_both_or_neither_and_given_back() {
        let (node, blocked, other) = (Budget::new(100), Budget::new(60), Budget::new(60));
        let held = Permit::take(&node, &blocked, 60).unwrap();
        assert!(Permit::take(&node, &blocked, 1).is_none(), "its share is used up");
        let more = Permit::take(&node, &other, 40).unwrap();
        assert!(Permit::take(&node, &other, 1).is_none(), "the node's budget is used up");
        assert_eq!((node.used(), other.used()), (100, 40));
        drop((held, more));
        assert_eq!((node.used(), blocked.used(), other.used()), (0, 0, 0));
    }

    #[test]
    fn readers_get_less_when_little_is_left_but_never_nothing() {
        let budget = Budget::new(1000);
        let mut first = budget.take_some(500, 10);
        assert_eq!(first.bytes(), 250);
        first.settle(990);
        assert_eq!(budget.take_some(500, 10).bytes(), 10);
        drop(first);
        assert_eq!(budget.used(), 0);
    }
}
