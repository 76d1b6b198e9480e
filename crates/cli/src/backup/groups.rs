//! How far groups are: read at an export, moved to the new offsets at an import.

use std::collections::BTreeMap;

use serde::Serialize;
use tidelog_client::admin::GroupFacts;
use tidelog_client::{Client, ErrorCode, OffsetCommit};
use tidelog_types::{Offset, PartitionId, TopicName, TopicPartition};

use super::format::{Commit, End};
use crate::Failure;

/// What a group is to have committed in the new topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Moved {
    group: String,
    partition: u32,
    /// The offset in the topic that was exported.
    from: u64,
    /// The offset of the same record in the new one.
    to: u64,
    #[serde(skip)]
    metadata: String,
}

/// What all groups have committed for `topic`, by group and partition.
pub(super) async fn committed(client: &Client, topic: &TopicName) -> Result<Vec<Commit>, Failure> {
    let admin = client.admin();
    let mut commits = Vec::new();
    for group in admin.list_groups().await? {
        let facts = match admin.describe_group(group.group.as_str()).await {
            Ok(facts) => facts,
            // Deleted meanwhile.
            Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => continue,
            Err(error) => return Err(error.into()),
        };
        let of_topic = facts.partitions.into_iter().filter(|at| at.partition.topic == *topic);
        commits.extend(of_topic.filter_map(|at| {
            let committed = at.committed?;
            Some(Commit {
                group: group.group.to_string(),
                partition: at.partition.partition.0,
                offset: committed.offset.0,
                metadata: committed.metadata,
            })
        }));
    }
    Ok(commits)
}

/// The commits at the offsets of the new topic, where each partition begins at 0.
///
/// Who was before the first record that was exported goes on with it, and who was behind the last one
/// goes on behind it.
pub(super) fn moved(commits: &[Commit], end: &End) -> BTreeMap<String, Vec<Moved>> {
    let mut by_group = BTreeMap::<String, Vec<Moved>>::new();
    for commit in commits {
        let partition = end.partitions.get(commit.partition as usize);
        let partition = partition.expect("the reader checked the number");
        let moved = Moved {
            group: commit.group.clone(),
            partition: commit.partition,
            from: commit.offset,
            to: commit.offset.clamp(partition.start, partition.end) - partition.start,
            metadata: commit.metadata.clone(),
        };
        by_group.entry(commit.group.clone()).or_default().push(moved);
    }
    by_group
}

/// Refuses groups that could not be moved, before anything is written.
///
/// # Errors
/// When a group has members, or, unless they may be replaced, has other offsets of `topic`.
pub(super) async fn check(
    client: &Client,
    topic: &TopicName,
    groups: &BTreeMap<String, Vec<Moved>>,
    overwrite: bool,
) -> Result<(), Failure> {
    for (group, moved) in groups {
        let facts = match client.admin().describe_group(group).await {
            Ok(facts) => facts,
            Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => continue,
            Err(error) => return Err(error.into()),
        };
        if !facts.members.is_empty() {
            return Err(Failure::new(format!("group {group} has members, so only they commit"))
                .next_step(
                    "nothing was written: stop them, or leave groups out with --no-groups",
                ));
        }
        if !overwrite && has_others(&facts, topic, moved) {
            return Err(Failure::new(format!("group {group} has offsets of {topic} already"))
                .next_step(
                    "nothing was written: pass --overwrite-groups to replace them, or --no-groups \
                     to keep them",
                ));
        }
    }
    Ok(())
}

/// Whether the group has committed anything for the topic that this import did not.
fn has_others(facts: &GroupFacts, topic: &TopicName, moved: &[Moved]) -> bool {
    let of_topic = facts.partitions.iter().filter(|at| at.partition.topic == *topic);
    let mut committed =
        of_topic.filter_map(|at| Some((at.partition.partition.0, at.committed.as_ref()?.offset.0)));
    committed.any(|(partition, offset)| {
        !moved.iter().any(|moved| (moved.partition, moved.to) == (partition, offset))
    })
}

/// Commits.
///
/// # Errors
/// When a group cannot be reached, or something else holds than was to be committed.
pub(super) async fn commit(
    client: &Client,
    topic: &TopicName,
    groups: &BTreeMap<String, Vec<Moved>>,
    overwrite: bool,
) -> Result<(), Failure> {
    let admin = client.admin();
    for (group, moved) in groups {
        let at = |moved: &Moved| TopicPartition {
            topic: topic.clone(),
            partition: PartitionId(moved.partition),
        };
        if overwrite {
            // A commit never goes back, so what is there must be gone first.
            match admin.delete_group_offsets(group, moved.iter().map(at)).await {
                Ok(results) => results.into_iter().try_for_each(|(_, result)| result)?,
                Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let commits = moved.iter().map(|moved| {
            let commit = OffsetCommit::new(Offset(moved.to)).metadata(&moved.metadata);
            (at(moved), commit)
        });
        let results = admin.commit_group_offsets(group, commits).await?;
        for (moved, (partition, result)) in moved.iter().zip(results) {
            let holds = result?.offset.0;
            if holds != moved.to {
                return Err(Failure::new(format!(
                    "group {group} is at {holds} of {partition}, not at {}: somebody else committed",
                    moved.to
                )));
            }
        }
    }
    Ok(())
}

impl Moved {
    /// The cells of its line.
    pub(super) fn cells(&self) -> Vec<String> {
        let Self { group, partition, from, to, .. } = self;
        vec![group.clone(), partition.to_string(), from.to_string(), to.to_string()]
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::{Crc, PartitionEnd};
    use super::*;

    #[test]
    fn a_group_goes_on_with_the_same_record_or_the_nearest_that_is_there() {
        let part = |partition, start, end| PartitionEnd { partition, start, end, crc: Crc(0) };
        let end = End { records: 63, groups: 0, partitions: vec![part(0, 37, 100), part(1, 5, 5)] };
        for (partition, from, to) in
            [(0, 37, 0), (0, 60, 23), (0, 100, 63), (0, 3, 0), (0, 101, 63), (1, 5, 0), (1, 0, 0)]
        {
            let commit = Commit {
                group: "billing".to_owned(),
                partition,
                offset: from,
                metadata: "night".to_owned(),
            };
            let moved = moved(&[commit], &end).remove("billing").unwrap().remove(0);
            assert_eq!((moved.from, moved.to, moved.metadata.as_str()), (from, to, "night"));
        }
    }
}
