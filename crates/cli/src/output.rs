//! What commands print on stdout: text for people, JSON with a stable shape for programs.
//!
//! - `json`: one object, `{"kind": …, "version": 1, "item": {…}}` or `"items": […]`.
//! - `jsonl`: each item alone on a line, without the object around it.
//! - `table`, `wide`: for eyes. The default on a terminal.
//! - Elsewhere the default is the cells of the tables, separated by tabs, without titles.
//!
//! The version is raised when a field changes its meaning or goes; new fields may come at any time.

mod page;

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

pub use page::{Column, Page};

use crate::moment::Zone;

/// The version of the JSON shapes.
const VERSION: u32 = 1;

/// A form of output, as chosen with `-o`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns
    Table,
    /// Aligned columns, all of them
    Wide,
    /// One JSON object with kind and version
    Json,
    /// One JSON object a line
    Jsonl,
}

/// Writes results to stdout in the form that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    form: Form,
    colored: bool,
    zone: Zone,
}

/// The form after looking at where stdout goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Table { wide: bool },
    Plain,
    Json,
    Jsonl,
}

#[derive(Serialize)]
struct Items<'a, T> {
    kind: &'static str,
    version: u32,
    items: &'a [T],
}

#[derive(Serialize)]
struct Item<'a, T> {
    kind: &'static str,
    version: u32,
    item: &'a T,
}

impl Output {
    /// The output for a choice of the user; without one, what stdout is decides.
    #[must_use]
    pub fn new(format: Option<Format>, color: Color, zone: Zone) -> Self {
        let terminal = io::stdout().is_terminal();
        let form = match format {
            Some(Format::Table) => Form::Table { wide: false },
            Some(Format::Wide) => Form::Table { wide: true },
            Some(Format::Json) => Form::Json,
            Some(Format::Jsonl) => Form::Jsonl,
            None if terminal => Form::Table { wide: false },
            None => Form::Plain,
        };
        Self { form, colored: terminal && color.is_allowed(), zone }
    }

    /// The zone that times are shown in.
    #[must_use]
    pub const fn zone(&self) -> Zone {
        self.zone
    }

    /// Whether a program reads along: JSON was asked for.
    #[must_use]
    pub const fn is_json(&self) -> bool {
        matches!(self.form, Form::Json | Form::Jsonl)
    }

    /// Whether each item is to come alone on a line.
    #[must_use]
    pub const fn is_jsonl(&self) -> bool {
        matches!(self.form, Form::Jsonl)
    }

    /// Prints a list; `page` draws it for people.
    ///
    /// # Errors
    /// When stdout takes no more.
    pub fn items<T: Serialize>(
        &self,
        kind: &'static str,
        items: &[T],
        page: impl FnOnce(Zone) -> Page,
    ) -> io::Result<()> {
        self.print(|form, out| match form {
            Form::Json => object(out, &Items { kind, version: VERSION, items }),
            Form::Jsonl => items.iter().try_for_each(|item| line(out, item)),
            _ => self.draw(out, &page(self.zone)),
        })
    }

    /// Prints one thing; `page` draws it for people.
    ///
    /// # Errors
    /// When stdout takes no more.
    pub fn item<T: Serialize>(
        &self,
        kind: &'static str,
        item: &T,
        page: impl FnOnce(Zone) -> Page,
    ) -> io::Result<()> {
        self.print(|form, out| match form {
            Form::Json => object(out, &Item { kind, version: VERSION, item }),
            Form::Jsonl => line(out, item),
            _ => self.draw(out, &page(self.zone)),
        })
    }

    fn print(&self, write: impl FnOnce(Form, &mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        write(self.form, &mut out)?;
        out.flush()
    }

    fn draw(&self, out: &mut dyn Write, page: &Page) -> io::Result<()> {
        let text = match self.form {
            Form::Table { wide } => page.to_table(wide, self.colored),
            _ => page.to_plain(),
        };
        out.write_all(text.as_bytes())
    }
}

/// One thing in JSON, as [`Output::item`] prints it.
pub(crate) fn json_item<T: Serialize>(kind: &'static str, item: &T) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    object(&mut bytes, &Item { kind, version: VERSION, item })?;
    Ok(bytes)
}

/// A list in JSON, as [`Output::items`] prints it.
pub(crate) fn json_items<T: Serialize>(kind: &'static str, items: &[T]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    object(&mut bytes, &Items { kind, version: VERSION, items })?;
    Ok(bytes)
}

fn object(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    out.write_all(b"\n")
}

fn line(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// A count with its noun.
pub(crate) fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Whether the user lets us color what goes to a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set (no-color.org).
    Auto,
    /// Nowhere.
    Never,
}

impl Color {
    /// Whether a terminal may get colors.
    #[must_use]
    pub fn is_allowed(self) -> bool {
        let asked_not_to = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        self == Self::Auto && !asked_not_to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Thing {
        name: &'static str,
    }

    #[test]
    fn json_says_its_kind_and_version() {
        let mut out = Vec::new();
        let items = [Thing { name: "a" }];
        object(&mut out, &Items { kind: "things", version: VERSION, items: &items }).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let expected =
            serde_json::json!({"kind": "things", "version": 1, "items": [{"name": "a"}]});
        assert_eq!(value, expected);
    }

    #[test]
    fn jsonl_is_one_item_a_line() {
        let mut out = Vec::new();
        line(&mut out, &Thing { name: "a" }).unwrap();
        assert_eq!(out, b"{\"name\":\"a\"}\n");
    }
}
