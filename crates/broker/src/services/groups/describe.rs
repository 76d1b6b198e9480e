//! Listing, describing and deleting groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tidelog_proto::v1::group_service_client::GroupServiceClient;
use tidelog_proto::v1::{
    DeleteGroupRequest, DeleteGroupResponse, DescribeGroupRequest, DescribeGroupResponse, Error,
    GroupHolding, GroupListing, GroupMember, GroupState, ListGroupsRequest, ListGroupsResponse,
};
use tidelog_state::group::{Command, Group, Member, State};
use tidelog_types::{BrokerId, ErrorCode, GroupId, GroupName, MemberId, PartitionId, TopicId};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::super::Api;
use super::offsets::all;
use super::route::Call;
use super::{command_error, no_group};
use crate::access::{Operation, Resource};
use crate::cluster::Cluster;
use crate::environment::ListenerName;
use crate::groups::{Led, coordinators};
use crate::limits;

/// How long another broker may take to list what it leads.
const LIST_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause before a coordinator without a leader is looked for again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// All groups of the cluster; for another broker, those of the coordinators that are led here.
pub(super) async fn list(api: &Api) -> Result<ListGroupsResponse, Error> {
    api.allow(Operation::Describe, Resource::Cluster)?;
    let cluster = api.core.cluster()?;
    if !api.may_forward() {
        let led = cluster.led_coordinators();
        return Ok(ListGroupsResponse { groups: led.iter().flat_map(listings).collect() });
    }
    let deadline = Instant::now() + limits::COORDINATOR_TIMEOUT;
    if coordinators(&cluster.machine()) == 0 {
        cluster.catch_up(deadline).await?;
    }
    loop {
        match list_once(&cluster).await {
            Ok(groups) => return Ok(ListGroupsResponse { groups: groups.into_values().collect() }),
            Err(error) if Instant::now() + AGAIN_AFTER >= deadline => return Err(error),
            Err(_) => sleep(AGAIN_AFTER).await,
        }
    }
}

async fn list_once(cluster: &Arc<Cluster>) -> Result<BTreeMap<String, GroupListing>, Error> {
    let mut groups = BTreeMap::new();
    let mut elsewhere: BTreeSet<BrokerId> = BTreeSet::new();
    for number in 0..coordinators(&cluster.machine()) as u32 {
        let id = GroupId::new(TopicId::CONSUMER_GROUPS, PartitionId(number));
        if let Some(led) = cluster.led_coordinator(id) {
            let listed = listings(&led).into_iter().map(|group| (group.group_id.clone(), group));
            groups.extend(listed);
            continue;
        }
        let leader = cluster.leader_of(id).map(|(leader, _)| leader);
        let leader = leader.filter(|leader| *leader != cluster.me);
        let unavailable = || {
            let message = format!("coordinator {number} has no leader");
            Error::new(ErrorCode::CoordinatorNotAvailable, message)
        };
        elsewhere.insert(leader.ok_or_else(unavailable)?.broker);
    }
    let lists = elsewhere.into_iter().map(|broker| list_there(cluster, broker));
    for listed in join_all(lists).await {
        groups.extend(listed?.into_iter().map(|group| (group.group_id.clone(), group)));
    }
    Ok(groups)
}

async fn list_there(cluster: &Cluster, broker: BrokerId) -> Result<Vec<GroupListing>, Error> {
    let unavailable = |reason: String| {
        let message = format!("broker {broker}, which leads coordinators: {reason}");
        Error::new(ErrorCode::CoordinatorNotAvailable, message)
    };
    let address = cluster.address(broker, ListenerName::Internal);
    let address = address.ok_or_else(|| unavailable("it has no known address".to_owned()))?;
    let channel = cluster.others.channel(&address).map_err(|err| unavailable(err.to_string()))?;
    let mut client =
        GroupServiceClient::new(channel).max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    let listed = timeout(LIST_TIMEOUT, client.list_groups(ListGroupsRequest {})).await;
    let listed = listed.map_err(|_| unavailable("no answer in time".to_owned()))?;
    let listed = listed.map_err(|status| unavailable(status.message().to_owned()))?;
    Ok(listed.into_inner().groups)
}

fn listings(led: &Led) -> Vec<GroupListing> {
    let listing = |(name, group): (GroupName, Arc<Group>)| GroupListing {
        group_id: name.to_string(),
        state: state(&group).into(),
        members: group.members().count() as u32,
    };
    led.coordinator.groups().into_iter().map(listing).collect()
}

fn state(group: &Group) -> GroupState {
    match group.state() {
        State::Empty => GroupState::Empty,
        State::Reconciling => GroupState::Reconciling,
        State::Stable => GroupState::Stable,
    }
}

impl Call for DescribeGroupRequest {
    type Answer = DescribeGroupResponse;

    const OPERATION: Operation = Operation::Describe;

    fn group_id(&self) -> &str {
        &self.group_id
    }

    async fn here(
        &self,
        _: &Api,
        led: &Led,
        group: &GroupName,
    ) -> Result<DescribeGroupResponse, Error> {
        let confirmed = led.coordinator.linearize().await;
        confirmed.map_err(|err| command_error(led, group, err))?;
        let known = led.coordinator.group(group.as_str()).ok_or_else(|| no_group(group))?;
        // The caller may have reached another broker, so the address is the clients'.
        let coordinator = led.cluster.hint(led.coordinator.id(), ListenerName::Client);
        Ok(DescribeGroupResponse {
            group_id: group.to_string(),
            state: state(&known).into(),
            epoch: known.epoch(),
            coordinator,
            members: known.members().map(|(id, found)| member(&known, id, found)).collect(),
            offsets: all(led, &known).await?,
        })
    }

    async fn there(
        self,
        mut client: GroupServiceClient<Channel>,
    ) -> Result<Response<DescribeGroupResponse>, Status> {
        client.describe_group(self).await
    }
}

fn member(group: &Group, id: &MemberId, member: &Member) -> GroupMember {
    let holding = |((topic, partition), holding): (&(TopicId, PartitionId), &_)| {
        let tidelog_state::group::Holding { granted, revoking } = *holding;
        let topic = group.topic_name(*topic)?.to_string();
        Some(GroupHolding { topic, partition: partition.0, granted_epoch: granted, revoking })
    };
    let mut holdings: Vec<_> = member.holdings.iter().filter_map(holding).collect();
    holdings.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    GroupMember {
        member_id: id.to_string(),
        instance_id: member.instance.as_ref().map(ToString::to_string).unwrap_or_default(),
        client_id: member.client_id.clone(),
        epoch: member.epoch,
        topics: member.subscription.topics.iter().map(ToString::to_string).collect(),
        topic_pattern: member.subscription.pattern.clone().unwrap_or_default(),
        holdings,
        session_timeout_ms: member.session_timeout.as_millis() as u32,
    }
}

impl Call for DeleteGroupRequest {
    type Answer = DeleteGroupResponse;

    const OPERATION: Operation = Operation::Delete;

    fn group_id(&self) -> &str {
        &self.group_id
    }

    async fn here(
        &self,
        _: &Api,
        led: &Led,
        group: &GroupName,
    ) -> Result<DeleteGroupResponse, Error> {
        let deleted = led.coordinator.propose(&Command::Delete { group: group.clone() }).await;
        deleted.map(|_| DeleteGroupResponse {}).map_err(|err| command_error(led, group, err))
    }

    async fn there(
        self,
        mut client: GroupServiceClient<Channel>,
    ) -> Result<Response<DeleteGroupResponse>, Status> {
        client.delete_group(self).await
    }
}
