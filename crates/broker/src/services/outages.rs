//! What becomes of the replicas of brokers that are gone: a part of `ClusterHealth`.
//!
//! The leader of the metadata knows, for it is the one that would have them made anew, by its own
//! configuration; other brokers ask it. While it is not reached the dead are named, and no more.

use std::collections::BTreeSet;
use std::time::Duration;

use tidelog_proto::v1::admin_service_client::AdminServiceClient;
use tidelog_proto::v1::{ClusterHealthRequest, ClusterHealthResponse, DeadBroker, RebuiltOn};
use tidelog_state::metadata::{Outlook, outlook};
use tidelog_types::BrokerId;
use tokio::time::timeout;
use tracing::debug;

use super::Api;
use crate::cluster::Cluster;
use crate::drainer::takers;
use crate::environment::ListenerName;
use crate::missed::Missed;

/// How long the leader of the metadata may take. Short: the health must be told without it as well.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

impl Api {
    /// Adds what becomes of the dead brokers that `health` names.
    pub(super) async fn with_outages(
        &self,
        cluster: &Cluster,
        mut health: ClusterHealthResponse,
    ) -> ClusterHealthResponse {
        let dead: BTreeSet<_> = health.dead_broker_ids.iter().copied().map(BrokerId).collect();
        if dead.is_empty() {
            return health;
        }
        let missed = cluster.missed.borrow().clone();
        let (told, rebuild_after_ms) = if let Some(missed) = missed {
            let after = self.core.config.replicas.rebuild_after.0;
            (outages(cluster, &dead, &missed, after), Some(after.as_millis() as u64))
        } else if self.may_forward() {
            let told = told_by_leader(cluster).await;
            told.map(|told| (told.dead_brokers, told.rebuild_after_ms)).unwrap_or_default()
        } else {
            Default::default()
        };
        let one = |id: BrokerId| {
            let told = told.iter().find(|one| one.broker_id == id.0).cloned();
            told.unwrap_or(DeadBroker { broker_id: id.0, ..DeadBroker::default() })
        };
        health.dead_brokers = dead.into_iter().map(one).collect();
        health.rebuild_after_ms = rebuild_after_ms;
        health
    }
}

/// The same, of whoever leads the metadata; nothing when that one is not reached.
async fn told_by_leader(cluster: &Cluster) -> Option<ClusterHealthResponse> {
    let leader = cluster.controller().filter(|leader| *leader != cluster.me)?;
    let address = cluster.address(leader.broker, ListenerName::Internal)?;
    let channel = cluster.others.channel(&address).ok()?;
    let mut client = AdminServiceClient::new(channel);
    let asked = client.cluster_health(ClusterHealthRequest {});
    match timeout(ANSWER_TIMEOUT, asked).await {
        Ok(Ok(told)) => Some(told.into_inner()),
        Ok(Err(status)) => {
            debug!(node = %leader, err = status.message(), "dead brokers are named without more");
            None
        }
        Err(_) => None,
    }
}

fn outages(
    cluster: &Cluster,
    dead: &BTreeSet<BrokerId>,
    missed: &Missed,
    rebuild_after: Duration,
) -> Vec<DeadBroker> {
    let (machine, live) = (cluster.machine(), cluster.live_brokers());
    let takers = takers(cluster, &machine, &live);
    let outlooks = outlook(&machine, dead, &live, &takers);
    let one = |(id, outlook): (BrokerId, Outlook)| {
        let gone = missed.for_how_long(id);
        let draining = machine.broker(id).is_some_and(|broker| broker.is_draining);
        let left = gone.filter(|_| !rebuild_after.is_zero());
        let left = left.map(|gone| rebuild_after.saturating_sub(gone));
        let left = if draining { Some(Duration::ZERO) } else { left };
        DeadBroker {
            broker_id: id.0,
            gone_ms: gone.map(|gone| gone.as_millis() as u64),
            rebuild_in_ms: left.map(|left| left.as_millis() as u64),
            draining,
            replicas: outlook.replicas,
            moving: outlook.moving,
            rebuilt_on: outlook
                .onto
                .iter()
                .map(|(id, replicas)| RebuiltOn { broker_id: id.0, replicas: *replicas })
                .collect(),
            without_place: outlook.without_place,
            without_quorum: outlook.without_quorum,
        }
    };
    outlooks.into_iter().map(one).collect()
}
