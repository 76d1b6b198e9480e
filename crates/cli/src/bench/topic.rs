//! The topic that a measurement uses.

use std::time::Duration;

use rand::RngCore;
use tidelog_client::admin::{NewTopic, OffsetAt};
use tidelog_client::{Client, Error, Offset, PartitionId, TopicName, TopicPartition};

use super::options::LoadArgs;
use crate::interrupt::Interrupt;
use crate::topic::partition_count;
use crate::{Failure, offsets};

/// How long a new topic may be without leaders.
pub(super) const LEADERS_WITHIN: Duration = Duration::from_secs(60);

/// A topic and its number of partitions.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub(super) name: TopicName,
    pub(super) partitions: u32,
}

impl Topic {
    /// All partitions, in order.
    pub(super) fn all(&self) -> Vec<TopicPartition> {
        let name = |partition| TopicPartition { topic: self.name.clone(), partition };
        (0..self.partitions).map(PartitionId).map(name).collect()
    }

    /// One offset of each partition.
    pub(super) async fn offsets(
        &self,
        client: &Client,
        at: OffsetAt,
    ) -> Result<Vec<Offset>, Failure> {
        offsets::list(client, &self.all(), at).await
    }
}

/// Does `work` on the topic that the command line names, or on one that is created for it. That one is
/// deleted at the end, also after an error and on Ctrl-C.
pub(super) async fn with_topic<T>(
    client: &Client,
    args: &LoadArgs,
    work: impl AsyncFnOnce(&Topic) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut interrupt = Interrupt::listen()?;
    let (name, created) = match &args.topic {
        Some(name) => (name.clone(), false),
        None => (new_name(), true),
    };
    let whole = async {
        let partitions = match created {
            true => create(client, NewTopic::new(name.clone()).partitions(args.partitions)).await?,
            false => partition_count(client, &name).await?,
        };
        work(&Topic { name: name.clone(), partitions }).await
    };
    let done = tokio::select! {
        biased;
        () = interrupt.asked() => Err(Failure::new("interrupted, nothing was measured")),
        done = whole => done,
    };
    if !created {
        return done;
    }
    match (done, delete(client, &name).await) {
        (done, Ok(())) => done,
        (Ok(_), Err(failure)) => Err(failure),
        // It may never have been created: the first failure says more.
        (Err(failure), Err(undeleted)) if undeleted.is_unknown_topic() => Err(failure),
        (Err(failure), Err(_)) => {
            Err(failure.next_step(format!("topic {name} is left: tidelog topic delete {name}")))
        }
    }
}

/// Creates a topic and waits for its leaders. Gives its number of partitions.
pub(super) async fn create(client: &Client, topic: NewTopic) -> Result<u32, Failure> {
    let name = topic.name.clone();
    let mut partitions = 0;
    for (_, created) in client.admin().create_topics([topic]).await? {
        partitions = created?.partitions;
    }
    client.admin().wait_for_leaders(&name, LEADERS_WITHIN).await?;
    Ok(partitions)
}

async fn delete(client: &Client, name: &TopicName) -> Result<(), Failure> {
    let deleted = client.admin().delete_topics([name.clone()]).await?;
    let each = deleted.into_iter().map(|(_, deleted)| deleted);
    Ok(each.collect::<Result<(), Error>>()?)
}

fn new_name() -> TopicName {
    let name = format!("bench-{:016x}", rand::rng().next_u64());
    TopicName::new(&name).expect("hexadecimal digits make a topic name")
}
