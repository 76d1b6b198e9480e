//! How far an export or an import is: a bar on stderr, when that is a terminal.

use indicatif::ProgressBar;

use crate::progress::bar;

/// Records between two looks at the clock.
const STEP: u64 = 256;

/// A bar that counts records; it goes when it is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    done: u64,
}

impl Progress {
    /// A bar for `total` records.
    pub(super) fn new(what: &'static str, total: u64) -> Self {
        Self { bar: bar(what, total), done: 0 }
    }

    /// One more is done; whether that moved the bar.
    pub(super) fn step(&mut self) -> bool {
        self.done += 1;
        let moves = self.done.is_multiple_of(STEP);
        if moves {
            self.bar.set_position(self.done);
        }
        moves
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
