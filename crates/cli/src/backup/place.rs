//! The topic that an import fills: made for it, or left half-made by one that was interrupted.

use tidelog_client::admin::{NewTopic, OffsetAt};
use tidelog_client::{Client, Error, ErrorCode};
use tidelog_types::TopicName;

use super::args::ImportArgs;
use super::contents::Contents;
use super::stored;
use crate::{Failure, offsets};

/// What keeps records while a topic is filled: none may go before it was compared with the file. The
/// topic's own values are set at the end.
const KEEPERS: [&str; 2] = ["retention.ms", "retention.bytes"];
const KEEP: &str = "-1";

/// What is there before the import.
#[derive(Debug)]
pub(super) enum Place {
    /// Nothing.
    Free,
    /// So many records in each partition, from offset 0 on.
    Begun(Vec<u64>),
}

/// Looks at what is there, and whether it can be filled.
///
/// # Errors
/// When the topic is there and is not to be gone on with, or cannot be.
pub(super) async fn find(
    client: &Client,
    args: &ImportArgs,
    contents: &Contents,
    name: &TopicName,
) -> Result<Place, Failure> {
    let described = client.admin().describe_topics([name.clone()]).await?;
    let facts = match described.into_iter().next() {
        Some((_, Err(Error::UnknownTopic { .. }))) | None => {
            check(client, args, contents, name).await?;
            return Ok(Place::Free);
        }
        Some((_, facts)) => facts?,
    };
    if !args.resume {
        return Err(Failure::new(format!("topic {name} exists already")).next_step(
            "nothing was written: choose another name with --into, or, if an import of this file \
             into it was interrupted, pass --resume",
        ));
    }
    begun(client, contents, name, facts.partitions.len()).await.map(Place::Begun)
}

/// Has the cluster check the topic as it will be in the end.
async fn check(
    client: &Client,
    args: &ImportArgs,
    contents: &Contents,
    name: &TopicName,
) -> Result<(), Failure> {
    let topics = [new_topic(args, contents, name)];
    for (_, checked) in client.admin().check_topics(topics).await? {
        let refused = |error| {
            let failure = Failure::from(error).at(|why| format!("topic {name}: {why}"));
            let replicas = failure.is(ErrorCode::InvalidReplicationFactor);
            failure.next_step(match replicas {
                true => "nothing was written: say how many replicas with -r",
                false => "nothing was written",
            })
        };
        checked.map_err(refused)?;
    }
    Ok(())
}

/// How many records there are of each partition, if they can be the beginning of what the file holds.
async fn begun(
    client: &Client,
    contents: &Contents,
    name: &TopicName,
    count: usize,
) -> Result<Vec<u64>, Failure> {
    let wanted = contents.end.partitions.len();
    if count != wanted {
        return Err(other(name, &format!("it has {count} partitions, the file {wanted}")));
    }
    let partitions = stored::partitions(name, count);
    let starts = offsets::list(client, &partitions, OffsetAt::Earliest).await?;
    let ends = offsets::list(client, &partitions, OffsetAt::Latest).await?;
    let bounds = starts.iter().zip(&ends).zip(&contents.end.partitions);
    for ((start, end), partition) in bounds {
        let (number, records) = (partition.partition, partition.end - partition.start);
        if start.0 > 0 {
            return Err(other(name, &format!("partition {number} begins at offset {start}")));
        }
        if end.0 > records {
            let holds = format!("partition {number} holds {end} records, the file {records}");
            return Err(other(name, &holds));
        }
    }
    Ok(ends.into_iter().map(|end| end.0).collect())
}

/// The topic is there, and no import of this file has made it.
pub(super) fn other(name: &TopicName, why: &str) -> Failure {
    Failure::new(format!("topic {name} is not what an import of this file left: {why}"))
        .next_step("nothing was written: choose another name with --into")
}

/// Makes the topic.
pub(super) async fn create(
    client: &Client,
    args: &ImportArgs,
    contents: &Contents,
    name: &TopicName,
) -> Result<(), Failure> {
    let new = new_topic(args, contents, name);
    let new = KEEPERS.iter().fold(new, |new, key| new.config(*key, KEEP));
    for (_, created) in client.admin().create_topics([new]).await? {
        let look = format!("look at it before you try again: tidelog topic describe {name}");
        created.map_err(|error| Failure::from(error).next_step(look))?;
    }
    Ok(())
}

/// Gives the topic the configs of the file that were held back.
pub(super) async fn complete(
    client: &Client,
    contents: &Contents,
    name: &TopicName,
) -> Result<(), Failure> {
    let own = |key: &str| contents.head.configs.get(key).cloned();
    let changes = KEEPERS.map(|key| (key.to_owned(), own(key)));
    Ok(client.admin().alter_configs(name, changes).await?)
}

fn new_topic(args: &ImportArgs, contents: &Contents, name: &TopicName) -> NewTopic {
    let head = &contents.head;
    let new = NewTopic::new(name.clone())
        .partitions(head.partitions)
        .replication_factor(args.replication_factor.unwrap_or(head.replication_factor));
    head.configs.iter().fold(new, |new, (key, value)| new.config(key, value))
}
