//! The words of `tidelog topic export` and `tidelog topic import`.

use std::path::PathBuf;

use clap::Args;
use tidelog_types::TopicName;

use crate::produce::Codec;

/// Arguments of `topic export`.
#[derive(Args, Debug)]
#[command(after_help = "\
Reads each partition up to where it ended when the export began. The file holds the records with their \
offsets and times, the topic's configs and number of partitions, and checksums over all of it; it gets \
its name only when it is whole. Import it with `tidelog topic import`.")]
pub(crate) struct ExportArgs {
    /// Names of topics
    #[arg(required = true, value_name = "TOPIC")]
    pub(super) topics: Vec<TopicName>,
    /// File to write; a directory, which gets TOPIC.backup.jsonl, if there is one of that name, if it
    /// ends with a slash, or for several topics
    #[arg(long, value_name = "DIR|FILE")]
    pub(super) to: PathBuf,
    /// Also how far groups are in the topics
    #[arg(long)]
    pub(super) groups: bool,
}

/// Arguments of `topic import`.
#[derive(Args, Debug)]
#[command(after_help = "\
The whole file is checked before anything is written, and everything is read back and compared at the \
end. Offsets begin at 0 in the new topic; what groups have committed is moved along. Until the end \
nothing is deleted by retention; then the topic gets its own configs.")]
pub(crate) struct ImportArgs {
    /// File that `topic export` wrote
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Name of the topic to make, instead of that in the file
    #[arg(long, value_name = "NAME")]
    pub(super) into: Option<TopicName>,
    /// Replicas of each partition, instead of as many as in the file
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) replication_factor: Option<u32>,
    /// Codec of batches
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none")]
    pub(super) compression: Codec,
    /// Go on with an import of this file that was interrupted
    #[arg(long)]
    pub(super) resume: bool,
    /// Leave groups as they are
    #[arg(long)]
    pub(super) no_groups: bool,
    /// Replace what groups have committed for the topic already
    #[arg(long, conflicts_with = "no_groups")]
    pub(super) overwrite_groups: bool,
}
