//! What a judgement found.

use std::fmt;

use crate::history::{History, Place};
use crate::summary::Summary;

/// How many violations of each rule are described in words; the rest is only counted.
pub const EXAMPLES_MAX: usize = 20;

/// The rules, each named in the file that checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// P2: an offset has one value.
    OffsetIdentity,
    /// P6: an assignment sees the records in order, without skip or repeat.
    PollOrder,
    /// P8: the committed offset is a register that never goes back but by a seek.
    CommittedOffset,
    /// P8: no commit is accepted from a fenced member.
    FencedCommit,
    /// P9: whatever is committed was delivered before.
    AtLeastOnce,
    /// A partition has one holder in an epoch, and its grants rise.
    OneOwner,
}

impl Rule {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 6] = [
        Self::OffsetIdentity,
        Self::PollOrder,
        Self::CommittedOffset,
        Self::FencedCommit,
        Self::AtLeastOnce,
        Self::OneOwner,
    ];

    /// Its name, also that of its folder below `histories`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OffsetIdentity => "offset_identity",
            Self::PollOrder => "poll_order",
            Self::CommittedOffset => "committed_offset",
            Self::FencedCommit => "fenced_commit",
            Self::AtLeastOnce => "at_least_once",
            Self::OneOwner => "one_owner",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Of which rule.
    pub rule: Rule,
    /// The file and line of the event that shows it.
    pub place: String,
    /// What is wrong, in a sentence.
    pub sentence: String,
}

/// The outcome of a judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What there was to judge.
    pub summary: Summary,
    /// Violations per rule, in the order of [`Rule::ALL`].
    counts: [u64; Rule::ALL.len()],
    /// The first violations of each rule, at most [`EXAMPLES_MAX`].
    pub examples: Vec<Violation>,
}

impl Verdict {
    /// Whether no rule was broken.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.violations() == 0
    }

    /// The number of violations of all rules.
    #[must_use]
    pub fn violations(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The number of violations of one rule.
    #[must_use]
    pub fn count(&self, rule: Rule) -> u64 {
        self.counts[rule as usize]
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.summary)?;
        for rule in Rule::ALL {
            write!(f, "\n{:<32}{:>12}", format!("violations: {rule}"), self.count(rule))?;
        }
        for violation in &self.examples {
            write!(f, "\n{}: {}: {}", violation.place, violation.rule, violation.sentence)?;
        }
        Ok(())
    }
}

/// Collects violations while a history is judged.
#[derive(Debug)]
pub(crate) struct Docket<'a> {
    history: &'a History,
    counts: [u64; Rule::ALL.len()],
    examples: Vec<Violation>,
}

impl<'a> Docket<'a> {
    pub(crate) fn new(history: &'a History) -> Self {
        Self { history, counts: [0; Rule::ALL.len()], examples: Vec::new() }
    }

    /// Counts a violation that the event at `place` shows.
    pub(crate) fn blame(&mut self, rule: Rule, place: Place, sentence: impl FnOnce() -> String) {
        let count = &mut self.counts[rule as usize];
        *count += 1;
        if *count <= EXAMPLES_MAX as u64 {
            let place = self.history.place(place);
            self.examples.push(Violation { rule, place, sentence: sentence() });
        }
    }

    pub(crate) fn close(self, summary: Summary) -> Verdict {
        Verdict { summary, counts: self.counts, examples: self.examples }
    }
}
