//! The membership of a subscription: heartbeats, commits, and the farewell.

use std::collections::BTreeSet;

use futures_util::future::BoxFuture;
use tidelog_proto::v1::commit_offsets_result::Result as Committed;
use tidelog_proto::v1::{
    CommitOffsetsRequest, Error, HeartbeatRequest, HeartbeatResponse, Holdings, LeaveGroupRequest,
    OffsetCommit, Subscription, TopicPartition,
};

use super::super::super::Api;
use super::super::route::to_coordinator;

/// How long the coordinator may wait before it answers a heartbeat, at most.
const WAIT_MS_MAX: u32 = 3_000;

/// The same as a part of the session timeout: two signs of life may be lost.
const WAITS_PER_SESSION: u32 = 3;

/// A partition, by name.
pub(super) type Name = (String, u32);

/// A partition's first offset that is not done.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) name: Name,
    /// Nothing is committed for a topic of another id.
    pub(super) topic_id: String,
    /// Under which grant it was done.
    pub(super) granted: u32,
    pub(super) offset: i64,
}

/// What holds after a commit, or `None` where it was refused.
pub(super) type Kept = Vec<(Due, Option<i64>)>;

/// A commit on its way.
pub(super) type Commit = BoxFuture<'static, Result<Kept, Error>>;

/// A sign of life on its way.
pub(super) type Heartbeat = BoxFuture<'static, Result<HeartbeatResponse, Error>>;

/// Who the subscription is in its group.
#[derive(Debug)]
pub(super) struct Membership {
    api: Api,
    group: String,
    pub(super) member: String,
    subscription: Subscription,
    revision: u64,
    epoch: u32,
    /// As in force; 0 before the first response, which does not wait.
    session_timeout_ms: u32,
}

impl Membership {
    pub(super) fn new(api: Api, group: String, member: String, subscription: Subscription) -> Self {
        Self { api, group, member, subscription, revision: 0, epoch: 0, session_timeout_ms: 0 }
    }

    /// The next sign of life. With `holdings`, which is all that is held, it acknowledges what was given
    /// up.
    pub(super) fn heartbeat(&self, holdings: Option<&BTreeSet<Name>>) -> Heartbeat {
        let partition = |(topic, partition): &Name| TopicPartition {
            topic: topic.clone(),
            partition: *partition,
        };
        let listed = holdings.map(|held| held.iter().map(partition).collect());
        let request = HeartbeatRequest {
            group_id: self.group.clone(),
            member_id: self.member.clone(),
            // Only the first one joins: whoever was expired must not come back unnoticed.
            subscription: (self.revision == 0).then(|| self.subscription.clone()),
            revision: self.revision,
            holdings: listed.map(|partitions| Holdings { partitions }),
            max_wait_ms: wait_ms(self.session_timeout_ms),
        };
        let api = self.api.clone();
        Box::pin(async move { to_coordinator(&api, request).await })
    }

    /// Takes over what a heartbeat has told.
    pub(super) fn heard(&mut self, response: &HeartbeatResponse) {
        self.revision = response.revision;
        self.epoch = response.member_epoch;
        self.session_timeout_ms = response.session_timeout_ms;
    }

    /// Commits, under the epoch as it is now. Gives what holds for each, or `None` where the commit was
    /// refused: the next heartbeat tells why.
    pub(super) fn commit(&self, dues: Vec<Due>) -> Commit {
        let commit = |due: &Due| OffsetCommit {
            topic: due.name.0.clone(),
            topic_id: due.topic_id.clone(),
            partition: due.name.1,
            offset: due.offset,
            ..OffsetCommit::default()
        };
        let request = CommitOffsetsRequest {
            group_id: self.group.clone(),
            member_id: self.member.clone(),
            member_epoch: self.epoch,
            offsets: dues.iter().map(commit).collect(),
        };
        let api = self.api.clone();
        Box::pin(async move {
            let answer = to_coordinator(&api, request).await?;
            let kept = answer.results.into_iter().map(|result| match result.result {
                Some(Committed::Committed(committed)) => Some(committed.offset),
                Some(Committed::Error(_)) | None => None,
            });
            Ok(dues.into_iter().zip(kept).collect())
        })
    }

    /// Leaves the group.
    pub(super) async fn leave(&self) -> Result<(), Error> {
        let request =
            LeaveGroupRequest { group_id: self.group.clone(), member_id: self.member.clone() };
        to_coordinator(&self.api, request).await.map(|_| ())
    }
}

/// How long the coordinator may wait before it answers, where silence ends the membership so soon.
fn wait_ms(session_timeout_ms: u32) -> u32 {
    match session_timeout_ms {
        0 => WAIT_MS_MAX,
        timeout => (timeout / WAITS_PER_SESSION).min(WAIT_MS_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_waits_for_a_part_of_the_session_only() {
        assert_eq!(wait_ms(0), 3_000);
        assert_eq!(wait_ms(1_000), 333);
        assert_eq!(wait_ms(6_000), 2_000);
        assert_eq!(wait_ms(1_800_000), 3_000);
    }
}
