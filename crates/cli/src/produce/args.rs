//! The words of `tidelog produce`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use tidelog_types::{PartitionId, TopicName};

use crate::record::{Content, Input};

/// Arguments of `tidelog produce`.
#[derive(Args, Debug)]
#[command(
    after_help = "Each line of stdin is one value, taken as the bytes that it is. With --json \
                        each line is a record as `consume --json` prints it; only \"value\" is \
                        needed, null is a tombstone."
)]
pub(crate) struct ProduceArgs {
    /// Name of the topic
    pub(crate) topic: TopicName,
    /// Key of every record; it decides the partition
    #[arg(short, long)]
    pub(crate) key: Option<OsString>,
    /// Header of every record; may be repeated, also with the same name
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    pub(crate) headers: Vec<OsString>,
    /// Partition of every record, instead of one by key
    #[arg(short, long, value_name = "N")]
    pub(crate) partition: Option<u32>,
    /// Read records as JSON, one a line
    #[arg(long, conflicts_with_all = ["key", "headers", "tombstone"])]
    pub(crate) json: bool,
    /// Choose partitions anew, whatever the JSON says
    #[arg(long, requires = "json", conflicts_with = "partition")]
    pub(crate) repartition: bool,
    /// Codec of batches
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none")]
    pub(crate) compression: Codec,
    /// Produce one record without value for the key, and read nothing
    #[arg(long, requires = "key")]
    pub(crate) tombstone: bool,
}

/// A codec of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Codec {
    /// Not compressed
    None,
    /// LZ4: fast
    Lz4,
    /// Zstandard: small
    Zstd,
}

/// How a line becomes a record.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// The line is the value, the rest is the same for all.
    Raw(Input),
    /// The line says all, but these partitions.
    Json { partition: Option<PartitionId>, repartition: bool },
}

impl ProduceArgs {
    /// How lines become records.
    pub(super) fn shape(&self) -> Result<Shape, String> {
        let partition = self.partition.map(PartitionId);
        if self.json {
            return Ok(Shape::Json { partition, repartition: self.repartition });
        }
        let headers = self.headers.iter().map(|text| header(text.clone().into_vec()));
        let content = Content {
            key: self.key.clone().map(|key| key.into_vec().into()),
            value: None,
            headers: headers.collect::<Result<_, _>>()?,
        };
        Ok(Shape::Raw(Input { content, partition, timestamp: None }))
    }
}

impl Shape {
    /// The record that `line` stands for.
    pub(super) fn read(&self, line: Vec<u8>) -> Result<Input, String> {
        match self {
            Self::Raw(template) => {
                let mut input = template.clone();
                input.content.value = Some(line.into());
                Ok(input)
            }
            Self::Json { partition, repartition } => {
                let mut input = crate::record::parse(&line).map_err(|error| error.to_string())?;
                match repartition {
                    true => input.partition = None,
                    false => input.partition = partition.or(input.partition),
                }
                Ok(input)
            }
        }
    }
}

/// The first equals sign ends the name. The value may be any bytes.
fn header(text: Vec<u8>) -> Result<(String, Option<Bytes>), String> {
    let shown = String::from_utf8_lossy(&text).into_owned();
    let at = text.iter().position(|byte| *byte == b'=').filter(|at| *at > 0);
    let at = at.ok_or_else(|| format!("header {shown:?} is not NAME=VALUE"))?;
    let mut text = Bytes::from(text);
    let name = text.split_to(at);
    let name =
        std::str::from_utf8(&name).map_err(|_| format!("header {shown:?} has no UTF-8 name"))?;
    Ok((name.to_owned(), Some(text.slice(1..))))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ProduceArgs,
    }

    fn shape(words: &[&str]) -> Result<Shape, String> {
        let words = ["produce", "orders"].iter().chain(words);
        Line::try_parse_from(words).map_err(|error| error.to_string())?.args.shape()
    }

    #[test]
    fn raw_lines_share_key_and_headers() {
        let shape = shape(&["-k", "", "-H", "a=1", "-H", "a=", "-p", "2"]).unwrap();
        let input = shape.read(vec![0xff, b'\r']).unwrap();
        let expected = Content {
            key: Some(Bytes::new()),
            value: Some(vec![0xff, b'\r'].into()),
            headers: vec![("a".into(), Some("1".into())), ("a".into(), Some(Bytes::new()))],
        };
        assert_eq!(input.content, expected);
        assert_eq!(input.partition, Some(PartitionId(2)));
    }

    #[test]
    fn json_lines_say_their_partition_unless_told_otherwise() {
        let read = |words: &[&str]| {
            let line = br#"{"value":"v","partition":5}"#;
            shape(words).unwrap().read(line.to_vec()).unwrap().partition
        };
        assert_eq!(read(&["--json"]), Some(PartitionId(5)));
        assert_eq!(read(&["--json", "-p", "1"]), Some(PartitionId(1)));
        assert_eq!(read(&["--json", "--repartition"]), None);
    }

    #[test]
    fn wrong_words_are_refused() {
        for words in [
            &["-H", "novalue"][..],
            &["-H", "=x"],
            &["--json", "-k", "x"],
            &["--tombstone"],
            &["--repartition"],
        ] {
            assert!(shape(words).is_err(), "{words:?}");
        }
    }
}
