//! Reading and forgetting committed offsets.

use std::collections::BTreeSet;
use std::time::Duration;

use tidelog_proto::v1::group_service_client::GroupServiceClient;
use tidelog_proto::v1::{
    DeleteOffsetsRequest, DeleteOffsetsResponse, DeleteOffsetsResult, Error, FetchOffsetsRequest,
    FetchOffsetsResponse, GroupOffset, TopicPartition,
};
use tidelog_raft::CommandError;
use tidelog_state::group::{Command, Group};
use tidelog_state::metadata::TopicState;
use tidelog_types::{ErrorCode, GroupId, GroupName, PartitionId, TopicId};
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::super::{Api, at_most};
use super::heartbeat::spell_out;
use super::route::Call;
use super::{command_error, no_group};
use crate::access::Operation;
use crate::groups::Led;
use crate::limits;

/// How long the metadata may take to catch up.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);

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
            let offsets = match known {
                Some(known) => all(led, &known).await?,
                None => Vec::new(),
            };
            return Ok(FetchOffsetsResponse { offsets });
        }
        let places = places(led, &self.partitions).await?;
        let offset = |(asked, at): (&TopicPartition, Result<GroupId, Error>)| {
            let committed = known.as_ref().zip(at.ok());
            let committed =
                committed.and_then(|(known, at)| known.committed(at.topic, at.partition));
            group_offset(asked, committed.map(spell_out))
        };
        let offsets = self.partitions.iter().zip(places).map(offset).collect();
        Ok(FetchOffsetsResponse { offsets })
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

/// Where the partitions are. What is not known here is asked of the leader of the metadata group, once:
/// a topic that this broker has not heard of yet must not look as if it did not exist.
async fn places(led: &Led, asked: &[TopicPartition]) -> Result<Vec<Result<GroupId, Error>>, Error> {
    let find = |asked: &TopicPartition| led.cluster.find(&asked.topic, asked.partition, "");
    let found: Vec<_> = asked.iter().map(find).collect();
    if found.iter().all(Result::is_ok) {
        return Ok(found);
    }
    led.cluster.catch_up(Instant::now() + CATCH_UP_TIMEOUT).await?;
    Ok(asked.iter().map(find).collect())
}

/// All offsets of a group, as far as their topics exist: the offsets of a topic that was deleted and
/// created anew are not those of the new one.
pub(super) async fn all(led: &Led, group: &Group) -> Result<Vec<GroupOffset>, Error> {
    let machine = led.cluster.machine();
    if group.offsets().any(|((topic, _), _)| machine.topic(*topic).is_none()) {
        led.cluster.catch_up(Instant::now() + CATCH_UP_TIMEOUT).await?;
    }
    let machine = led.cluster.machine();
    let offset = |(at, committed): (&(TopicId, PartitionId), &_)| {
        let (topic, partition) = *at;
        let topic = machine.topic(topic).filter(|topic| topic.state == TopicState::Live)?;
        let (topic, PartitionId(partition)) = (topic.name.to_string(), partition);
        Some(GroupOffset { topic, partition, committed: Some(spell_out(committed)) })
    };
    let mut offsets: Vec<_> = group.offsets().filter_map(offset).collect();
    offsets.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    Ok(offsets)
}

impl Call for DeleteOffsetsRequest {
    type Answer = DeleteOffsetsResponse;

    const OPERATION: Operation = Operation::Delete;

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
        let known = led.coordinator.group(group.as_str()).ok_or_else(|| no_group(group))?;
        let mut forgotten = BTreeSet::new();
        let check = |at: Result<GroupId, Error>| {
            let at = at?;
            let name = known.topic_name(at.topic);
            if let Some(name) = name.filter(|name| known.subscribes(name)) {
                let message = format!("a member of group {group} subscribes to topic {name}");
                return Err(Error::new(ErrorCode::GroupSubscribedToTopic, message));
            }
            forgotten.insert((at.topic, at.partition));
            Ok(())
        };
        let checked: Vec<_> = places(led, &self.partitions).await?.into_iter().map(check).collect();
        // All together: one by one the last offset would take an empty group with it.
        let done = if forgotten.is_empty() { Ok(()) } else { forget(led, group, forgotten).await };
        let result = |checked: Result<(), Error>| DeleteOffsetsResult {
            error: checked.and_then(|()| done.clone()).err(),
        };
        Ok(DeleteOffsetsResponse { results: checked.into_iter().map(result).collect() })
    }

    async fn there(
        self,
        mut client: GroupServiceClient<Channel>,
    ) -> Result<Response<DeleteOffsetsResponse>, Status> {
        client.delete_offsets(self).await
    }
}

/// Forgets offsets, all or none.
async fn forget(
    led: &Led,
    group: &GroupName,
    partitions: BTreeSet<(TopicId, PartitionId)>,
) -> Result<(), Error> {
    let command = Command::DeleteOffsets { group: group.clone(), partitions };
    match led.coordinator.propose(&command).await {
        Ok(_) => Ok(()),
        Err(CommandError::Refused(refusal)) => Err(Error::new(refusal.code, refusal.message)),
        Err(err) => Err(command_error(led, group, err)),
    }
}
