//! What a test counted, for the report. A line each among whatever else it prints:
//! `figure records acked: 1200`.

use std::collections::BTreeMap;
use std::fmt;

/// How such a line begins.
const MARK: &str = "figure ";

/// Counts by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures(BTreeMap<String, u64>);

impl Figures {
    /// The lines of figures in a text; one that stands there several times is summed up.
    pub(crate) fn read(text: &str) -> Self {
        let mut figures = Self::default();
        for line in text.lines() {
            let figure = line.strip_prefix(MARK).and_then(|figure| figure.rsplit_once(": "));
            if let Some((name, count)) = figure
                && let Ok(count) = count.parse()
            {
                figures.count(name, count);
            }
        }
        figures
    }

    /// Counts so many more.
    pub(crate) fn count(&mut self, name: impl Into<String>, more: u64) {
        *self.0.entry(name.into()).or_default() += more;
    }

    /// Adds all figures of another run.
    pub(crate) fn add(&mut self, others: Self) {
        others.0.into_iter().for_each(|(name, count)| self.count(name, count));
    }

    /// A figure, if anybody counted it.
    pub(crate) fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// The figures whose names begin with `prefix`, by what comes after it.
    pub(crate) fn with(&self, prefix: &str) -> Vec<(&str, u64)> {
        self.0
            .iter()
            .filter_map(|(name, count)| Some((name.strip_prefix(prefix)?, *count)))
            .collect()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, count)| writeln!(f, "{MARK}{name}: {count}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_among_other_lines_and_summed() {
        let text =
            "running 1 test\nfigure a: b: 2\nfigure of speech\nfigure c: x\nfigure a: b: 3\n";
        let figures = Figures::read(text);
        assert_eq!(figures.with("a: "), [("b", 5)]);
        assert_eq!((figures.get("a: b"), figures.get("c")), (Some(5), None));
        assert_eq!(Figures::read(&figures.to_string()), figures);
    }
}
