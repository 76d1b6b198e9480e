//! What only the answering broker knows, laid over the rows of the view: who is alive, who leads now,
//! and the address on the listener that the call came in by.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_proto::v1::{Broker, BrokerSoftware, TopicDescription};
use tidelog_state::metadata::Machine;
use tidelog_types::{BrokerId, GroupId, PartitionId, TopicId};

use super::Api;
use crate::cluster::Cluster;
use crate::config::HostPort;

/// Completes brokers for the caller.
pub(super) fn complete_brokers(api: &Api, live: &BTreeSet<BrokerId>, brokers: &mut [Broker]) {
    for broker in brokers {
        broker.alive = live.contains(&BrokerId(broker.id));
        let listener = api.listener.as_str();
        let address = broker.addresses.iter().find(|address| address.listener == listener);
        broker.address = address
            .map(|at| HostPort { host: at.host.clone(), port: at.port as u16 }.to_string())
            .unwrap_or_default();
    }
}

/// Counts the partitions that each broker has a replica of, or may have to keep one of.
pub(super) fn count_replicas(machine: &Machine, brokers: &mut [Broker]) {
    let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
    for (_, partition) in machine.live_partitions() {
        for broker in partition.brokers() {
            *counts.entry(broker.0).or_default() += 1;
        }
    }
    for broker in brokers {
        broker.replicas = counts.get(&broker.id).copied().unwrap_or_default();
    }
}

/// Tells what each broker runs.
pub(super) fn tell_software(machine: &Machine, brokers: &mut [Broker]) {
    for broker in brokers {
        let known = machine.broker(BrokerId(broker.id));
        let software = known.and_then(|known| known.software.as_ref());
        broker.software = software.map(|software| BrokerSoftware {
            version: software.version().to_owned(),
            commit: software.commit().to_owned(),
            feature_level_min: software.levels.min.0,
            feature_level_max: software.levels.max.0,
        });
    }
}

/// Completes a topic for the caller.
pub(super) fn complete_topic(
    api: &Api,
    cluster: &Cluster,
    live: &BTreeSet<BrokerId>,
    topic: &mut TopicDescription,
) {
    let id = topic.id.parse().unwrap_or(TopicId(0));
    for partition in &mut topic.partitions {
        let group = GroupId::new(id, PartitionId(partition.partition));
        // A replica here knows better than the view; the view knows of the others.
        let known = cluster.hint(group, api.listener);
        let epoch = |hint: &tidelog_proto::v1::LeaderHint| hint.leader_epoch;
        let shown = partition.leader.take().map(|mut hint| {
            hint.address = cluster.address(hint.broker(), api.listener).unwrap_or_default();
            hint
        });
        partition.leader = known.into_iter().chain(shown).max_by_key(epoch);
        let replicas = partition.replicas.iter().copied();
        partition.alive_replicas = replicas.filter(|id| live.contains(&BrokerId(*id))).collect();
    }
}
