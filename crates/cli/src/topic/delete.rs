//! `tidelog topic delete`.

use std::process::ExitCode;

use serde::Serialize;

use super::args::DeleteArgs;
use super::load::describe_with_offsets;
use super::view::TopicView;
use crate::args::Globals;
use crate::confirm::confirm;
use crate::connect::connect;
use crate::outcomes::Outcomes;
use crate::output::plural;
use crate::{Column, Failure, Page};

/// A topic that is gone.
#[derive(Debug, Serialize)]
struct Deleted {
    name: String,
}

const COLUMNS: &[Column] = &[Column::text("DELETED")];

/// Deletes topics after asking. Nothing is deleted when one of them does not exist.
pub(super) async fn run(globals: &Globals, args: &DeleteArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let (mut found, mut names) = (Vec::new(), Vec::new());
    for (name, topic) in describe_with_offsets(&client, &args.topics).await? {
        match topic {
            Ok(topic) => {
                found.push(topic);
                names.push(name);
            }
            Err(failure) if args.if_exists && failure.is_unknown_topic() => {}
            Err(failure) if failure.is_unknown_topic() => {
                return Err(
                    failure.next_step("nothing was deleted; pass --if-exists to pass over it")
                );
            }
            Err(failure) => return Err(failure),
        }
    }
    if found.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    confirm(globals, &consequence(&found))?;
    let mut outcomes = Outcomes::default();
    let mut deleted = Vec::new();
    for (name, answer) in client.admin().delete_topics(names).await? {
        match answer {
            Ok(()) => {
                deleted.push(Deleted { name: name.to_string() });
                outcomes.succeed();
            }
            Err(error) => outcomes.fail(error.into()),
        }
    }
    globals.output().items("topic.delete", &deleted, |_| {
        Page::new().table(COLUMNS, deleted.iter().map(|topic| vec![topic.name.clone()]))
    })?;
    outcomes.finish()
}

fn consequence(found: &[TopicView]) -> String {
    let one = |topic: &TopicView| {
        let partitions = plural(topic.partitions.len() as u64, "partition");
        format!("{} ({partitions}, {})", topic.name, plural(topic.records(), "record"))
    };
    let all: Vec<String> = found.iter().map(one).collect();
    format!("this deletes {} for good", all.join(", "))
}
