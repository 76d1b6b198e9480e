//! `tidelog topic list` and `tidelog topic describe`.

use std::process::ExitCode;

use super::args::DescribeArgs;
use super::load::{describe, describe_with_offsets};
use super::view::{TOPIC_COLUMNS, TopicView};
use crate::args::Globals;
use crate::connect::connect;
use crate::outcomes::Outcomes;
use crate::{Failure, Page};

/// Lists all topics.
pub(super) async fn list(globals: &Globals) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let mut all = Vec::new();
    for (_, topic) in describe(&client, &[]).await? {
        all.push(topic?);
    }
    globals.output().items("topic.list", &all, |_| {
        Page::new().table(TOPIC_COLUMNS, all.iter().map(TopicView::cells))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Describes some topics; those that do not exist do not hide the others.
pub(super) async fn run(globals: &Globals, args: &DescribeArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let mut outcomes = Outcomes::default();
    let mut found = Vec::new();
    for (_, topic) in describe_with_offsets(&client, &args.topics).await? {
        match topic {
            Ok(topic) => {
                found.push(topic);
                outcomes.succeed();
            }
            Err(failure) => outcomes.fail(failure),
        }
    }
    if !found.is_empty() {
        globals.output().items("topic.describe", &found, |zone| {
            found.iter().fold(Page::new(), |page, topic| topic.describe(page, zone))
        })?;
    }
    outcomes.finish()
}
