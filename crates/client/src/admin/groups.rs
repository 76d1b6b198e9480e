//! Groups: list, describe, move, delete.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidelog_proto::v1;
use tidelog_types::{ErrorCode, Offset, TopicPartition};

use super::{
    Admin, GroupFacts, GroupLag, GroupPartition, GroupSummary, OffsetAt, PerItem, SeekTarget,
    Sought,
};
use crate::cluster::{Patience, Preferred};
use crate::error::BrokerError;
use crate::group::{ANY, Calls, CommittedOffset, OffsetCommit, check_count, client, group_name};
use crate::{Error, Position};

/// How long one broker may take to list all groups: it asks every coordinator.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);
/// The most partitions of one call.
const ITEMS_MAX: usize = 10_000;

impl Admin {
    /// Lists all groups, by id.
    ///
    /// # Errors
    /// When no broker answers in time.
    pub async fn list_groups(&self) -> Result<Vec<GroupSummary>, Error> {
        let call =
            |channel| async move { client(channel).list_groups(v1::ListGroupsRequest {}).await };
        let patience = Patience { each: LIST_TIMEOUT, all: self.cluster.request_timeout() };
        let answer = self.cluster.ask_in_turn(&Preferred::default(), patience, call).await?;
        answer.groups.into_iter().map(GroupSummary::read).collect()
    }

    /// Describes a group, with how far it is from the end of each partition, in records and in time.
    ///
    /// ```no_run
    /// # async fn example(client: tidelog_client::Client) -> Result<(), tidelog_client::Error> {
    /// for partition in client.admin().describe_group("billing").await?.partitions {
    ///     if let Some(Ok(lag)) = partition.lag {
    ///         println!("{}: {} records behind", partition.partition, lag.records);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When there is no such group, or no broker answers in time.
    pub async fn describe_group(&self, group: &str) -> Result<GroupFacts, Error> {
        let calls = self.group_calls(group)?;
        let call = |channel| async move {
            let request = v1::DescribeGroupRequest { group_id: group.to_owned() };
            client(channel).describe_group(request).await
        };
        let answer = calls.ask(self.cluster.request_timeout(), call).await?;
        let mut facts = GroupFacts::read(answer)?;
        self.measure(&mut facts.partitions).await;
        Ok(facts)
    }

    /// Looks up how far the end of each partition is.
    async fn measure(&self, partitions: &mut [GroupPartition]) {
        let mut items = Vec::new();
        for partition in partitions.iter() {
            if let Some(committed) = &partition.committed {
                // The time first: what comes between the two is lag, and has none before.
                items.push((partition.partition.clone(), OffsetAt::Offset(committed.offset)));
                items.push((partition.partition.clone(), OffsetAt::Latest));
            }
        }
        let now = self.cluster.environment().clock.now();
        let listed = self.look_up(items, self.cluster.request_timeout()).await;
        let mut listed = listed.into_iter().map(|(_, listed)| listed);
        for partition in partitions {
            let Some(committed) = &partition.committed else { continue };
            let (Some(at), Some(end)) = (listed.next(), listed.next()) else { return };
            let lag = end.and_then(|end| {
                let time = match at {
                    Ok(at) => Some(at.timestamp.map_or(Duration::ZERO, |appended| {
                        let behind = now.0.saturating_sub(appended.0);
                        Duration::from_millis(u64::try_from(behind).unwrap_or_default())
                    })),
                    Err(error) if error.code() == Some(ErrorCode::OffsetOutOfRange) => None,
                    Err(error) => return Err(error),
                };
                let records = end.offset.0.saturating_sub(committed.offset.0);
                Ok(GroupLag { high_watermark: end.offset, records, time })
            });
            partition.lag = Some(lag);
        }
    }

    /// Moves a group in partitions, or in all partitions of topics, forward or back; also while it has
    /// members, which go on from there. With `dry_run` it only tells what would be.
    ///
    /// ```no_run
    /// # async fn example(client: tidelog_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use tidelog_client::{Position, TopicName};
    ///
    /// let orders = TopicName::new("orders")?;
    /// let would = client.admin().seek_group("billing", [(orders, Position::Earliest)], true).await?;
    /// for (partition, sought) in would {
    ///     println!("{partition}: {:?}", sought?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When a topic does not exist, or the group cannot be reached.
    pub async fn seek_group<T: Into<SeekTarget>>(
        &self,
        group: &str,
        targets: impl IntoIterator<Item = (T, Position)>,
        dry_run: bool,
    ) -> Result<PerItem<TopicPartition, Sought>, Error> {
        let calls = self.group_calls(group)?;
        let mut wanted = Vec::new();
        for (target, position) in targets {
            let target = target.into();
            let facts = self.cluster.topic(target.topic()).await?;
            let partitions = target.partitions(facts.partitions);
            wanted.extend(partitions.into_iter().map(|partition| (partition, position)));
        }
        let (mut results, mut moves) = (Vec::new(), Vec::new());
        for (at, (partition, offset)) in self.resolve(wanted).await.into_iter().enumerate() {
            if let Ok(offset) = &offset {
                moves.push((at, partition.clone(), *offset));
            }
            results.push((partition, offset.map(|offset| Sought { before: None, offset })));
        }
        for moves in moves.chunks(ITEMS_MAX) {
            let before = match dry_run {
                true => self.read_before(&calls, moves).await?,
                false => self.seek(&calls, moves).await?,
            };
            for ((at, _, offset), before) in moves.iter().zip(before) {
                results[*at].1 = before.map(|before| Sought { before, offset: *offset });
            }
        }
        Ok(results)
    }

    /// The offsets that positions stand for, each at its partition's leader.
    async fn resolve(
        &self,
        wanted: Vec<(TopicPartition, Position)>,
    ) -> PerItem<TopicPartition, Offset> {
        let items = wanted.iter().map(|(partition, position)| {
            let at = match position {
                Position::Earliest => OffsetAt::Earliest,
                // To be compared with.
                Position::Latest | Position::Offset(_) => OffsetAt::Latest,
                Position::Timestamp(time) => OffsetAt::Timestamp(*time),
            };
            (partition.clone(), at)
        });
        let listed = self.look_up(items.collect(), self.cluster.request_timeout()).await;
        let resolved =
            listed.into_iter().zip(wanted).map(|((partition, listed), (_, position))| {
                let offset = listed.and_then(|listed| match position {
                    Position::Offset(offset) if offset > listed.offset => {
                        let message =
                            format!("{partition} ends at {}, asked for {offset}", listed.offset);
                        let error = v1::Error::new(ErrorCode::OffsetOutOfRange, message);
                        Err(BrokerError::new(ANY, error).into())
                    }
                    Position::Offset(offset) => Ok(offset),
                    _ => Ok(listed.offset),
                });
                (partition, offset)
            });
        resolved.collect()
    }

    async fn read_before(
        &self,
        calls: &Calls,
        moves: &[(usize, TopicPartition, Offset)],
    ) -> Result<Vec<Result<Option<Offset>, Error>>, Error> {
        let partitions =
            moves.iter().map(|(_, partition, _)| partition.clone()).collect::<Vec<_>>();
        let offsets = calls.fetch(&partitions, self.cluster.request_timeout()).await?;
        let offsets = offsets.into_iter().map(|(_, offset)| Ok(offset.map(|offset| offset.offset)));
        Ok(offsets.collect())
    }

    async fn seek(
        &self,
        calls: &Calls,
        moves: &[(usize, TopicPartition, Offset)],
    ) -> Result<Vec<Result<Option<Offset>, Error>>, Error> {
        use v1::seek_group_result::Result as Outcome;
        let targets = moves.iter().map(|(_, partition, offset)| v1::SeekTarget {
            topic: partition.topic.to_string(),
            partition: partition.partition.0,
            offset: offset.to_wire(),
        });
        let group_id = calls.group().to_string();
        // Kept over repeats: a seek whose answer was lost is done once.
        let seek_id = crate::group::uuid(self.cluster.environment());
        let request = v1::SeekGroupRequest { group_id, targets: targets.collect(), seek_id };
        let call = |channel| {
            let request = request.clone();
            async move { client(channel).seek_group(request).await }
        };
        let answer = calls.ask(self.cluster.request_timeout(), call).await?;
        check_count(moves.len(), answer.results.len())?;
        let results = answer.results.into_iter().map(|result| match result.result {
            Some(Outcome::Before(before)) => Ok(Offset::from_wire(before.offset)),
            Some(Outcome::Error(error)) => Err(BrokerError::new(ANY, error).into()),
            None => Err(Error::protocol(ANY, "no result for a target")),
        });
        Ok(results.collect())
    }

    /// Deletes a group and what it has committed. When the answer to a try was lost, and there is no
    /// such group at the next, it counts as deleted.
    ///
    /// # Errors
    /// When there is no such group, when it has members, or when it cannot be reached.
    pub async fn delete_group(&self, group: &str) -> Result<(), Error> {
        let calls = self.group_calls(group)?;
        let tries = AtomicU32::new(0);
        let call = |channel| {
            tries.fetch_add(1, Ordering::Relaxed);
            let request = v1::DeleteGroupRequest { group_id: group.to_owned() };
            async move { client(channel).delete_group(request).await }
        };
        match calls.ask(self.cluster.request_timeout(), call).await {
            Err(error)
                if error.code() == Some(ErrorCode::GroupIdNotFound)
                    && tries.load(Ordering::Relaxed) > 1 =>
            {
                Ok(())
            }
            answer => answer.map(drop),
        }
    }

    /// Forgets what a group has committed for partitions that no member subscribes to.
    ///
    /// # Errors
    /// When the group cannot be reached.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<PerItem<TopicPartition, ()>, Error> {
        let calls = self.group_calls(group)?;
        let partitions = partitions.into_iter().collect::<Vec<_>>();
        let mut results = Vec::with_capacity(partitions.len());
        for partitions in partitions.chunks(ITEMS_MAX) {
            let call = |channel| {
                let request = v1::DeleteOffsetsRequest {
                    group_id: group.to_owned(),
                    partitions: partitions.iter().map(v1::TopicPartition::from).collect(),
                };
                async move { client(channel).delete_offsets(request).await }
            };
            let answer = calls.ask(self.cluster.request_timeout(), call).await?;
            check_count(partitions.len(), answer.results.len())?;
            results.extend(answer.results.into_iter().map(|result| match result.error {
                Some(error) => Err(BrokerError::new(ANY, error).into()),
                None => Ok(()),
            }));
        }
        Ok(partitions.into_iter().zip(results).collect())
    }

    /// Commits offsets for a group without members, and makes the group.
    ///
    /// # Errors
    /// When the group cannot be reached.
    pub async fn commit_group_offsets<O: Into<OffsetCommit>>(
        &self,
        group: &str,
        offsets: impl IntoIterator<Item = (TopicPartition, O)>,
    ) -> Result<PerItem<TopicPartition, CommittedOffset>, Error> {
        let calls = self.group_calls(group)?;
        let (partitions, offsets): (Vec<_>, Vec<_>) = offsets.into_iter().unzip();
        let mut ids = HashMap::new();
        for partition in &partitions {
            if !ids.contains_key(&partition.topic) {
                // Unknown topics are refused by the coordinator, each on its own.
                let id = self.cluster.topic(&partition.topic).await.map(|facts| facts.id);
                ids.insert(partition.topic.clone(), id.unwrap_or_default());
            }
        }
        let commits = partitions.iter().zip(offsets).map(|(partition, offset)| {
            let offset: OffsetCommit = offset.into();
            offset.wire(partition, &ids[&partition.topic])
        });
        let within = self.cluster.request_timeout();
        let results = calls.commit(None, commits.collect(), within).await?;
        Ok(partitions.into_iter().zip(results).collect())
    }

    fn group_calls(&self, group: &str) -> Result<Calls, Error> {
        Ok(Calls::new(Arc::clone(&self.cluster), group_name(group)?))
    }
}
