//! Administration: topics, leaders, groups, and a look into the cluster.
//!
//! Calls about several items give one result per item, in their order. The call as a whole fails only
//! when no item could be looked at.

mod brokers;
mod calls;
mod facts;
mod features;
mod group_facts;
mod groups;
mod moves;
mod recover;
mod stop;
mod topics;
mod trim;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tidelog_proto::v1::admin_service_client::AdminServiceClient;
use tidelog_types::{TopicName, TopicPartition};
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;
use tonic::{Response, Status};

pub use brokers::{PlannedLoad, PlannedMove, Rebalance};
pub use facts::{
    BrokerFacts, ClusterFacts, ConfigFacts, ConfigSource, CreatedTopic, Health, HealthStatus,
    LeaderFacts, ListedOffset, Listener, NewTopic, OffsetAt, OutageFacts, PartitionFacts,
    RaftFacts, ReplicaFacts, ScrubFacts, SoftwareFacts, TopicFacts, TopicSummary,
};
pub use features::{FeatureFacts, Finalized};

pub use group_facts::{
    GroupFacts, GroupLag, GroupPartition, GroupState, GroupSummary, HoldingFacts, MemberFacts,
    SeekTarget, Sought,
};

pub use moves::PartitionMove;
pub use recover::{RecoveredGroup, UnsafeRecovery};
pub use stop::{CanStop, StopRisk};

use crate::Error;
use crate::cluster::{Backoff, Cluster, RESPONSE_BYTES_MAX};

/// One result per item, with the item that it is for.
pub type PerItem<K, T> = Vec<(K, Result<T, Error>)>;

/// The answers to the items of one call, in their order.
type Answers<R> = BoxFuture<'static, Result<Response<Vec<R>>, Status>>;

/// The answer to a call about one thing.
type Answer<R> = BoxFuture<'static, Result<Response<R>, Status>>;

/// Changes and describes the cluster. Cheap to clone.
///
/// All calls retry for as long as the client's request timeout lets them, see
/// [`crate::ClientBuilder::request_timeout`]. All are cancel safe in that nothing of this client is
/// left in between; a change that was sent may take place all the same.
#[derive(Clone)]
pub struct Admin {
    cluster: Arc<Cluster>,
}

impl Admin {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    /// Waits until every partition of `topic` has a leader, for at most `within`.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// When the topic does not exist, or time is up: [`Error::TimedOut`].
    pub async fn wait_for_leaders(&self, topic: &TopicName, within: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + within;
        let mut backoff = Backoff::short();
        loop {
            let facts = self.describe_topic(topic).await?;
            if facts.partitions.iter().all(|partition| partition.leader.is_some()) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::TimedOut { address: "any".to_owned(), after: within });
            }
            sleep(backoff.next()).await;
        }
    }

    /// Sends each item to the leader of its partition, and again while there is another one to try.
    async fn by_leader<R, T>(
        &self,
        partitions: &[TopicPartition],
        within: Duration,
        call: impl Fn(Channel, &[usize]) -> Answers<R>,
        read: impl Fn(&str, R) -> Result<T, Error>,
    ) -> Vec<Result<T, Error>> {
        let deadline = Instant::now() + within;
        let mut backoff = Backoff::short();
        let mut results = partitions.iter().map(|_| None).collect::<Vec<_>>();
        loop {
            let left = (0..partitions.len()).filter(|at| match &results[*at] {
                None => true,
                Some(Err(error)) => Error::is_retriable(error),
                Some(Ok(_)) => false,
            });
            let left = left.collect::<Vec<_>>();
            let mut by_address = BTreeMap::<String, Vec<usize>>::new();
            for at in left {
                match self.leader_address(&partitions[at]).await {
                    Ok(address) => by_address.entry(address).or_default().push(at),
                    Err(error) => results[at] = Some(Err(error)),
                }
            }
            for (address, items) in by_address {
                let ask = |channel| call(channel, &items);
                match self.cluster.ask(&address, within, ask).await {
                    Ok(answers) => {
                        for (at, answer) in items.into_iter().zip(answers) {
                            results[at] = Some(read(&address, answer));
                        }
                    }
                    Err(error) => {
                        for at in items {
                            results[at] = Some(Err(error.clone()));
                        }
                    }
                }
            }
            let failed =
                results.iter().zip(partitions).filter_map(|(result, partition)| match result {
                    Some(Err(error)) if error.is_retriable() => Some((partition, error)),
                    _ => None,
                });
            let failed = failed.collect::<Vec<_>>();
            let pause = backoff.next();
            if failed.is_empty() || Instant::now() + pause >= deadline {
                break;
            }
            for (partition, error) in failed {
                self.look_for_leader(partition, error).await;
            }
            sleep(pause).await;
        }
        let unasked = || Err(Error::protocol("any", "no answer for the item"));
        results.into_iter().map(|result| result.unwrap_or_else(unasked)).collect()
    }

    async fn leader_address(&self, partition: &TopicPartition) -> Result<String, Error> {
        self.cluster.topic_of(partition).await?;
        let metadata = self.cluster.metadata();
        match metadata.leader(&partition.topic, partition.partition) {
            Some(leader) => Ok(leader.address.to_string()),
            None => Err(Error::Unavailable {
                address: "any".to_owned(),
                reason: format!("{partition} has no leader"),
            }),
        }
    }

    /// Follows the hint of a refusal, or else asks for the leader anew.
    async fn look_for_leader(&self, partition: &TopicPartition, error: &Error) {
        let metadata = self.cluster.metadata();
        let hint = match error {
            Error::Refused(refusal) => refusal.leader.clone(),
            _ => None,
        };
        if hint.is_some_and(|hint| metadata.learn_leader(partition, hint)) {
            return;
        }
        let leader = metadata.leader(&partition.topic, partition.partition);
        let avoid = leader.as_ref().map(|leader| &*leader.address);
        // When nobody can be asked, the next try says so.
        let _ = self.cluster.refresh(&partition.topic, avoid).await;
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

fn admin(channel: Channel) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX)
}
