//! Reading and forgetting committed offsets.

use std::collections::BTreeSet;

use tidelog_proto::v1::group_service_client::GroupServiceClient;
use tidelog_proto::v1::{
    DeleteOffsetsRequest, DeleteOffsetsResponse, DeleteOffsetsResult, Error, FetchOffsetsRequest,
    FetchOffsetsResponse, GroupOffset, TopicPartition,
};
use tidelog_raft::CommandError;
use tidelog_state::group::{Command, Group};
use tidelog_types::{GroupId, GroupName, PartitionId, TopicId};
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::super::{Api, at_most};
use super::heartbeat::spell_out;
use super::route::Call;
use super::{command_error, no_group};
use crate::access::Operation;
use crate::groups::Led;
use crate::limits;

impl Call for FetchOffsetsRequest {
    type Answer = FetchOffsetsResponse;

    const OPERATION: Operation = Operation::Describe;

    fn without_coordinators(&self) -> Option<Result<FetchOffsetsResponse, Error>> {
        let offsets = self.partitions.iter().map(|asked| group_offset(asked, None)).collect();
        Some(Ok(FetchOffsetsResponse { offsets }))
    }

    fn group_id(&self) -> &str {
        &self.group_id
    }

    async fn here(
        &self,
        _: &Api,
        led: &Led,
        group: &GroupName,
    ) -> Result<FetchOffsetsResponse, Error> {
        at_most(self.partitions.len(), limits::GROUP_OFFSETS_MAX, "partitions")?;
        // What was committed before the call is seen by it, whoever led then.
        let confirmed = led.coordinator.linearize().await;
        confirmed.map_err(|err| command_error(led, group, err))?;
        let known = led.coordinator.group(group.as_str());
        if self.partitions.is_empty() {
            let offsets = known.map(|known| all(led, &known)).unwrap_or_default();
            return Ok(FetchOffsetsResponse { offsets });
        }
        let offset = |asked: &TopicPartition| {
            let found = led.cluster.find(&asked.topic, asked.partition, "").ok();
            let committed = known.as_ref().zip(found);
            let committed =
                committed.and_then(|(known, at)| known.committed(at.topic, at.partition));
            group_offset(asked, committed.map(spell_out))
        };
        Ok(FetchOffsetsResponse { offsets: self.partitions.iter().map(offset).collect() })
    }

    async fn there(
        self,
        mut client: GroupServiceClient<Channel>,
    ) -> Result<Response<FetchOffsetsResponse>, Status> {
        client.fetch_offsets(self).await
    }
}

fn group_offset(
    asked: &TopicPartition,
    committed: Option<tidelog_proto::v1::CommittedOffset>,
) -> GroupOffset {
    GroupOffset { topic: asked.topic.clone(), partition: asked.partition, committed }
}

/// All offsets of a group, as far as their topics exist: the offsets of a topic that was deleted and
/// created anew are not those of the new one.
pub(super) fn all(led: &Led, group: &Group) -> Vec<GroupOffset> {
    let machine = led.cluster.machine();
    let offset = |(at, committed): (&(TopicId, PartitionId), &_)| {
        let (topic, partition) = *at;
        let topic = machine.topic(topic)?;
        let exists =
            machine.topic_by_name(topic.name.as_str()).is_some_and(|now| now.id == topic.id);
        let topic = exists.then(|| topic.name.to_string())?;
        let PartitionId(partition) = partition;
        Some(GroupOffset { topic, partition, committed: Some(spell_out(committed)) })
    };
    let mut offsets: Vec<_> = group.offsets().filter_map(offset).collect();
    offsets.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    offsets
}

impl Call for DeleteOffsetsRequest {
    type Answer = DeleteOffsetsResponse;

    const OPERATION: Operation = Operation::Delete;

    fn without_coordinators(&self) -> Option<Result<DeleteOffsetsResponse, Error>> {
        Some(super::group_name(&self.group_id).and_then(|group| Err(no_group(&group))))
    }

    fn group_id(&self) -> &str {
        &self.group_id
    }

    async fn here(
        &self,
        _: &Api,
        led: &Led,
        group: &GroupName,
    ) -> Result<DeleteOffsetsResponse, Error> {
        at_most(self.partitions.len(), limits::GROUP_OFFSETS_MAX, "partitions")?;
        if led.coordinator.group(group.as_str()).is_none() {
            return Err(no_group(group));
        }
        let mut results = Vec::with_capacity(self.partitions.len());
        for asked in &self.partitions {
            let error = match led.cluster.find_fresh(&asked.topic, asked.partition, "").await {
                Ok(at) => forget(led, group, at).await.err(),
                Err(error) => Some(error),
            };
            results.push(DeleteOffsetsResult { error });
        }
        Ok(DeleteOffsetsResponse { results })
    }

    async fn there(
        self,
        mut client: GroupServiceClient<Channel>,
    ) -> Result<Response<DeleteOffsetsResponse>, Status> {
        client.delete_offsets(self).await
    }
}

/// Forgets the offset of one partition.
async fn forget(led: &Led, group: &GroupName, at: GroupId) -> Result<(), Error> {
    let partitions = BTreeSet::from([(at.topic, at.partition)]);
    let command = Command::DeleteOffsets { group: group.clone(), partitions };
    match led.coordinator.propose(&command).await {
        Ok(_) => Ok(()),
        Err(CommandError::Refused(refusal)) => Err(Error::new(refusal.code, refusal.message)),
        Err(err) => Err(command_error(led, group, err)),
    }
}
