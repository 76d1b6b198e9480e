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

/// How long the coordinator may wait before it answers a heartbeat.
const WAIT_MS: u32 = 3_000;

/// A partition, by name.
pub(super) type Name = (String, u32);

/// What holds after a commit, or `None` where it was refused.
pub(super) type Kept = Vec<(Name, Option<i64>)>;

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
}

impl Membership {
    pub(super) fn new(api: Api, group: String, member: String, subscription: Subscription) -> Self {
        Self { api, group, member, subscription, revision: 0, epoch: 0 }
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
            max_wait_ms: WAIT_MS,
        };
        let api = self.api.clone();
        Box::pin(async move { to_coordinator(&api, request).await })
    }

    /// Takes over what a heartbeat has told.
    pub(super) fn heard(&mut self, response: &HeartbeatResponse) {
        self.revision = response.revision;
        self.epoch = response.member_epoch;
    }

    /// Commits, under the epoch as it is now. Gives what holds for each, or `None` where the commit was
    /// refused: the next heartbeat tells why.
    pub(super) fn commit(&self, offsets: Vec<(Name, i64)>) -> Commit {
        let commit = |((topic, partition), offset): &(Name, i64)| OffsetCommit {
            topic: topic.clone(),
            partition: *partition,
            offset: *offset,
            ..OffsetCommit::default()
        };
        let request = CommitOffsetsRequest {
            group_id: self.group.clone(),
            member_id: self.member.clone(),
            member_epoch: self.epoch,
            offsets: offsets.iter().map(commit).collect(),
        };
        let api = self.api.clone();
        Box::pin(async move {
            let answer = to_coordinator(&api, request).await?;
            let kept = answer.results.into_iter().map(|result| match result.result {
                Some(Committed::Committed(committed)) => Some(committed.offset),
                Some(Committed::Error(_)) | None => None,
            });
            Ok(offsets.into_iter().map(|(name, _)| name).zip(kept).collect())
        })
    }

    /// Leaves the group.
    pub(super) async fn leave(&self) -> Result<(), Error> {
        let request =
            LeaveGroupRequest { group_id: self.group.clone(), member_id: self.member.clone() };
        to_coordinator(&self.api, request).await.map(|_| ())
    }
}
