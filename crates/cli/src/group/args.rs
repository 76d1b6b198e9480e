//! The words of `tidelog group`.

use std::str::FromStr;

use clap::{Args, Subcommand};
use tidelog_types::{PartitionId, TopicName, TopicPartition};

use crate::partition::topic_partition;
use crate::position::To;

/// Look at consumer groups, move and delete them.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List all groups
    List,
    /// Describe a group with its members, or show how far it is
    Describe(DescribeArgs),
    /// Move a group to another place in its partitions, also while it runs
    Seek(SeekArgs),
    /// Delete a group without members, and what it has committed
    Delete(DeleteArgs),
    /// Forget what a group has committed for topics that no member subscribes to
    DeleteOffsets(DeleteOffsetsArgs),
}

/// Arguments of `group describe`.
#[derive(Args, Debug)]
#[command(after_help = "LAG is how many records are not done; SECONDS how long ago the leader \
                        appended the first of them: 0 at the end.")]
pub(crate) struct DescribeArgs {
    /// Id of the group
    pub(crate) group: String,
    /// Show partition by partition how far the group is from the end
    #[arg(long)]
    pub(crate) lag: bool,
    /// Look again each second, until Ctrl-C
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// Arguments of `group seek`.
#[derive(Args, Debug)]
#[command(
    after_help = "Members need not be stopped: each gets its partitions anew and goes on from \
                        the new place; what it was working on can no longer be committed."
)]
pub(crate) struct SeekArgs {
    /// Id of the group
    pub(crate) group: String,
    /// Where to go on: start, end, an offset, @TIME or @-1h
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    pub(crate) to: To,
    /// Only these topics or partitions, as orders or orders/0; may be repeated or have commas.
    /// Without it, all partitions that the group has committed something for or holds
    #[arg(long = "topic", value_name = "TOPIC[/PARTITION]", value_delimiter = ',')]
    pub(crate) topics: Vec<Part>,
    /// Only show what would be
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Arguments of `group delete`.
#[derive(Args, Debug)]
pub(crate) struct DeleteArgs {
    /// Id of the group
    pub(crate) group: String,
}

/// Arguments of `group delete-offsets`.
#[derive(Args, Debug)]
pub(crate) struct DeleteOffsetsArgs {
    /// Id of the group
    pub(crate) group: String,
    /// Topics or partitions, as orders or orders/0; may be repeated or have commas
    #[arg(
        long = "topic",
        value_name = "TOPIC[/PARTITION]",
        value_delimiter = ',',
        required = true
    )]
    pub(crate) topics: Vec<Part>,
}

/// A topic with all its partitions, or one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The topic.
    pub(crate) topic: TopicName,
    /// The partition, if it is one.
    pub(crate) partition: Option<PartitionId>,
}

impl Part {
    /// Whether `partition` is a part of it.
    pub(super) fn contains(&self, partition: &TopicPartition) -> bool {
        self.topic == partition.topic && self.partition.is_none_or(|one| one == partition.partition)
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            let TopicPartition { topic, partition } = topic_partition(text)?;
            return Ok(Self { topic, partition: Some(partition) });
        }
        let topic = TopicName::new(text).map_err(|error| error.to_string())?;
        Ok(Self { topic, partition: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: GroupCommand,
    }

    fn seek(words: &[&str]) -> Result<SeekArgs, clap::Error> {
        let line = ["tidelog", "seek"].iter().chain(words);
        Line::try_parse_from(line).map(|line| match line.command {
            GroupCommand::Seek(args) => args,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_seek_names_its_place_and_its_partitions() {
        let args = seek(&["billing", "--to", "@-1h", "--topic", "a,b/2", "--topic", "c"]).unwrap();
        assert_eq!(args.to, "@-1h".parse().unwrap());
        let parts = args.topics.iter().map(|part| (part.topic.as_str(), part.partition));
        let parts: Vec<_> = parts.collect();
        let expected = [("a", None), ("b", Some(PartitionId(2))), ("c", None)];
        assert_eq!(parts, expected);
        assert!(!args.dry_run);
        // Understood, to be refused with the broker's code.
        assert_eq!(seek(&["billing", "--to", "-5"]).unwrap().to, To::Offset(-5));
    }

    #[test]
    fn what_is_missing_or_no_place_is_refused() {
        for words in [
            &["billing"][..],
            &["--to", "start"],
            &["billing", "--to", "yesterday"],
            &["billing", "--to", "start", "--topic", "a/b"],
            &["billing", "--to", "start", "--topic", "a/-1"],
        ] {
            assert!(seek(words).is_err(), "{words:?}");
        }
        assert!(Line::try_parse_from(["tidelog", "delete-offsets", "billing"]).is_err());
    }

    #[test]
    fn a_topic_contains_its_partitions_and_a_partition_itself() {
        let of = |text: &str| topic_partition(text).unwrap();
        let topic: Part = "a".parse().unwrap();
        assert!(topic.contains(&of("a/0")) && topic.contains(&of("a/7")));
        assert!(!topic.contains(&of("b/0")));
        let one: Part = "a/7".parse().unwrap();
        assert!(one.contains(&of("a/7")) && !one.contains(&of("a/0")));
    }
}
