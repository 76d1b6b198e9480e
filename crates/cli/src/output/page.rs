//! A page of text: facts, tables and sentences.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, Table};

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    title: &'static str,
    wide: bool,
    number: bool,
}

impl Column {
    /// A column of text.
    #[must_use]
    pub const fn text(title: &'static str) -> Self {
        Self { title, wide: false, number: false }
    }

    /// A column of numbers: they stand to the right.
    #[must_use]
    pub const fn number(title: &'static str) -> Self {
        Self { title, wide: false, number: true }
    }

    /// The same column, left out unless the table is wide.
    #[must_use]
    pub const fn only_wide(mut self) -> Self {
        self.wide = true;
        self
    }
}

/// What people read, in the order it was added.
#[derive(Clone, Debug, Default)]
pub struct Page {
    sections: Vec<Section>,
}

#[derive(Clone, Debug)]
enum Section {
    Heading(String),
    Sentence { text: String, mood: Mood },
    Facts(Vec<(&'static str, String)>),
    Table { columns: &'static [Column], rows: Vec<Vec<String>> },
}

#[derive(Clone, Copy, Debug)]
enum Mood {
    Good,
    Bad,
    Plain,
}

impl Page {
    /// An empty page.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line over what follows, with an empty line before it.
    #[must_use]
    pub fn heading(self, text: impl Into<String>) -> Self {
        self.with(Section::Heading(text.into()))
    }

    /// Adds a sentence.
    #[must_use]
    pub fn sentence(self, text: impl Into<String>) -> Self {
        self.with(Section::Sentence { text: text.into(), mood: Mood::Plain })
    }

    /// Adds a sentence that is green when `good`, else red.
    #[must_use]
    pub fn verdict(self, good: bool, text: impl Into<String>) -> Self {
        let mood = if good { Mood::Good } else { Mood::Bad };
        self.with(Section::Sentence { text: text.into(), mood })
    }

    /// Adds names with their values.
    #[must_use]
    pub fn facts(self, facts: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        self.with(Section::Facts(facts.into_iter().collect()))
    }

    /// Adds a table. Each row has a cell for every column.
    #[must_use]
    pub fn table(
        self,
        columns: &'static [Column],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> Self {
        let rows: Vec<_> = rows.into_iter().collect();
        assert!(rows.iter().all(|row| row.len() == columns.len()), "a cell for every column");
        self.with(Section::Table { columns, rows })
    }

    fn with(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }

    /// The page for eyes.
    pub(super) fn to_table(&self, wide: bool, colored: bool) -> String {
        let paint = |style: Style, text: &str| match colored {
            true => format!("{style}{text}{style:#}"),
            false => text.to_owned(),
        };
        let mut out = String::new();
        for section in &self.sections {
            match section {
                Section::Heading(text) => {
                    let gap = if out.is_empty() { "" } else { "\n" };
                    push(&mut out, &format!("{gap}{}", paint(Style::new().bold(), text)));
                }
                Section::Sentence { text, mood } => push(&mut out, &paint(mood.style(), text)),
                Section::Facts(facts) => {
                    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
                    for (name, value) in facts {
                        push(&mut out, &format!("{:width$}{value}", format!("{name}:")));
                    }
                }
                Section::Table { columns, rows } => push(&mut out, &aligned(columns, rows, wide)),
            }
        }
        out
    }

    /// The page for `cut`, `awk` and `while read`: no titles, tabs between the cells.
    pub(super) fn to_plain(&self) -> String {
        let mut out = String::new();
        for section in &self.sections {
            match section {
                Section::Heading(_) => {}
                Section::Sentence { text, .. } => push(&mut out, text),
                Section::Facts(facts) => {
                    for (name, value) in facts {
                        push(&mut out, &format!("{name}\t{value}"));
                    }
                }
                Section::Table { columns, rows } => {
                    for row in rows {
                        let cells = columns.iter().zip(row).filter(|(column, _)| !column.wide);
                        let cells: Vec<&str> = cells.map(|(_, cell)| cell.as_str()).collect();
                        push(&mut out, &cells.join("\t"));
                    }
                }
            }
        }
        out
    }
}

impl Mood {
    fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Plain => Style::new(),
        }
    }
}

fn push(out: &mut String, line: &str) {
    writeln!(out, "{line}").expect("a String takes everything");
}

fn aligned(columns: &[Column], rows: &[Vec<String>], wide: bool) -> String {
    let shown = |column: &Column| wide || !column.wide;
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(columns.iter().filter(|c| shown(c)).map(|c| c.title));
    for row in rows {
        let cells = columns.iter().zip(row).filter(|(column, _)| shown(column));
        table.add_row(cells.map(|(_, cell)| cell));
    }
    for (at, column) in columns.iter().filter(|column| shown(column)).enumerate() {
        let column_style = table.column_mut(at).expect("there is one for each title");
        column_style.set_padding((0, 2));
        if column.number {
            column_style.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] =
        &[Column::text("NAME"), Column::number("RECORDS"), Column::text("ID").only_wide()];

    fn page() -> Page {
        let row = |name: &str, records: &str| vec![name.into(), records.into(), "x".into()];
        Page::new()
            .sentence("two topics")
            .table(COLUMNS, [row("orders", "5"), row("payments", "1234567890")])
            .facts([("a", "1".to_owned()), ("long name", "2".to_owned())])
    }

    #[test]
    fn a_table_is_aligned_and_has_titles() {
        let expected = "\
two topics
NAME         RECORDS
orders             5
payments  1234567890
a:         1
long name: 2
";
        assert_eq!(page().to_table(false, false), expected);
        assert!(page().to_table(true, false).contains("RECORDS  ID\n"));
    }

    #[test]
    fn plain_is_tabs_without_titles() {
        assert_eq!(
            page().to_plain(),
            "two topics\norders\t5\npayments\t1234567890\na\t1\nlong name\t2\n"
        );
    }

    #[test]
    fn colors_come_only_when_asked_for() {
        let page = Page::new().verdict(false, "not healthy");
        assert_eq!(page.to_table(false, false), "not healthy\n");
        assert!(page.to_table(false, true).starts_with("\u{1b}["));
        assert_eq!(page.to_plain(), "not healthy\n");
    }
}
