//! Calls to the group service. Any broker takes them and passes them on to the coordinator.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidelog_proto::v1;
use tidelog_proto::v1::group_service_client::GroupServiceClient;
use tidelog_types::{GroupName, TopicPartition};
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::{ANY, CommittedOffset, partition};
use crate::Error;
use crate::cluster::{Cluster, Patience, Preferred, RESPONSE_BYTES_MAX};
use crate::error::BrokerError;

/// How long one broker may take before the next is asked: a coordinator may be electing its leader,
/// and the call waits for that.
const TRY_TIMEOUT: Duration = Duration::from_secs(3);
/// The most items of one call.
const ITEMS_MAX: usize = 10_000;

/// Calls about one group.
#[derive(Debug)]
pub(crate) struct Calls {
    cluster: Arc<Cluster>,
    preferred: Preferred,
    group: GroupName,
}

impl Calls {
    pub(crate) fn new(cluster: Arc<Cluster>, group: GroupName) -> Self {
        Self { cluster, preferred: Preferred::default(), group }
    }

    pub(crate) fn group(&self) -> &GroupName {
        &self.group
    }

    /// A heartbeat, which waits at a broker for as long as it says.
    pub(crate) async fn heartbeat(
        &self,
        request: v1::HeartbeatRequest,
        grace: Duration,
    ) -> Result<v1::HeartbeatResponse, Error> {
        let each = Duration::from_millis(request.max_wait_ms.into()) + grace;
        let patience = Patience { each, all: each * 2 };
        let call = |channel| {
            let request = request.clone();
            async move { client(channel).heartbeat(request).await }
        };
        self.cluster.ask_in_turn(&self.preferred, patience, call).await
    }

    pub(crate) async fn leave(&self, member_id: String, within: Duration) -> Result<(), Error> {
        let request = v1::LeaveGroupRequest { group_id: self.group.to_string(), member_id };
        let call = |channel| {
            let request = request.clone();
            async move { client(channel).leave_group(request).await }
        };
        self.ask(within, call).await.map(drop)
    }

    /// Commits; one result per offset.
    pub(crate) async fn commit(
        &self,
        member: Option<(String, u32)>,
        offsets: Vec<v1::OffsetCommit>,
        within: Duration,
    ) -> Result<Vec<Result<CommittedOffset, Error>>, Error> {
        use v1::commit_offsets_result::Result as Outcome;
        let (member_id, member_epoch) = member.unwrap_or_default();
        let mut results = Vec::with_capacity(offsets.len());
        let deadline = Instant::now() + within;
        for offsets in offsets.chunks(ITEMS_MAX) {
            let request = v1::CommitOffsetsRequest {
                group_id: self.group.to_string(),
                member_id: member_id.clone(),
                member_epoch,
                offsets: offsets.to_vec(),
            };
            let tries = AtomicUsize::new(0);
            let call = |channel| {
                tries.fetch_add(1, Ordering::Relaxed);
                let request = request.clone();
                async move { client(channel).commit_offsets(request).await }
            };
            let answer = self.ask(until(deadline), call).await?;
            check_count(offsets.len(), answer.results.len())?;
            // A try before this one may have taken effect, with its answer lost.
            let doubtful = tries.into_inner() > 1;
            results.extend(answer.results.into_iter().map(|result| match result.result {
                Some(Outcome::Committed(committed)) => CommittedOffset::read(committed),
                Some(Outcome::Error(mut error)) => {
                    error.maybe_written |= doubtful;
                    Err(BrokerError::new(ANY, error).into())
                }
                None => Err(Error::protocol(ANY, "no result for an offset")),
            }));
        }
        Ok(results)
    }

    /// Committed offsets, of the partitions in their order; of all that have one when there are none.
    pub(crate) async fn fetch(
        &self,
        partitions: &[TopicPartition],
        within: Duration,
    ) -> Result<Vec<(TopicPartition, Option<CommittedOffset>)>, Error> {
        let mut offsets = Vec::with_capacity(partitions.len());
        let deadline = Instant::now() + within;
        // The call without partitions is one too.
        let mut rest = partitions;
        loop {
            let (asked, behind) = rest.split_at(rest.len().min(ITEMS_MAX));
            rest = behind;
            let request = v1::FetchOffsetsRequest {
                group_id: self.group.to_string(),
                partitions: asked.iter().map(v1::TopicPartition::from).collect(),
            };
            let call = |channel| {
                let request = request.clone();
                async move { client(channel).fetch_offsets(request).await }
            };
            let answer = self.ask(until(deadline), call).await?;
            if !asked.is_empty() {
                check_count(asked.len(), answer.offsets.len())?;
            }
            for offset in answer.offsets {
                let committed = offset.committed.map(CommittedOffset::read).transpose()?;
                offsets.push((partition(&offset.topic, offset.partition)?, committed));
            }
            if rest.is_empty() {
                return Ok(offsets);
            }
        }
    }

    /// Any other call, which may be carried out more than once.
    pub(crate) async fn ask<T, F>(
        &self,
        within: Duration,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let patience = Patience { each: TRY_TIMEOUT, all: within };
        self.cluster.ask_in_turn(&self.preferred, patience, call).await
    }
}

fn until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

pub(crate) fn client(channel: Channel) -> GroupServiceClient<Channel> {
    GroupServiceClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX)
}

pub(crate) fn check_count(asked: usize, answered: usize) -> Result<(), Error> {
    if asked == answered {
        return Ok(());
    }
    Err(Error::protocol(ANY, format!("{answered} results for {asked} items")))
}
