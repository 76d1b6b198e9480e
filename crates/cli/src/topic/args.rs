//! The words of `tidelog topic`.

use clap::{Args, Subcommand};
use tidelog_types::TopicName;

use crate::backup::{ExportArgs, ImportArgs};
use crate::position::To;

/// Create, list, describe, configure and delete topics.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create topics
    Create(CreateArgs),
    /// List all topics
    List,
    /// Describe topics with their partitions and configuration
    Describe(DescribeArgs),
    /// Delete topics and all their records
    Delete(DeleteArgs),
    /// Give a topic more partitions
    AddPartitions(AddPartitionsArgs),
    /// Delete the oldest records of a topic
    Trim(TrimArgs),
    /// Show or change the configuration of a topic
    Config(ConfigArgs),
    /// Write topics to files, with their records and configs
    Export(ExportArgs),
    /// Make a topic of a file that export wrote, and compare the two
    Import(ImportArgs),
}

/// Arguments of `topic create`.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Names: 1 to 249 of a-z A-Z 0-9 . _ -
    #[arg(required = true, value_name = "TOPIC")]
    pub(crate) topics: Vec<TopicName>,
    /// Number of partitions; the cluster's default is 1
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) partitions: Option<u32>,
    /// Replicas of each partition; the cluster's default is 3, or the number of brokers if less
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) replication_factor: Option<u32>,
    /// Configuration, as retention.ms=3600000; may be repeated
    #[arg(short, long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) configs: Vec<(String, String)>,
    /// Succeed when the topic exists already
    #[arg(long)]
    pub(crate) if_not_exists: bool,
}

/// Arguments of `topic describe`.
#[derive(Args, Debug)]
pub(crate) struct DescribeArgs {
    /// Names of topics
    #[arg(required = true, value_name = "TOPIC")]
    pub(crate) topics: Vec<TopicName>,
}

/// Arguments of `topic delete`.
#[derive(Args, Debug)]
pub(crate) struct DeleteArgs {
    /// Names of topics
    #[arg(required = true, value_name = "TOPIC")]
    pub(crate) topics: Vec<TopicName>,
    /// Succeed when a topic does not exist
    #[arg(long)]
    pub(crate) if_exists: bool,
}

/// Arguments of `topic add-partitions`.
#[derive(Args, Debug)]
pub(crate) struct AddPartitionsArgs {
    /// Name of the topic
    pub(crate) topic: TopicName,
    /// How many partitions it is to have, with those that it has
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) total: u32,
}

/// Arguments of `topic trim`.
#[derive(Args, Debug)]
pub(crate) struct TrimArgs {
    /// Name of the topic
    pub(crate) topic: TopicName,
    /// The first record to keep: an offset, end, @TIME or @-1h
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    pub(crate) before: To,
    /// Only these partitions, as 0,2; may be repeated
    #[arg(short, long = "partition", value_name = "N", value_delimiter = ',')]
    pub(crate) partitions: Vec<u32>,
}

/// Arguments of `topic config`.
#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    /// Name of the topic
    pub(crate) topic: TopicName,
    /// Set a value; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// Take a value away, so that the default holds again; may be repeated
    #[arg(long, value_name = "KEY")]
    pub(crate) delete: Vec<String>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_equals_sign_ends_the_key() {
        assert_eq!(key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(key_value("a="), Ok(("a".into(), String::new())));
        assert!(key_value("a").is_err() && key_value("=b").is_err());
    }
}
