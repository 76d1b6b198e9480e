//! Consumer groups on this broker: which coordinator a group belongs to, and what only the leader of a
//! coordinator does: it remembers when it heard of members, expires the silent, and follows the topics.

mod keeper;
mod resolve;
mod sessions;

pub(crate) use keeper::keep;
pub(crate) use resolve::{check_pattern, resolve};
pub(crate) use sessions::Sessions;

use std::sync::Arc;

use tidelog_proto::v1::Error;
use tidelog_raft::{Coordinator, Leadership, Role};
use tidelog_state::metadata::{Command, Machine};
use tidelog_types::{CONSUMER_GROUPS_TOPIC, ErrorCode, GroupId, GroupName, PartitionId, TopicId};
use tokio::time::Instant;
use tracing::info;

use crate::cluster::Cluster;
use crate::core::Core;
use crate::services::by_key;

/// A coordinator that this broker leads, and may serve.
#[derive(Clone, Debug)]
pub(crate) struct Led {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) coordinator: Coordinator,
    pub(crate) leadership: Leadership,
}

impl Cluster {
    /// The coordinator of a consumer group; `None` before there are any.
    pub(crate) fn coordinator_of(&self, group: &GroupName) -> Option<GroupId> {
        let coordinators = coordinators(&self.machine()) as u32;
        let number = (coordinators > 0).then(|| by_key(group.as_str().as_bytes(), coordinators))?;
        Some(GroupId::new(TopicId::CONSUMER_GROUPS, PartitionId(number)))
    }

    /// The coordinator, if this broker leads it.
    pub(crate) fn led_coordinator(self: &Arc<Self>, id: GroupId) -> Option<Led> {
        let replica = self.hosted.find(id)?;
        let leadership = replica.leadership()?;
        let coordinator = replica.coordinator()?.clone();
        let serves = leadership.role == Role::Leader && leadership.ready;
        serves.then(|| Led { cluster: Arc::clone(self), coordinator, leadership })
    }

    /// All coordinators that this broker leads.
    pub(crate) fn led_coordinators(self: &Arc<Self>) -> Vec<Led> {
        let numbers = 0..coordinators(&self.machine()) as u32;
        let id = |number| GroupId::new(TopicId::CONSUMER_GROUPS, PartitionId(number));
        numbers.filter_map(|number| self.led_coordinator(id(number))).collect()
    }
}

/// How many coordinators the cluster has: none before the first call that needs one.
pub(crate) fn coordinators(machine: &Machine) -> usize {
    machine.topic(TopicId::CONSUMER_GROUPS).map_or(0, |topic| topic.partitions.len())
}

/// Makes the coordinators, unless there are some.
pub(crate) async fn make_coordinators(
    core: &Core,
    cluster: &Cluster,
    deadline: Instant,
) -> Result<(), Error> {
    if coordinators(&cluster.machine()) > 0 {
        return Ok(());
    }
    cluster.catch_up(deadline).await?;
    let machine = cluster.machine();
    if coordinators(&machine) > 0 {
        return Ok(());
    }
    let live = cluster.live_brokers();
    let command = Command::CreateTopic {
        topic: TopicId::CONSUMER_GROUPS,
        name: CONSUMER_GROUPS_TOPIC.to_owned(),
        partitions: Some(core.config.groups.coordinators),
        replication_factor: None,
        configs: Vec::new(),
        rotation: 0,
        unreachable: machine
            .brokers()
            .map(|broker| broker.id)
            .filter(|id| !live.contains(id))
            .collect(),
    };
    cluster.propose(&command, deadline).await?;
    info!(coordinators = core.config.groups.coordinators, "made the coordinators of groups");
    Ok(())
}

/// The answer of a broker that does not lead a group's coordinator.
pub(crate) fn not_coordinator(cluster: &Cluster, group: &GroupName) -> Error {
    let me = cluster.me.broker;
    let message = format!("broker {me} does not lead the coordinator of group {group}");
    Error::new(ErrorCode::NotCoordinator, message)
}
