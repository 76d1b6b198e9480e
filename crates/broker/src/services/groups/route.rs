//! The way of a call to the leader of its group's coordinator: carried out here, or passed on.
//!
//! Every call may be carried out twice, so it is tried until it is answered or its time is over: an
//! election on the way costs a pause and no error. A try whose answer was lost may have taken effect
//! all the same, and whoever is refused after it is told so.

use std::future::Future;
use std::time::Duration;

use tidelog_proto::v1::Error;
use tidelog_proto::v1::group_service_client::GroupServiceClient;
use tidelog_types::{ErrorCode, GroupName};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::super::Api;
use super::{group_name, no_group};
use crate::access::{Operation, Resource};
use crate::cluster::Cluster;
use crate::environment::ListenerName;
use crate::groups::{Led, make_coordinators, not_coordinator};
use crate::limits;

/// Pause before the leader is looked for again.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// How long another broker may take to answer, on top of what the call may wait: one that is frozen
/// must not use up the whole time.
const TRY_TIMEOUT: Duration = Duration::from_secs(3);

/// A call that a group's coordinator answers.
pub(super) trait Call: Clone + Send + Sync + 'static {
    /// What it is answered.
    type Answer: Send;

    /// What is done to the group.
    const OPERATION: Operation;

    /// What it is answered while there are no coordinators: that there is no such group, as a rule.
    /// `None` makes them.
    fn without_coordinators(&self) -> Option<Result<Self::Answer, Error>> {
        Some(group_name(self.group_id()).and_then(|group| Err(no_group(&group))))
    }

    /// The group's id.
    fn group_id(&self) -> &str;

    /// How long the coordinator may wait before it answers.
    fn wait(&self) -> Duration {
        Duration::ZERO
    }

    /// Done before the call is passed on, once.
    fn prepare(&mut self, _api: &Api) -> Result<(), Error> {
        Ok(())
    }

    /// Marks what an answer refuses as possibly done: by an earlier try, whose answer was lost.
    fn cast_doubt(_answer: &mut Self::Answer) {}

    /// Carries it out on the coordinator's leader.
    fn here(
        &self,
        api: &Api,
        led: &Led,
        group: &GroupName,
    ) -> impl Future<Output = Result<Self::Answer, Error>> + Send;

    /// Passes it on.
    fn there(
        self,
        client: GroupServiceClient<Channel>,
    ) -> impl Future<Output = Result<Response<Self::Answer>, Status>> + Send;
}

/// Has a call answered, wherever its coordinator is led.
pub(super) async fn to_coordinator<C: Call>(api: &Api, mut call: C) -> Result<C::Answer, Error> {
    let group = group_name(call.group_id())?;
    api.allow(C::OPERATION, Resource::Group(group.as_str()))?;
    call.prepare(api)?;
    let cluster = api.core.cluster()?;
    let deadline = Instant::now() + limits::COORDINATOR_TIMEOUT;
    let mut doubtful = false;
    loop {
        let error = match attempt(api, &cluster, &call, &group, deadline).await {
            Ok(mut answer) => {
                if doubtful {
                    C::cast_doubt(&mut answer);
                }
                return Ok(answer);
            }
            Err(error) => error,
        };
        doubtful |= error.maybe_written;
        if goes_on(api, &error, deadline) {
            sleep(AGAIN_AFTER).await;
            continue;
        }
        let doubtful = doubtful && C::OPERATION != Operation::Describe;
        if is_elsewhere(&error) && api.may_forward() {
            let message = format!("the coordinator of group {group} has no leader");
            let unavailable = Error::new(ErrorCode::CoordinatorNotAvailable, message);
            let unavailable = unavailable.with_retry_after(limits::RETRY_AFTER);
            return Err(unavailable.with_maybe_written(doubtful));
        }
        return Err(error.with_maybe_written(doubtful));
    }
}

/// What a status says that is none of ours: mostly that a connection broke. An answer that is too large
/// would be too large once more.
fn broken(status: &Status, lost: impl Fn() -> Error) -> Error {
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => {
            Error::new(ErrorCode::MessageTooLarge, status.message())
        }
        _ => lost(),
    }
}

/// Whether nothing was answered by a leader.
fn is_elsewhere(error: &Error) -> bool {
    let code = error.error_code();
    matches!(code, Ok(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable))
}

fn goes_on(api: &Api, error: &Error, deadline: Instant) -> bool {
    let stopping = *api.core.stopping.borrow();
    is_elsewhere(error) && api.may_forward() && !stopping && Instant::now() + AGAIN_AFTER < deadline
}

async fn attempt<C: Call>(
    api: &Api,
    cluster: &std::sync::Arc<Cluster>,
    call: &C,
    group: &GroupName,
    deadline: Instant,
) -> Result<C::Answer, Error> {
    let coordinator = match cluster.coordinator_of(group) {
        Some(coordinator) => coordinator,
        None => {
            if let Some(answer) = call.without_coordinators() {
                // Another broker may have made them just now.
                cluster.catch_up(deadline).await?;
                if cluster.coordinator_of(group).is_none() {
                    return answer;
                }
            }
            make_coordinators(&api.core, cluster, deadline).await?;
            cluster.coordinator_of(group).ok_or_else(|| not_coordinator(cluster, group))?
        }
    };
    let elsewhere = || not_coordinator(cluster, group);
    let lost = || elsewhere().with_maybe_written(true);
    if let Some(led) = cluster.led_coordinator(coordinator) {
        // A leader that is cut off from its quorum learns of it late, and its proposals wait until then.
        let here = timeout_at(deadline + call.wait(), call.here(api, &led, group)).await;
        return here.unwrap_or_else(|_| Err(lost()));
    }
    if !api.may_forward() {
        return Err(elsewhere());
    }
    let leader = cluster.leader_of(coordinator).map(|(leader, _)| leader);
    let leader = leader.filter(|leader| *leader != cluster.me).ok_or_else(elsewhere)?;
    let address = cluster.address(leader.broker, ListenerName::Internal).ok_or_else(elsewhere)?;
    let others = &cluster.others;
    let waits = call.wait() > Duration::ZERO;
    let channel = if waits { others.waiting_channel(&address) } else { others.channel(&address) };
    let channel = channel.map_err(|_| elsewhere())?;
    let client = GroupServiceClient::new(channel)
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
    let until = Instant::now() + call.wait() + TRY_TIMEOUT;
    match timeout_at(until, call.clone().there(client)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => {
            Err(Error::from_status(&status).unwrap_or_else(|| broken(&status, lost)))
        }
        Err(_) => Err(lost()),
    }
}
