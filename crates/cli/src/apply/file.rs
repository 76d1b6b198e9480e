//! The file that declares topics.
//!
//! ```toml
//! [[topic]]
//! name = "orders"                     # the only field that must be there
//! partitions = 6                      # left out: not compared; a new topic gets the cluster's default
//! replication_factor = 3              # the same
//! configs = { "retention.ms" = 1000 } # all of the topic's own; left out: it has none
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use serde::Deserialize;
use tidelog_types::TopicName;
use toml::{Spanned, Value};

use crate::{Failure, chain};

/// The name that stands for stdin.
const STDIN: &str = "-";
/// The largest file that is read. It bounds the memory that a device or an endless pipe takes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A topic as the file wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Declared {
    /// Its name.
    pub(super) name: TopicName,
    /// Where that stands.
    pub(super) place: Place,
    /// How many partitions, if the file says so.
    pub(super) partitions: Option<u32>,
    /// How many replicas of each, if the file says so.
    pub(super) replication_factor: Option<u32>,
    /// All configs of its own. A number is in its shortest form, so that it can be compared.
    pub(super) configs: BTreeMap<String, String>,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    file: String,
    line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}", self.file, self.line)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parsed {
    #[serde(default)]
    topic: Vec<ParsedTopic>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParsedTopic {
    name: Spanned<String>,
    partitions: Option<Spanned<u32>>,
    replication_factor: Option<Spanned<u32>>,
    #[serde(default)]
    configs: BTreeMap<String, Spanned<Value>>,
}

/// Reads the topics that the file named `name`, or stdin, declares.
///
/// # Errors
/// When it cannot be read, or is wrong; the failure names the line.
pub(super) fn read(name: &str) -> Result<Vec<Declared>, Failure> {
    let shown = if name == STDIN { "stdin" } else { name };
    let text = text(name).map_err(|error| {
        Failure::usage(format!("read {shown}: {}", chain(&error)))
            .next_step("see what stands in such a file: tidelog apply --help")
    })?;
    parse(shown, &text)
}

fn text(name: &str) -> std::io::Result<String> {
    let mut input: Box<dyn Read> = match name {
        STDIN => Box::new(std::io::stdin().lock()),
        path => Box::new(std::fs::File::open(path)?),
    };
    let mut text = String::new();
    if input.by_ref().take(FILE_BYTES_MAX + 1).read_to_string(&mut text)? as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

pub(super) fn parse(file: &str, text: &str) -> Result<Vec<Declared>, Failure> {
    let source = Source { file, text };
    let parsed: Parsed = toml::from_str(text).map_err(|error| {
        let problem = error.message().trim().replace('\n', ", ");
        source.wrong(error.span().map_or(0, |span| span.start), &problem)
    })?;
    if parsed.topic.is_empty() {
        return Err(Failure::usage(format!("{file} declares no topic"))
            .next_step("see what stands in such a file: tidelog apply --help"));
    }
    let mut lines = BTreeMap::<TopicName, usize>::new();
    let mut all = Vec::with_capacity(parsed.topic.len());
    for topic in parsed.topic {
        let at = topic.name.span().start;
        let declared = source.declared(topic)?;
        if let Some(first) = lines.insert(declared.name.clone(), declared.place.line) {
            let problem = format!("topic {} stands on line {first} already", declared.name);
            return Err(source.wrong(at, &problem));
        }
        all.push(declared);
    }
    Ok(all)
}

/// What is parsed, to say where something is wrong.
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn place(&self, at: usize) -> Place {
        let line = self.text.get(..at).unwrap_or_default().matches('\n').count() + 1;
        Place { file: self.file.to_owned(), line }
    }

    fn wrong(&self, at: usize, problem: &str) -> Failure {
        Failure::usage(format!("{}: {problem}", self.place(at)))
    }

    fn declared(&self, topic: ParsedTopic) -> Result<Declared, Failure> {
        let at = topic.name.span().start;
        let name = TopicName::new(topic.name.get_ref())
            .map_err(|error| self.wrong(at, &error.to_string()))?;
        let count = |what: &str, number: Option<Spanned<u32>>| match number {
            Some(number) if *number.get_ref() == 0 => {
                Err(self.wrong(number.span().start, &format!("topic {name}: {what} is 0")))
            }
            number => Ok(number.map(Spanned::into_inner)),
        };
        let partitions = count("partitions", topic.partitions)?;
        let replication_factor = count("replication_factor", topic.replication_factor)?;
        let mut configs = BTreeMap::new();
        for (key, value) in topic.configs {
            let at = value.span().start;
            let value = config(value.get_ref()).ok_or_else(|| {
                let problem = "is no string, integer or boolean";
                self.wrong(at, &format!("topic {name}: the value of {key:?} {problem}"))
            })?;
            configs.insert(key, value);
        }
        let place = self.place(at);
        Ok(Declared { name, place, partitions, replication_factor, configs })
    }
}

/// A value as the cluster would show it.
fn config(value: &Value) -> Option<String> {
    Some(match value {
        Value::String(text) => match text.parse::<i64>() {
            Ok(number) => number.to_string(),
            Err(_) => text.clone(),
        },
        Value::Integer(number) => number.to_string(),
        Value::Boolean(word) => word.to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::process::ExitCode;

    use super::*;

    #[test]
    fn topics_are_read_with_their_lines() {
        let text = "[[topic]]\nname = \"orders\"\npartitions = 6\nreplication_factor = 3\n\
                    configs = { \"retention.ms\" = 86_400_000, \"retention.bytes\" = \"007\" }\n\n\
                    [[topic]]\nname = \"bills\"\n[topic.configs]\n\"cleanup.policy\" = \"delete\"\n";
        let topics = parse("topics.toml", text).unwrap();
        let [orders, bills] = &topics[..] else { panic!("{topics:?}") };
        assert_eq!((orders.partitions, orders.replication_factor), (Some(6), Some(3)));
        assert_eq!(orders.configs["retention.ms"], "86400000");
        assert_eq!(orders.configs["retention.bytes"], "7");
        assert_eq!(
            (bills.partitions, bills.place.to_string().as_str()),
            (None, "topics.toml line 8")
        );
        assert_eq!(bills.configs["cleanup.policy"], "delete");
    }

    #[test]
    fn a_wrong_file_is_one_line_with_its_place() {
        for (text, words) in [
            ("", "f declares no topic; see"),
            ("[[topics]]\nname = \"a\"\n", "f line 1: unknown field `topics`"),
            ("[[topic]]\npartitions = 1\n", "f line 1: missing field `name`"),
            ("[[topic]]\nname = \"a\"\nreplicas = 3\n", "f line 3: unknown field `replicas`"),
            ("[[topic]]\nname = \"a/b\"\n", "f line 2: "),
            ("[[topic]]\nname = \"a\"\npartitions = 0\n", "f line 3: topic a: partitions is 0"),
            ("[[topic]]\nname = \"a\"\npartitions = -1\n", "f line 3: invalid value"),
            (
                "[[topic]]\nname = \"a\"\nconfigs = { x = [] }\n",
                "f line 3: topic a: the value of \"x\"",
            ),
            (
                "[[topic]]\nname = \"a\"\n[[topic]]\nname = \"a\"\n",
                "f line 4: topic a stands on line 2",
            ),
            ("[[topic]]\nname = \"a\n", "f line 2: "),
        ] {
            let failure = parse("f", text).unwrap_err();
            let shown = failure.to_string();
            assert!(shown.contains(words) && !shown.contains('\n'), "{text:?}: {shown}");
            assert_eq!(failure.exit_code(), ExitCode::from(2), "{shown}");
        }
    }
}
