//! `tidelog group delete-offsets`.

use std::process::ExitCode;

use serde::Serialize;
use tidelog_client::Client;
use tidelog_types::{GroupName, Offset, TopicPartition};

use super::args::{DeleteOffsetsArgs, Part};
use super::name::group_name;
use crate::args::Globals;
use crate::confirm::confirm;
use crate::connect::connect;
use crate::outcomes::Outcomes;
use crate::output::plural;
use crate::topic::{partition_count, unknown_partition};
use crate::{Column, Failure, Page};

/// An offset that is forgotten.
#[derive(Debug, Serialize)]
struct Deleted {
    topic: String,
    partition: u32,
    committed: u64,
}

const COLUMNS: &[Column] =
    &[Column::text("TOPIC"), Column::number("PARTITION"), Column::number("WAS")];

/// Forgets offsets after asking.
pub(super) async fn run(globals: &Globals, args: &DeleteOffsetsArgs) -> Result<ExitCode, Failure> {
    let group = group_name(&args.group)?;
    let client = connect(globals).await?;
    let committed = committed(&client, &group, &args.topics).await?;
    let partitions = plural(committed.len() as u64, "partition");
    confirm(globals, &format!("this forgets how far group {group} is in {partitions}"))?;
    let items = committed.iter().map(|(partition, _)| partition.clone());
    let answers = client.admin().delete_group_offsets(group.as_str(), items).await?;
    let mut outcomes = Outcomes::default();
    let mut deleted = Vec::new();
    for ((partition, answer), (_, offset)) in answers.into_iter().zip(committed) {
        match answer {
            Ok(()) => {
                deleted.push(Deleted {
                    topic: partition.topic.to_string(),
                    partition: partition.partition.0,
                    committed: offset.0,
                });
                outcomes.succeed();
            }
            Err(error) => {
                outcomes.fail(Failure::from(error).at(|message| format!("{partition}: {message}")));
            }
        }
    }
    if !deleted.is_empty() {
        globals.output().items("group.delete-offsets", &deleted, |_| {
            Page::new().table(COLUMNS, deleted.iter().map(Deleted::cells))
        })?;
    }
    outcomes.finish()
}

/// What the group has committed for each of `parts`; it is an error when there is nothing for one.
async fn committed(
    client: &Client,
    group: &GroupName,
    parts: &[Part],
) -> Result<Vec<(TopicPartition, Offset)>, Failure> {
    let known = client.admin().describe_group(group.as_str()).await?.partitions;
    let known = known.into_iter().filter_map(|partition| {
        let committed = partition.committed?;
        Some((partition.partition, committed.offset))
    });
    let known: Vec<_> = known.collect();
    // Not asked whether topics exist: what is committed for one that is gone may be forgotten, too.
    for part in parts {
        if !known.iter().any(|(partition, _)| part.contains(partition)) {
            return Err(missing(client, group, part).await?);
        }
    }
    let wanted = |partition: &TopicPartition| parts.iter().any(|part| part.contains(partition));
    Ok(known.into_iter().filter(|(partition, _)| wanted(partition)).collect())
}

/// Why there is nothing to forget.
async fn missing(client: &Client, group: &GroupName, part: &Part) -> Result<Failure, Failure> {
    let Part { topic, partition } = part;
    let count = partition_count(client, topic).await?;
    let name = match partition {
        Some(partition) => {
            let name = TopicPartition { topic: topic.clone(), partition: *partition };
            if partition.0 >= count {
                return Ok(unknown_partition(&name, count));
            }
            name.to_string()
        }
        None => topic.to_string(),
    };
    Ok(Failure::new(format!("group {group} has committed nothing for {name}"))
        .next_step(format!("see where it is: tidelog group describe {group} --lag")))
}

impl Deleted {
    fn cells(&self) -> Vec<String> {
        vec![self.topic.clone(), self.partition.to_string(), self.committed.to_string()]
    }
}
