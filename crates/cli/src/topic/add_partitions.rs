//! `tidelog topic add-partitions`.

use std::process::ExitCode;

use serde::Serialize;

use super::args::AddPartitionsArgs;
use super::load::partition_count;
use crate::args::Globals;
use crate::confirm::confirm;
use crate::connect::connect;
use crate::output::plural;
use crate::{Failure, Page};

/// What a topic has now.
#[derive(Debug, Serialize)]
struct Added {
    topic: String,
    partitions: u32,
    added: u32,
}

/// Adds partitions after saying what that does to keys.
pub(super) async fn run(globals: &Globals, args: &AddPartitionsArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let before = partition_count(&client, &args.topic).await?;
    if args.total > before {
        let more = plural(u64::from(args.total - before), "partition");
        confirm(
            globals,
            &format!(
                "this adds {more} to {} for good, and records of a key may go to another partition \
                 than before",
                args.topic
            ),
        )?;
    }
    client.admin().create_partitions(&args.topic, args.total).await?;
    let added = Added {
        topic: args.topic.to_string(),
        partitions: args.total,
        added: args.total.saturating_sub(before),
    };
    let sentence = format!("{} has {}", args.topic, plural(u64::from(args.total), "partition"));
    globals
        .output()
        .item("topic.add-partitions", &added, |_| Page::new().verdict(true, sentence))?;
    Ok(ExitCode::SUCCESS)
}
