//! `GroupService`: every broker takes every call and passes it on to the leader of the coordinator.

mod commit;
mod describe;
mod heartbeat;
mod offsets;
mod route;
mod subscribe;

use std::pin::Pin;

use futures_util::stream::Stream;
use tidelog_proto::v1::group_service_server::GroupService;
use tidelog_proto::v1::{
    CommitOffsetsRequest, CommitOffsetsResponse, DeleteGroupRequest, DeleteGroupResponse,
    DeleteOffsetsRequest, DeleteOffsetsResponse, DescribeGroupRequest, DescribeGroupResponse,
    Error, FetchOffsetsRequest, FetchOffsetsResponse, HeartbeatRequest, HeartbeatResponse,
    LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, SeekGroupRequest,
    SeekGroupResponse, SubscribeRequest, SubscribeResponse,
};
use tidelog_raft::CommandError;
use tidelog_types::{ErrorCode, GroupName, InvalidGroupText, MemberId};
use tonic::{Request, Response, Status, Streaming};

use super::{Api, invalid};
use crate::counters::Place;
use crate::groups::{Led, not_coordinator};
use crate::limits;

macro_rules! routed {
    ($($method:ident($request:ident) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl GroupService for Api {
            type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

            $(async fn $method(
                &self,
                request: Request<$request>,
            ) -> Result<Response<$response>, Status> {
                let _place = enter(self)?;
                Ok(Response::new(route::to_coordinator(self, request.into_inner()).await?))
            })*

            async fn list_groups(
                &self,
                _request: Request<ListGroupsRequest>,
            ) -> Result<Response<ListGroupsResponse>, Status> {
                let _place = enter(self)?;
                Ok(Response::new(describe::list(self).await?))
            }

            async fn subscribe(
                &self,
                request: Request<Streaming<SubscribeRequest>>,
            ) -> Result<Response<Self::SubscribeStream>, Status> {
                let place = enter(self)?;
                let stream = subscribe::open(self.clone(), request.into_inner(), place).await?;
                Ok(Response::new(Box::pin(stream)))
            }
        }
    };
}

routed! {
    heartbeat(HeartbeatRequest) -> HeartbeatResponse;
    leave_group(LeaveGroupRequest) -> LeaveGroupResponse;
    commit_offsets(CommitOffsetsRequest) -> CommitOffsetsResponse;
    fetch_offsets(FetchOffsetsRequest) -> FetchOffsetsResponse;
    describe_group(DescribeGroupRequest) -> DescribeGroupResponse;
    seek_group(SeekGroupRequest) -> SeekGroupResponse;
    delete_group(DeleteGroupRequest) -> DeleteGroupResponse;
    delete_offsets(DeleteOffsetsRequest) -> DeleteOffsetsResponse;
}

/// A place among the calls of this service.
fn enter(api: &Api) -> Result<Place, Error> {
    let calls = &api.core.counters.group_calls;
    calls.enter(limits::GROUP_CALLS_MAX as u64).ok_or_else(|| {
        let message = "too many calls of the group service at a time";
        Error::new(ErrorCode::ResourceExhausted, message).with_retry_after(limits::RETRY_AFTER)
    })
}

/// The group that a request names.
fn group_name(id: &str) -> Result<GroupName, Error> {
    let refused = |err: InvalidGroupText| Error::new(ErrorCode::InvalidGroupId, err.to_string());
    GroupName::new(id).map_err(refused)
}

/// The member that a request names.
fn member_id(id: &str) -> Result<MemberId, Error> {
    MemberId::new(id).map_err(|err| invalid(err.to_string()))
}

/// The wire's error for a command that had no effect, as far as is known.
fn command_error(led: &Led, group: &GroupName, err: CommandError) -> Error {
    match err {
        CommandError::Refused(refusal) => Error::new(refusal.code, refusal.message),
        // Both may be sent again, and to whoever leads next.
        CommandError::NotLeader { .. } => not_coordinator(&led.cluster, group),
        _ => not_coordinator(&led.cluster, group).with_maybe_written(true),
    }
}

fn no_group(group: &GroupName) -> Error {
    Error::new(ErrorCode::GroupIdNotFound, format!("group {group} does not exist"))
}
