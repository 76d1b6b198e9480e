//! What a long command shows while it runs: bars on a terminal, lines elsewhere, always on stderr.

use std::io::{IsTerminal, stderr};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a bar may move; a tick costs a write to the terminal.
const REDRAWS_PER_SECOND: u8 = 10;

/// A bar that counts to `total`; hidden where nobody would see it move.
pub(crate) fn bar(what: &'static str, total: u64) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND);
    let style = "{prefix:<12} [{bar:40}] {human_pos}/{human_len} {elapsed}";
    let style = ProgressStyle::with_template(style).expect("the template is well-formed");
    let bar = ProgressBar::with_draw_target(Some(total), target);
    bar.with_style(style.progress_chars("=> ")).with_prefix(what)
}

/// A line that is drawn over and over: how far a load has come, and how fast it is now.
#[derive(Debug)]
pub(crate) struct Live {
    bar: ProgressBar,
    seen: (Instant, u64, u64),
}

impl Live {
    /// `None` where nobody would see it.
    pub(crate) fn new(what: &'static str, total: u64) -> Option<Self> {
        let bar = bar(what, total);
        if bar.is_hidden() {
            return None;
        }
        let style = "{prefix:<12} [{bar:30}] {human_pos}/{human_len}  {msg}";
        let style = ProgressStyle::with_template(style).expect("the template is well-formed");
        let bar = bar.with_style(style.progress_chars("=> "));
        Some(Self { bar, seen: (Instant::now(), 0, 0) })
    }

    /// So many records and bytes are done; the rates are those since the last call.
    pub(crate) fn reach(&mut self, records: u64, bytes: u64) {
        let (before, records_then, bytes_then) = self.seen;
        let seconds = before.elapsed().as_secs_f64();
        if seconds > 0.0 {
            let records_per_s = (records - records_then) as f64 / seconds;
            let mb_per_s = (bytes - bytes_then) as f64 / seconds / 1e6;
            let now = thousands(records_per_s as u64);
            self.bar.set_message(format!("{now} records/s  {mb_per_s:.1} MB/s"));
        }
        self.bar.set_position(records);
        self.seen = (Instant::now(), records, bytes);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Tells how far a step has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Teller {
    terminal: bool,
}

impl Teller {
    pub(crate) fn new() -> Self {
        Self { terminal: stderr().is_terminal() }
    }

    /// One thing that happened.
    pub(crate) fn say(self, line: &str) {
        eprintln!("{line}");
    }

    /// A step of `total` records; nothing is shown before the first [`Step::reach`].
    pub(crate) fn step(self, what: &'static str, total: u64) -> Step {
        let bar = bar(what, total);
        Step { bar, plain: !self.terminal, what, total, told: 0, began: Instant::now() }
    }
}

/// A step in progress.
#[derive(Debug)]
pub(crate) struct Step {
    bar: ProgressBar,
    plain: bool,
    what: &'static str,
    total: u64,
    /// Quarters told in lines.
    told: u64,
    began: Instant,
}

impl Step {
    /// `done` of the total are done.
    pub(crate) fn reach(&mut self, done: u64) {
        self.bar.set_position(done);
        let quarter = done * 4 / self.total.max(1);
        // The last quarter is told by the end.
        if self.plain && quarter > self.told && done < self.total {
            self.told = quarter;
            eprintln!("{}: {} of {}", self.what, thousands(done), thousands(self.total));
        }
    }

    /// One thing that happened meanwhile; a bar stays below it.
    pub(crate) fn say(&self, line: &str) {
        if self.plain { eprintln!("{line}") } else { self.bar.suspend(|| eprintln!("{line}")) }
    }

    /// Ends the step with a line that says how long it took.
    pub(crate) fn end(self, done: u64) {
        self.bar.finish_and_clear();
        let seconds = self.began.elapsed().as_secs_f64();
        eprintln!("{}: {} in {seconds:.1} s", self.what, thousands(done));
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn thousands_are_grouped_from_the_right() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }
}
