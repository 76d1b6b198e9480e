//! Brokers that are to go, and replicas spread over those that stay.

use futures_util::FutureExt;
use tidelog_proto::v1;
use tidelog_types::{BrokerId, PartitionId, TopicPartition};

use super::Admin;
use super::facts::topic_name;
use crate::Error;

/// A plan of which replicas should rather be elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rebalance {
    /// The partitions that move, or are to be led by another of their brokers; 1,000 at most.
    pub moves: Vec<PlannedMove>,
    /// What the brokers carry that may be given replicas, by id.
    pub loads: Vec<PlannedLoad>,
}

/// A partition of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedMove {
    /// The partition; the cluster's own are among them.
    pub partition: TopicPartition,
    /// Its brokers as they were; the first should lead.
    pub before: Vec<BrokerId>,
    /// Its brokers as they are to be.
    pub replicas: Vec<BrokerId>,
    /// Bytes of its log, as far as a broker told.
    pub log_bytes: u64,
}

/// What a broker carries, before a plan and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedLoad {
    /// The broker.
    pub broker: BrokerId,
    /// Replicas, before and after.
    pub replicas: (u64, u64),
    /// Bytes of their logs, before and after.
    pub log_bytes: (u64, u64),
    /// Partitions that it should lead, before and after.
    pub leaders: (u64, u64),
}

impl Admin {
    /// Has all replicas of a broker moved to others, and lets it take no new ones. The cluster goes on by
    /// itself, whatever becomes of the caller: [`BrokerFacts::replicas`] shows how far it is. Gives the
    /// number of replicas to move.
    ///
    /// [`BrokerFacts::replicas`]: super::BrokerFacts::replicas
    ///
    /// # Errors
    /// When there is no such broker, a partition has more replicas than there are other brokers, or no
    /// broker could take the call.
    pub async fn drain_broker(&self, broker: BrokerId) -> Result<u32, Error> {
        self.drain(broker, false).await
    }

    /// Drains a broker no more: what it has it keeps, and it may be given replicas again. Partitions on
    /// their way go on. Gives the number of replicas that it has.
    ///
    /// # Errors
    /// When there is no such broker, or none could take the call.
    pub async fn cancel_drain(&self, broker: BrokerId) -> Result<u32, Error> {
        self.drain(broker, true).await
    }

    async fn drain(&self, broker: BrokerId, cancel: bool) -> Result<u32, Error> {
        let answer = self.change(|mut client, timeout_ms| {
            let request = v1::DrainBrokerRequest { broker_id: broker.0, cancel, timeout_ms };
            async move { client.drain_broker(request).await }.boxed()
        });
        Ok(answer.await?.replicas)
    }

    /// Takes a drained broker out of the cluster, for good. Its process ends by itself; a broker that
    /// comes under its id later is another one, and has to come with an empty directory.
    ///
    /// # Errors
    /// When there is no such broker, it is not drained, or no broker could take the call.
    pub async fn remove_broker(&self, broker: BrokerId) -> Result<(), Error> {
        let answer = self.change(|mut client, timeout_ms| {
            let request = v1::RemoveBrokerRequest { broker_id: broker.0, timeout_ms };
            async move { client.remove_broker(request).await }.boxed()
        });
        answer.await.map(|_| ())
    }

    /// Spreads replicas over the brokers that are alive and not being drained: evenly by number, as far
    /// as racks allow, then by bytes, and who should lead. Gives what moves; the cluster brings it about
    /// as by [`Admin::move_partitions`].
    ///
    /// # Errors
    /// When no broker could take the call; then nothing moves.
    pub async fn rebalance(&self) -> Result<Rebalance, Error> {
        self.rebalanced(false).await
    }

    /// As [`Admin::rebalance`], and moves nothing.
    ///
    /// # Errors
    /// When no broker could take the call.
    pub async fn plan_rebalance(&self) -> Result<Rebalance, Error> {
        self.rebalanced(true).await
    }

    async fn rebalanced(&self, validate_only: bool) -> Result<Rebalance, Error> {
        let answer = self.change(|mut client, timeout_ms| {
            let request = v1::RebalancePartitionsRequest { validate_only, timeout_ms };
            async move { client.rebalance_partitions(request).await }.boxed()
        });
        let answer = answer.await?;
        let moves = answer.moves.into_iter().map(planned_move);
        let loads = answer.loads.into_iter().map(|load| PlannedLoad {
            broker: BrokerId(load.broker_id),
            replicas: (load.replicas_before, load.replicas),
            log_bytes: (load.log_bytes_before, load.log_bytes),
            leaders: (load.leaders_before, load.leaders),
        });
        Ok(Rebalance { moves: moves.collect::<Result<_, _>>()?, loads: loads.collect() })
    }
}

fn planned_move(planned: v1::PlannedMove) -> Result<PlannedMove, Error> {
    let ids = |ids: Vec<u32>| ids.into_iter().map(BrokerId).collect();
    let topic = topic_name("any", &planned.topic)?;
    Ok(PlannedMove {
        partition: TopicPartition { topic, partition: PartitionId(planned.partition) },
        before: ids(planned.before),
        replicas: ids(planned.replicas),
        log_bytes: planned.log_bytes,
    })
}
