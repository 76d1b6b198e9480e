//! `tidelog apply` and `tidelog diff`: topics as a file declares them.
//!
//! ```text
//! file  what is wanted    cluster  what is there    difference  what that leaves to do
//! ```
//! Everything that can be refused is refused before anything is changed: by the file alone, by what the
//! cluster has, and by the cluster itself, which is asked to check each change first.

mod args;
mod cluster;
mod difference;
mod file;

use std::process::ExitCode;

pub(crate) use args::{ApplyArgs, DiffArgs};

use difference::{COLUMNS, Difference, Pair};

use crate::args::Globals;
use crate::confirm::confirm;
use crate::connect::connect;
use crate::output::plural;
use crate::runtime::block_on;
use crate::{Exit, Failure, Page};

/// Shows what differs between file and cluster.
pub(crate) fn diff(globals: &Globals, args: &DiffArgs) -> Result<ExitCode, Failure> {
    let declared = file::read(&args.file)?;
    block_on(async {
        let client = connect(globals).await?;
        let pairs = cluster::pairs(&client, declared).await?;
        let differences: Vec<_> = pairs.iter().flat_map(Pair::differences).collect();
        print(globals, "diff", None, &differences)?;
        Ok(if differences.is_empty() { ExitCode::SUCCESS } else { Exit::Differs.into() })
    })
}

/// Makes the cluster what the file says, after asking where that moves keys.
pub(crate) fn apply(globals: &Globals, args: &ApplyArgs) -> Result<ExitCode, Failure> {
    let declared = file::read(&args.file)?;
    block_on(async {
        let client = connect(globals).await?;
        let pairs = cluster::pairs(&client, declared).await?;
        if let Some(failure) = pairs.iter().filter_map(Pair::refusal).reduce(Failure::and) {
            return Err(failure);
        }
        cluster::check(&client, &pairs).await?;
        if args.dry_run {
            let differences = pairs.iter().flat_map(Pair::differences);
            let differences: Vec<_> = differences.map(|one| one.applied(false)).collect();
            let title = "Would be changed; nothing was";
            print(globals, "apply", Some(title), &differences)?;
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(consequence) = consequence(&pairs) {
            confirm(globals, &consequence)?;
        }
        let (differences, outcomes) = cluster::change(&client, &pairs).await?;
        print(globals, "apply", None, &differences)?;
        outcomes.finish()
    })
}

fn print(
    globals: &Globals,
    kind: &'static str,
    title: Option<&str>,
    differences: &[Difference],
) -> Result<(), Failure> {
    let page = |_| match differences.is_empty() {
        true => Page::new().verdict(true, "nothing differs"),
        false => {
            let page = title.into_iter().fold(Page::new(), Page::heading);
            page.table(COLUMNS, differences.iter().map(Difference::cells))
        }
    };
    Ok(globals.output().items(kind, differences, page)?)
}

/// What there is to ask about: topics that get more partitions.
fn consequence(pairs: &[Pair]) -> Option<String> {
    let grown = |pair: &Pair| {
        let (there, wanted) = pair.more_partitions()?;
        let more = plural(u64::from(wanted - there), "partition");
        Some(format!("{more} to {}", pair.declared.name))
    };
    let grown: Vec<String> = pairs.iter().filter_map(grown).collect();
    let moves = "for good, and records of a key may go to another partition than before";
    (!grown.is_empty()).then(|| format!("this adds {} {moves}", grown.join(", ")))
}
