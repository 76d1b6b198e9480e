//! Where a group is to be before a member of it ends: `--until` with `-g`.

use std::collections::BTreeMap;

use tidelog_client::admin::OffsetAt;
use tidelog_client::{Client, Consumer};
use tidelog_types::{Offset, TopicPartition};

use super::args::ConsumeArgs;
use super::begin;
use crate::moment::Zone;
use crate::position::Until;
use crate::{Failure, offsets};

/// An end in each partition. It is reached in one when this member has printed everything before it,
/// or when somebody of the group has committed so far: it does not matter who holds what.
#[derive(Debug)]
pub(super) struct Goal {
    ends: BTreeMap<TopicPartition, Offset>,
    /// Those that are not known to be reached.
    open: BTreeMap<TopicPartition, Offset>,
}

impl Goal {
    /// What `--until` stands for now; `None` without it.
    pub(super) async fn of(
        client: &Client,
        args: &ConsumeArgs,
        partitions: Vec<TopicPartition>,
        zone: Zone,
    ) -> Result<Option<Self>, Failure> {
        let ends = match &args.until {
            None => return Ok(None),
            Some(Until::End) => {
                let ends = offsets::list(client, &partitions, OffsetAt::Latest).await?;
                partitions.into_iter().zip(ends).collect()
            }
            Some(Until::Offset(offset)) => {
                partitions.into_iter().map(|partition| (partition, *offset)).collect()
            }
            Some(Until::Time(moment)) => begin::ends(client, moment, &partitions, zone).await?,
        };
        Ok(Some(Self::new(ends)))
    }

    fn new(ends: Vec<(TopicPartition, Offset)>) -> Self {
        let ends: BTreeMap<_, _> = ends.into_iter().collect();
        // Before offset 0 there is nothing to wait for.
        let open = ends.iter().filter(|(_, end)| **end > Offset::ZERO);
        let open = open.map(|(partition, end)| (partition.clone(), *end)).collect();
        Self { ends, open }
    }

    /// Whether a record lies before the end of its partition.
    pub(super) fn takes(&self, partition: &TopicPartition, offset: Offset) -> bool {
        self.ends.get(partition).is_some_and(|end| offset < *end)
    }

    /// Notes that everything before `next` is done.
    pub(super) fn reach(&mut self, partition: &TopicPartition, next: Offset) {
        if self.open.get(partition).is_some_and(|end| next >= *end) {
            self.open.remove(partition);
        }
    }

    /// Whether the group is there.
    pub(super) fn is_reached(&self) -> bool {
        self.open.is_empty()
    }

    /// Notes how far `consumer` is. Everything that it handed out must have been printed.
    pub(super) fn see(&mut self, consumer: &Consumer) {
        for position in consumer.positions() {
            if let Some(next) = position.next {
                self.reach(&position.partition, next);
            }
        }
    }

    /// As [`Goal::see`], and asks how far the others are.
    pub(super) async fn look(&mut self, consumer: &Consumer) -> Result<(), Failure> {
        self.see(consumer);
        if self.is_reached() {
            return Ok(());
        }
        match consumer.committed(self.open.keys().cloned()).await {
            Ok(committed) => {
                for (partition, committed) in committed {
                    if let Some(committed) = committed {
                        self.reach(&partition, committed.offset);
                    }
                }
                Ok(())
            }
            // The next look may get an answer.
            Err(error) if error.is_retriable() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidelog_types::{PartitionId, TopicName};

    use super::*;

    #[test]
    fn a_goal_is_reached_in_every_partition_or_not_at_all() {
        let name = |partition| TopicPartition {
            topic: TopicName::new("orders").unwrap(),
            partition: PartitionId(partition),
        };
        let mut goal =
            Goal::new(vec![(name(0), Offset(2)), (name(1), Offset(0)), (name(2), Offset(5))]);
        assert!(goal.takes(&name(0), Offset(1)) && !goal.takes(&name(0), Offset(2)));
        assert!(!goal.takes(&name(1), Offset(0)), "the end is the start");
        assert!(!goal.takes(&name(3), Offset(0)), "a partition that came later");
        goal.reach(&name(0), Offset(2));
        goal.reach(&name(2), Offset(4));
        assert!(!goal.is_reached());
        // Begun behind the end, or committed by somebody else.
        goal.reach(&name(2), Offset(9));
        assert!(goal.is_reached());
        assert!(goal.takes(&name(2), Offset(4)), "what comes again is printed again");
    }
}
