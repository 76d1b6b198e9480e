//! The command line: every word of it, and nothing of what it does.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::moment::{Zone, parse_duration};
use crate::output::{Color, Format, Output};
use crate::{
    apply, bench, cluster, consume, context, debug, demo, dump, group, local, partition, produce,
    server, tail, topic,
};

/// A partitioned log cluster: server, command line and local cluster
#[derive(Debug, Parser)]
#[command(
    name = "tidelog",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 ok, 1 failure, 2 wrong usage, 3 some of several items failed, \
                  4 diff found differences, 10 the cluster is not healthy."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// What all commands share.
    #[command(flatten)]
    pub(crate) globals: Globals,
}

/// What all commands share.
#[derive(Args, Clone, Debug)]
pub struct Globals {
    /// Brokers to ask first, with commas between them; else TIDELOG_BOOTSTRAP, the context,
    /// 127.0.0.1:7071
    #[arg(
        short,
        long,
        global = true,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        help_heading = "Global options"
    )]
    pub bootstrap: Vec<String>,
    /// Cluster to talk to, by the name of `context add`; else TIDELOG_CONTEXT, `context use`
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub context: Option<String>,
    /// Form of results; a table on a terminal, else tab-separated
    #[arg(short, long, global = true, value_name = "FORM", help_heading = "Global options")]
    pub output: Option<Format>,
    /// How long one request may take (10s), and with produce also a record (2m)
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        value_parser = parse_duration,
        help_heading = "Global options"
    )]
    pub timeout: Option<Duration>,
    /// Answer yes to every question
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub yes: bool,
    /// Never color the output
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_color: bool,
    /// Show and read times in the zone of this machine instead of UTC
    #[arg(long, global = true, help_heading = "Global options")]
    pub local: bool,
}

/// How long one request may take when nobody says.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

impl Globals {
    /// How long one request may take.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        self.timeout.unwrap_or(REQUEST_TIMEOUT)
    }

    /// Where results go, and in which form.
    #[must_use]
    pub fn output(&self) -> Output {
        Output::new(self.output, self.color(), self.zone())
    }

    /// The zone of times.
    #[must_use]
    pub const fn zone(&self) -> Zone {
        if self.local { Zone::Local } else { Zone::Utc }
    }

    /// Whether terminals get colors.
    #[must_use]
    pub const fn color(&self) -> Color {
        if self.no_color { Color::Never } else { Color::Auto }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a broker
    Server(server::ServerArgs),
    /// Run a whole cluster on this machine, for development
    Dev(local::DevArgs),
    /// Kill brokers under load and show that nothing is lost
    Demo(demo::Args),
    /// Measure how fast a cluster is
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Create, list, describe, configure and delete topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Make topics what a file declares: create them, add partitions, change configs
    Apply(apply::ApplyArgs),
    /// Show how topics differ from what a file declares
    Diff(apply::DiffArgs),
    /// Produce records from stdin, one value a line
    Produce(produce::ProduceArgs),
    /// Print the records of topics, one value a line
    Consume(consume::ConsumeArgs),
    /// Print the last records of a topic, then new ones as they come
    Tail(tail::TailArgs),
    /// Look at consumer groups, move and delete them
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Look at the cluster and its brokers
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Look at partitions and move their leaders
    #[command(subcommand)]
    Partition(partition::PartitionCommand),
    /// Name clusters, and choose the one that commands talk to
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// Gather what somebody needs who looks for a fault
    #[command(subcommand)]
    Debug(debug::DebugCommand),
    /// Read files of a data directory, without a broker
    #[command(subcommand)]
    Dump(dump::DumpCommand),
    /// Print version, commit, feature levels and the versions of all formats
    Version,
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[cfg(test)]
impl Globals {
    /// What holds when nothing is given.
    pub(crate) fn for_tests() -> Self {
        Cli::parse_from(["tidelog", "version"]).globals
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn positions_that_begin_with_a_hyphen_are_no_flags() {
        let cli = Cli::try_parse_from(["tidelog", "consume", "orders", "--from", "-5", "-n", "3"]);
        assert!(cli.is_ok(), "{cli:?}");
    }

    #[test]
    fn globals_may_stand_behind_the_command() {
        let cli = ["tidelog", "topic", "list", "-b", "a:1,b:2", "-o", "json", "--timeout", "2s"];
        let cli = Cli::try_parse_from(cli).unwrap();
        assert_eq!(cli.globals.bootstrap, ["a:1", "b:2"]);
        assert_eq!(cli.globals.output, Some(Format::Json));
        assert_eq!(cli.globals.timeout, Some(Duration::from_secs(2)));
    }

    #[test]
    fn help_lines_are_imperative_without_full_stop() {
        fn walk(command: &clap::Command) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && !about.ends_with('.'), "{}", command.get_name());
            for argument in command.get_arguments() {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                let full_stop = help.ends_with('.') && !help.ends_with("..");
                assert!(!help.is_empty() && !full_stop, "{}", argument.get_id());
            }
            command.get_subcommands().filter(|sub| sub.get_name() != "help").for_each(walk);
        }
        walk(&Cli::command());
    }
}
