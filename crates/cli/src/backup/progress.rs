//! How far an export or an import is: a bar on stderr, when that is a terminal.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the bar may move; a tick costs a write to the terminal.
const REDRAWS_PER_SECOND: u8 = 10;
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
        if !stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden(), done: 0 };
        }
        let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND);
        let style = "{prefix:<12} [{bar:40}] {human_pos}/{human_len} {elapsed}";
        let style = ProgressStyle::with_template(style).expect("the template is well-formed");
        let bar = ProgressBar::with_draw_target(Some(total), target);
        Self { bar: bar.with_style(style.progress_chars("=> ")).with_prefix(what), done: 0 }
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
