//! The words of `tidelog consume` and `tidelog tail`.

use clap::Args;
use tidelog_types::TopicName;

use crate::position::{From, Until};
use crate::record::Template;

/// Arguments of `tidelog consume`.
#[derive(Args, Debug)]
#[command(after_help = "Positions count in each partition: -5 is the last five records of each, \
                        @-1h the records of the last hour. Without --until, new records are printed \
                        as they come, until Ctrl-C or -n.\n\n\
                        With -g the partitions are shared with the other members of the group, and \
                        what was printed is committed: every 5 seconds and at the end, on SIGTERM \
                        and Ctrl-C too. The group goes on where it is; --from (start, end, @TIME) \
                        holds only for partitions that it has committed nothing for. --until then \
                        waits until the whole group is there.")]
pub(crate) struct ConsumeArgs {
    /// Names of topics
    #[arg(required = true, value_name = "TOPIC")]
    pub(crate) topics: Vec<TopicName>,
    /// Read as a member of this group, and commit what was printed
    #[arg(short, long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// With -g: be the static member of this id. It keeps its partitions when it stops, for whoever
    /// comes under the same id within the session timeout of 10 s
    #[arg(long, value_name = "ID")]
    pub(crate) instance: Option<String>,
    /// Where to begin: start, end, an offset, -N, @TIME or @-1h
    #[arg(long, value_name = "POSITION", default_value = "start", allow_hyphen_values = true)]
    pub(crate) from: From,
    /// Where to end: end, an offset, @TIME or @-1h; what is there is not printed
    #[arg(long, value_name = "POSITION")]
    pub(crate) until: Option<Until>,
    /// End after so many records
    #[arg(short = 'n', long = "number", value_name = "N")]
    pub(crate) number: Option<u64>,
    /// Only these partitions; may be repeated or have commas
    #[arg(short, long = "partition", value_name = "N", value_delimiter = ',')]
    pub(crate) partitions: Vec<u32>,
    /// How records are printed.
    #[command(flatten)]
    pub(crate) shown: Shown,
}

/// How records are printed.
#[derive(Args, Clone, Debug)]
pub(crate) struct Shown {
    /// Print each record through a template: %t topic, %p partition, %o offset, %k key, %v value,
    /// %h headers, %T time, %K %V sizes; \n ends a line
    #[arg(short, long, value_name = "TEMPLATE", conflicts_with = "json")]
    pub(crate) format: Option<Template>,
    /// Print records as JSON, one a line, as `produce --json` reads them
    #[arg(long)]
    pub(crate) json: bool,
}
