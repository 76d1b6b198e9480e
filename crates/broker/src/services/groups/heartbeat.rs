//! Heartbeats: joining, acknowledging, and waiting for news; and leaving.

use std::collections::BTreeSet;
use std::time::Duration;

use tidelog_proto::v1::group_service_client::GroupServiceClient;
use tidelog_proto::v1::{
    AssignedPartition, CommittedOffset, Error, HeartbeatRequest, HeartbeatResponse,
    LeaveGroupRequest, LeaveGroupResponse, Subscription as Wanted,
};
use tidelog_raft::{Leadership, Role};
use tidelog_state::group::{Command, Committed, Group, Join, Member, Subscription};
use tidelog_types::{
    ErrorCode, GROUP_ID_BYTES_MAX, GroupName, InstanceId, MemberId, PartitionId, TopicId, TopicName,
};
use tokio::time::{Instant, sleep_until};
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::super::{Api, at_most, invalid, time};
use super::route::Call;
use super::{command_error, member_id};
use crate::access::Operation;
use crate::groups::{Led, check_pattern, not_coordinator, resolve};
use crate::limits;

/// Silence after which a membership ends, where the member names none.
const SESSION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// How long giving up may take, where the member names nothing.
const REBALANCE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// How long the metadata may take to catch up before a new leader looks at the topics.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);

/// Bounds of both.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(30 * 60);

impl Call for HeartbeatRequest {
    type Answer = HeartbeatResponse;

    const OPERATION: Operation = Operation::Read;

    fn without_coordinators(&self) -> Option<Result<HeartbeatResponse, Error>> {
        // Only who joins makes a group.
        self.subscription.is_none().then(|| Err(unknown_member(&self.group_id, &self.member_id)))
    }

    fn group_id(&self) -> &str {
        &self.group_id
    }

    fn wait(&self) -> Duration {
        Duration::from_millis(self.max_wait_ms.into())
    }

    async fn here(
        &self,
        api: &Api,
        led: &Led,
        group: &GroupName,
    ) -> Result<HeartbeatResponse, Error> {
        let member = member_id(&self.member_id)?;
        let wait =
            time(self.max_wait_ms, Duration::ZERO, limits::HEARTBEAT_WAIT_MAX, "max_wait_ms")?;
        let (coordinator, term) = (&led.coordinator, led.leadership.term);
        api.core.sessions.hear(coordinator.id(), term, group, &member);
        if let Some(wanted) = &self.subscription {
            join(api, led, group, &member, wanted).await?;
        }
        if let Some(holdings) = &self.holdings {
            let held = holdings.partitions.iter();
            let held = held.map(|p| (p.topic.as_str(), p.partition));
            acknowledge(led, group, &member, self.revision, held).await?;
        }
        news(api, led, group, &member, self.revision, wait).await
    }

    async fn there(
        self,
        mut client: GroupServiceClient<Channel>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        client.heartbeat(self).await
    }
}

/// Waits until the member has to hear of something, or for `wait`.
async fn news(
    api: &Api,
    led: &Led,
    group: &GroupName,
    member: &MemberId,
    revision: u64,
    wait: Duration,
) -> Result<HeartbeatResponse, Error> {
    let mut changes = led.coordinator.changes();
    let mut leadership = led.coordinator.leadership();
    let mut stopping = api.core.stopping.subscribe();
    let mut until = None;
    loop {
        changes.borrow_and_update();
        // The group is let go before the wait: whoever holds it while it changes holds a copy of it.
        let deadline = {
            let known = led.coordinator.group(group.as_str());
            let found =
                known.as_ref().and_then(|known| Some((known, known.member(member.as_str())?)));
            let Some((known, found)) = found else {
                return Err(no_member(group, member, known.as_deref()));
            };
            // A long wait must leave room for the next sign of life.
            let wait = wait.min(found.session_timeout / 2);
            let deadline = *until.get_or_insert_with(|| Instant::now() + wait);
            if found.revision != revision || Instant::now() >= deadline || *stopping.borrow() {
                return Ok(answer(known, found));
            }
            deadline
        };
        let lost = |now: &Leadership| now.role != Role::Leader || now.term != led.leadership.term;
        tokio::select! {
            biased;
            changed = changes.changed() => {
                changed.map_err(|_| not_coordinator(&led.cluster, group))?;
            }
            lost = leadership.wait_for(lost) => {
                // An error says that the replica is gone: that is no leader either.
                drop(lost);
                return Err(not_coordinator(&led.cluster, group));
            }
            // An error says that the broker is gone, which the next round answers.
            _ = stopping.changed() => {}
            () = sleep_until(deadline) => {}
        }
    }
}

fn answer(group: &Group, member: &Member) -> HeartbeatResponse {
    let kept = member.holdings.iter().filter(|(_, holding)| !holding.revoking);
    let assignment = kept.filter_map(|((topic, partition), holding)| {
        Some(AssignedPartition {
            topic: group.topic_name(*topic)?.to_string(),
            topic_id: topic.to_string(),
            partition: partition.0,
            granted_epoch: holding.granted,
            committed: group.committed(*topic, *partition).map(spell_out),
        })
    });
    HeartbeatResponse {
        revision: member.revision,
        member_epoch: member.epoch,
        assignment: assignment.collect(),
        session_timeout_ms: member.session_timeout.as_millis() as u32,
    }
}

/// A committed offset on the wire.
pub(super) fn spell_out(committed: &Committed) -> CommittedOffset {
    CommittedOffset {
        offset: committed.offset.to_wire(),
        leader_epoch: committed.leader_epoch.unwrap_or(-1),
        metadata: committed.metadata.clone(),
        commit_time_ms: committed.time.0,
    }
}

/// What somebody is told who is no member: whoever was replaced must not come back and replace in turn.
fn no_member(group: &GroupName, member: &MemberId, known: Option<&Group>) -> Error {
    if known.is_some_and(|known| known.successor(member.as_str()).is_some()) {
        let message = format!("another member has taken the instance of member {member} over");
        return Error::new(ErrorCode::FencedInstanceId, message);
    }
    unknown_member(group.as_str(), member.as_str())
}

fn unknown_member(group: &str, member: &str) -> Error {
    let message = format!("group {group} has no member {member}: it was expired, or never joined");
    Error::new(ErrorCode::UnknownMemberId, message)
}

/// Makes the member one of the group, as it wants to be; a member that is so already is left alone.
async fn join(
    api: &Api,
    led: &Led,
    group: &GroupName,
    member: &MemberId,
    wanted: &Wanted,
) -> Result<(), Error> {
    let join = read(member, wanted)?;
    let known = led.coordinator.group(group.as_str());
    let known = known.as_ref().and_then(|group| group.member(member.as_str()));
    let same = known.is_some_and(|known| {
        known.subscription == join.subscription
            && known.instance == join.instance
            && known.client_id == join.client_id
            && known.session_timeout == join.session_timeout
            && known.rebalance_timeout == join.rebalance_timeout
    });
    if same {
        return Ok(());
    }
    // A new leader may know less of the topics than the groups do.
    let (id, term) = (led.coordinator.id(), led.leadership.term);
    if !api.core.sessions.has_caught_up(id, term) {
        led.cluster.catch_up(Instant::now() + CATCH_UP_TIMEOUT).await?;
        api.core.sessions.catch_up(id, term);
    }
    let machine = led.cluster.machine();
    let pattern = join.subscription.pattern.as_deref();
    let topics = resolve(&machine, join.subscription.topics.iter(), pattern.into_iter());
    let command = Command::Join { group: group.clone(), join, topics };
    let joined = led.coordinator.propose(&command).await;
    joined.map(|_| ()).map_err(|err| command_error(led, group, err))
}

fn read(member: &MemberId, wanted: &Wanted) -> Result<Join, Error> {
    at_most(wanted.topics.len(), limits::SUBSCRIBED_TOPICS_MAX, "topics")?;
    if wanted.topics.is_empty() && wanted.topic_pattern.is_empty() {
        return Err(invalid("a subscription names topics or a pattern"));
    }
    let name = |name: &String| {
        let refused = |err: tidelog_types::InvalidTopicName| {
            Error::new(ErrorCode::InvalidTopic, err.to_string())
        };
        TopicName::new(name).map_err(refused)
    };
    let topics = wanted.topics.iter().map(name).collect::<Result<_, _>>()?;
    let pattern = (!wanted.topic_pattern.is_empty()).then(|| wanted.topic_pattern.clone());
    if let Some(pattern) = &pattern {
        check_pattern(pattern)?;
    }
    let instance = (!wanted.instance_id.is_empty()).then(|| InstanceId::new(&wanted.instance_id));
    let instance = instance.transpose().map_err(|err| invalid(err.to_string()))?;
    if wanted.client_id.len() > GROUP_ID_BYTES_MAX {
        return Err(invalid(format!("client id is longer than {GROUP_ID_BYTES_MAX} bytes")));
    }
    Ok(Join {
        member: member.clone(),
        instance,
        client_id: wanted.client_id.clone(),
        subscription: Subscription { topics, pattern },
        session_timeout: timeout(wanted.session_timeout_ms, SESSION_TIMEOUT_DEFAULT, "session")?,
        rebalance_timeout: timeout(
            wanted.rebalance_timeout_ms,
            REBALANCE_TIMEOUT_DEFAULT,
            "rebalance",
        )?,
    })
}

fn timeout(ms: u32, default: Duration, what: &str) -> Result<Duration, Error> {
    let timeout = if ms == 0 { default } else { Duration::from_millis(ms.into()) };
    if (TIMEOUT_MIN..=TIMEOUT_MAX).contains(&timeout) {
        return Ok(timeout);
    }
    let (least, most) = (TIMEOUT_MIN.as_millis(), TIMEOUT_MAX.as_millis());
    let message = format!("{what} timeout is {ms} ms, {least} to {most} are allowed");
    Err(Error::new(ErrorCode::InvalidSessionTimeout, message))
}

/// Frees what was asked back and is not held any more. What changes nothing is not logged.
///
/// Only a member that has acted on the newest of its assignment says something about it: one that is
/// late may have been given back meanwhile what it lists as given up.
async fn acknowledge<'a>(
    led: &Led,
    group: &GroupName,
    member: &MemberId,
    revision: u64,
    held: impl Iterator<Item = (&'a str, u32)>,
) -> Result<(), Error> {
    let Some(known) = led.coordinator.group(group.as_str()) else { return Ok(()) };
    // A member that is not there is told so by what follows.
    let Some(found) = known.member(member.as_str()) else { return Ok(()) };
    let held: BTreeSet<(&str, u32)> = held.collect();
    let holds = |(topic, partition): &(TopicId, PartitionId)| {
        let name = known.topic_name(*topic);
        name.is_some_and(|name| held.contains(&(name.as_str(), partition.0)))
    };
    let given_up = found.holdings.iter().any(|(at, holding)| holding.revoking && !holds(at));
    if !given_up || revision != found.revision {
        return Ok(());
    }
    let holdings = found.holdings.keys().filter(|at| holds(at)).copied().collect();
    let command = Command::Acknowledge { group: group.clone(), member: member.clone(), holdings };
    let done = led.coordinator.propose(&command).await;
    done.map(|_| ()).map_err(|err| command_error(led, group, err))
}

impl Call for LeaveGroupRequest {
    type Answer = LeaveGroupResponse;

    const OPERATION: Operation = Operation::Read;

    fn without_coordinators(&self) -> Option<Result<LeaveGroupResponse, Error>> {
        Some(Ok(LeaveGroupResponse {}))
    }

    fn group_id(&self) -> &str {
        &self.group_id
    }

    async fn here(
        &self,
        _: &Api,
        led: &Led,
        group: &GroupName,
    ) -> Result<LeaveGroupResponse, Error> {
        let command = Command::Leave { group: group.clone(), member: member_id(&self.member_id)? };
        let left = led.coordinator.propose(&command).await;
        left.map(|_| LeaveGroupResponse {}).map_err(|err| command_error(led, group, err))
    }

    async fn there(
        self,
        mut client: GroupServiceClient<Channel>,
    ) -> Result<Response<LeaveGroupResponse>, Status> {
        client.leave_group(self).await
    }
}
