//! The group service: any broker answers.

use std::pin::Pin;
use std::time::{Duration, Instant};

use tidelog_proto::v1::group_service_server::GroupService;
use tidelog_proto::v1::{self, Error, LeaderHint};
use tidelog_types::{BrokerId, ErrorCode};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::Broker;
use super::world::State;

fn refuse<T>(code: ErrorCode) -> Result<T, Error> {
    Err(Error::new(code, "by the group"))
}

fn beat(state: &mut State, request: &v1::HeartbeatRequest) -> Result<(), Error> {
    let (name, id) = (&request.group_id, &request.member_id);
    let group = state.group(name);
    group.beats += 1;
    group.check(id)?;
    if let Some(code) = group.refuse_join.take() {
        return refuse(code);
    }
    match (group.members.get_mut(id), &request.subscription) {
        (None, None) => return refuse(ErrorCode::UnknownMemberId),
        (None, Some(subscription)) => group.join(id, subscription.clone()),
        (Some(member), _) => {
            member.silent_max = member.silent_max.max(member.heard.elapsed());
            member.heard = Instant::now();
            member.known = request.revision;
        }
    }
    if let Some(holdings) = &request.holdings {
        group.acknowledge(id, &holdings.partitions);
    }
    state.settle(name);
    Ok(())
}

fn answer(state: &State, request: &v1::HeartbeatRequest) -> Result<v1::HeartbeatResponse, Error> {
    let group = &state.groups[&request.group_id];
    group.check(&request.member_id)?;
    if !group.members.contains_key(&request.member_id) {
        return refuse(ErrorCode::UnknownMemberId);
    }
    let topic_id = |topic: &str| state.topics[topic].id.clone();
    Ok(group.answer(&request.member_id, topic_id))
}

fn end(state: &mut State, topic: &str, partition: u32) -> Option<u64> {
    Some(state.partition(topic, partition as usize)?.next_offset)
}

#[tonic::async_trait]
impl GroupService for Broker {
    type SubscribeStream =
        Pin<Box<dyn Stream<Item = Result<v1::SubscribeResponse, Status>> + Send>>;

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        self.world.thaw(self.id).await;
        self.world.change(|state| beat(state, &request))?;
        let news = |state: &State| match answer(state, &request) {
            Ok(answer) => {
                let outdated = &state.groups[&request.group_id].outdated;
                answer.revision != request.revision || !outdated.is_empty()
            }
            Err(_) => true,
        };
        let wait = Duration::from_millis(request.max_wait_ms.into());
        // Time is up when it fails, and the answer is as it was.
        let _ = tokio::time::timeout(wait, self.world.wait(news)).await;
        let outdated = |state: &mut State| state.group(&request.group_id).outdated.pop_front();
        if let Some(outdated) = self.world.change(outdated) {
            return Ok(Response::new(outdated));
        }
        Ok(Response::new(answer(&self.world.state(), &request)?))
    }

    async fn leave_group(
        &self,
        request: Request<v1::LeaveGroupRequest>,
    ) -> Result<Response<v1::LeaveGroupResponse>, Status> {
        let request = request.into_inner();
        self.world.thaw(self.id).await;
        self.world.change(|state| state.expire(&request.group_id, &request.member_id));
        Ok(Response::new(v1::LeaveGroupResponse {}))
    }

    async fn commit_offsets(
        &self,
        request: Request<v1::CommitOffsetsRequest>,
    ) -> Result<Response<v1::CommitOffsetsResponse>, Status> {
        use v1::commit_offsets_result::Result as Outcome;
        let request = request.into_inner();
        self.world.thaw(self.id).await;
        let results = self.world.change(|state| {
            let commits = request.offsets.iter().map(|commit| {
                let Some(end) = end(state, &commit.topic, commit.partition) else {
                    let error = Error::new(ErrorCode::UnknownTopicOrPartition, "no such topic");
                    return Outcome::Error(error);
                };
                let group = state.group(&request.group_id);
                let committed = group.commit(&request, commit.clone(), end);
                committed.map_or_else(Outcome::Error, Outcome::Committed)
            });
            commits.map(|result| v1::CommitOffsetsResult { result: Some(result) }).collect()
        });
        let lost = self.world.change(|state| {
            let group = state.group(&request.group_id);
            let lost = group.lost_answers.pop_front();
            group.refusals.extend(lost);
            lost.is_some()
        });
        if lost {
            return Err(Status::unavailable("connection reset"));
        }
        Ok(Response::new(v1::CommitOffsetsResponse { results }))
    }

    async fn fetch_offsets(
        &self,
        request: Request<v1::FetchOffsetsRequest>,
    ) -> Result<Response<v1::FetchOffsetsResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.world.state();
        let group = state.group(&request.group_id);
        let mut places =
            request.partitions.into_iter().map(|p| (p.topic, p.partition)).collect::<Vec<_>>();
        if places.is_empty() {
            places = group.offsets.keys().cloned().collect();
        }
        let offsets = places.into_iter().map(|place| v1::GroupOffset {
            committed: group.offsets.get(&place).cloned(),
            topic: place.0,
            partition: place.1,
        });
        Ok(Response::new(v1::FetchOffsetsResponse { offsets: offsets.collect() }))
    }

    async fn list_groups(
        &self,
        _: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        let state = self.world.state();
        let groups = state.groups.iter().map(|(id, group)| v1::GroupListing {
            group_id: id.clone(),
            state: state_of(group.members.is_empty()).into(),
            members: group.members.len() as u32,
        });
        Ok(Response::new(v1::ListGroupsResponse { groups: groups.collect() }))
    }

    async fn describe_group(
        &self,
        request: Request<v1::DescribeGroupRequest>,
    ) -> Result<Response<v1::DescribeGroupResponse>, Status> {
        let id = request.into_inner().group_id;
        let state = self.world.state();
        let Some(group) = state.groups.get(&id) else {
            return Err(Error::new(ErrorCode::GroupIdNotFound, "no such group").into());
        };
        let members = group.members.iter().map(|(member_id, member)| {
            let held = group.holders.iter().filter(|(_, holder)| holder.member == *member_id);
            let holdings = held.map(|(place, holder)| v1::GroupHolding {
                topic: place.0.clone(),
                partition: place.1,
                granted_epoch: holder.granted,
                revoking: holder.revoking,
            });
            v1::GroupMember {
                member_id: member_id.clone(),
                client_id: member.subscription.client_id.clone(),
                instance_id: member.subscription.instance_id.clone(),
                epoch: member.epoch,
                topics: member.subscription.topics.clone(),
                holdings: holdings.collect(),
                session_timeout_ms: member.subscription.session_timeout_ms,
                ..v1::GroupMember::default()
            }
        });
        let offsets = group.offsets.iter().map(|(place, committed)| v1::GroupOffset {
            topic: place.0.clone(),
            partition: place.1,
            committed: Some(committed.clone()),
        });
        let address = state.addresses.get(&self.id).cloned();
        Ok(Response::new(v1::DescribeGroupResponse {
            state: state_of(group.members.is_empty()).into(),
            epoch: group.epoch,
            coordinator: Some(LeaderHint::new(BrokerId(self.id), address, 1)),
            members: members.collect(),
            offsets: offsets.collect(),
            group_id: id,
        }))
    }

    async fn seek_group(
        &self,
        request: Request<v1::SeekGroupRequest>,
    ) -> Result<Response<v1::SeekGroupResponse>, Status> {
        use v1::seek_group_result::Result as Outcome;
        let request = request.into_inner();
        let results = self.world.change(|state| {
            let targets = request.targets.into_iter().map(|target| {
                let end = end(state, &target.topic, target.partition);
                let result = if end.is_none_or(|end| target.offset as u64 > end) {
                    Outcome::Error(Error::new(ErrorCode::OffsetOutOfRange, "beyond the end"))
                } else {
                    let place = (target.topic, target.partition);
                    Outcome::Before(state.group(&request.group_id).seek(&place, target.offset))
                };
                v1::SeekGroupResult { result: Some(result) }
            });
            targets.collect()
        });
        Ok(Response::new(v1::SeekGroupResponse { results }))
    }

    async fn delete_group(
        &self,
        request: Request<v1::DeleteGroupRequest>,
    ) -> Result<Response<v1::DeleteGroupResponse>, Status> {
        let id = request.into_inner().group_id;
        self.world.change(|state| match state.groups.get(&id) {
            None => refuse(ErrorCode::GroupIdNotFound),
            Some(group) if !group.members.is_empty() => refuse(ErrorCode::NonEmptyGroup),
            Some(_) => {
                state.groups.remove(&id);
                Ok(())
            }
        })?;
        Ok(Response::new(v1::DeleteGroupResponse {}))
    }

    async fn delete_offsets(
        &self,
        request: Request<v1::DeleteOffsetsRequest>,
    ) -> Result<Response<v1::DeleteOffsetsResponse>, Status> {
        let request = request.into_inner();
        let results = self.world.change(|state| {
            let group = state.group(&request.group_id);
            let partitions = request.partitions.into_iter().map(|p| {
                let held = group.holders.contains_key(&(p.topic.clone(), p.partition));
                let code = ErrorCode::GroupSubscribedToTopic;
                let error = held.then(|| Error::new(code, "it is subscribed to"));
                if error.is_none() {
                    group.offsets.remove(&(p.topic, p.partition));
                }
                v1::DeleteOffsetsResult { error }
            });
            partitions.collect()
        });
        Ok(Response::new(v1::DeleteOffsetsResponse { results }))
    }

    async fn subscribe(
        &self,
        _: Request<Streaming<v1::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(Status::unimplemented("not for this client"))
    }
}

fn state_of(empty: bool) -> v1::GroupState {
    if empty { v1::GroupState::Empty } else { v1::GroupState::Stable }
}
