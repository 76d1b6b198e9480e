//! The words of `tidelog apply` and `tidelog diff`.

use clap::Args;

/// Arguments of `tidelog apply`.
#[derive(Args, Debug)]
#[command(after_help = FILE_HELP)]
pub(crate) struct ApplyArgs {
    /// File that declares topics; - is stdin
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: String,
    /// Ask the cluster whether it takes the changes, show them, and make none
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Arguments of `tidelog diff`.
#[derive(Args, Debug)]
#[command(after_help = FILE_HELP)]
pub(crate) struct DiffArgs {
    /// File that declares topics; - is stdin
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: String,
}

const FILE_HELP: &str = "\
The file, in TOML; all but the name may be left out:

  [[topic]]
  name = \"orders\"
  partitions = 6
  replication_factor = 3
  configs = { \"retention.ms\" = 86400000 }

Topics that the file does not name are left alone and not reported. A number that is left out is not \
compared; a config that is left out is taken away from the topic. No topic is ever deleted, and no \
partition. diff ends with 0 when nothing differs and with 4 when something does.";
