//! The metadata machine as rows of the view.

use std::sync::Arc;

use prost::Message;
use tidelog_proto::v1;
use tidelog_state::metadata::{Broker, ConfigScope, ConfigSource, Machine, Topic};

use super::{BROKERS, CLUSTER, Put, TOPICS};

/// The key of a topic's row.
pub(super) fn topic_key(name: &str) -> Vec<u8> {
    [TOPICS, name.as_bytes()].concat()
}

fn broker_key(broker: &Broker) -> Vec<u8> {
    [BROKERS, &broker.id.0.to_be_bytes()].concat()
}

/// What turns the rows of `before` into those of `after`.
pub(super) fn changes(before: &Arc<Machine>, after: &Arc<Machine>) -> Vec<Put> {
    let mut changes = Vec::new();
    if before.cluster() != after.cluster() {
        let id = after.cluster().map(|id| id.to_string().into_bytes());
        changes.push((CLUSTER.to_vec(), id));
    }
    for broker in after.brokers().filter(|broker| before.broker(broker.id) != Some(*broker)) {
        changes.push((broker_key(broker), Some(describe_broker(broker).encode_to_vec())));
    }
    for broker in before.brokers().filter(|broker| after.broker(broker.id).is_none()) {
        changes.push((broker_key(broker), None));
    }
    // The cluster's configs show in every topic.
    let configs = |machine: &Machine| machine.describe_configs(ConfigScope::Cluster);
    let all = configs(before) != configs(after);
    let same = |topic: &&Topic| !all && before.topic_by_name(topic.name.as_str()) == Some(*topic);
    // The cluster's own topics hold nothing that a client could read.
    let public = |topic: &&Topic| !topic.id.is_internal();
    for topic in after.live_topics().filter(public).filter(|topic| !same(topic)) {
        let row = describe_topic(after, topic).encode_to_vec();
        changes.push((topic_key(topic.name.as_str()), Some(row)));
    }
    let gone = |topic: &&Topic| after.topic_by_name(topic.name.as_str()).is_none();
    changes.extend(
        before
            .live_topics()
            .filter(public)
            .filter(gone)
            .map(|topic| (topic_key(topic.name.as_str()), None)),
    );
    changes
}

fn describe_broker(broker: &Broker) -> v1::Broker {
    let address = |address: &tidelog_state::metadata::Address| v1::ListenerAddress {
        listener: address.listener.clone(),
        host: address.host.clone(),
        port: address.port.into(),
    };
    v1::Broker {
        id: broker.id.0,
        incarnation: broker.incarnation.0,
        addresses: broker.addresses.iter().map(address).collect(),
        rack: broker.rack.clone().unwrap_or_default(),
        draining: broker.is_draining,
        ..v1::Broker::default()
    }
}

/// Brokers of the target that do not vote yet; one that came back with an empty disk is among them.
fn joining(machine: &Machine, partition: &tidelog_state::metadata::Partition) -> Vec<u32> {
    let target = machine.target_nodes(partition).into_iter();
    target.filter(|node| !partition.voters.contains(node)).map(|node| node.broker.0).collect()
}

fn describe_topic(machine: &Machine, topic: &Topic) -> v1::TopicDescription {
    let configs = machine.describe_configs(ConfigScope::Topic(topic.id));
    let config = |entry: &tidelog_state::metadata::ConfigEntry| v1::ConfigEntry {
        name: entry.key.name().to_owned(),
        value: entry.value.to_string(),
        source: match entry.source {
            ConfigSource::Default => v1::ConfigSource::Default.into(),
            ConfigSource::Cluster => v1::ConfigSource::Cluster.into(),
            ConfigSource::Topic => v1::ConfigSource::Topic.into(),
        },
    };
    let partition = |(number, partition): (usize, &tidelog_state::metadata::Partition)| {
        v1::PartitionDescription {
            partition: number as u32,
            leader: partition.leader.map(|leader| {
                v1::LeaderHint::new(leader.node.broker, None, leader.term.to_leader_epoch())
            }),
            replicas: partition.replicas.iter().map(|broker| broker.0).collect(),
            alive_replicas: Vec::new(),
            leaving_replicas: partition.leaving.iter().map(|one| one.node.broker.0).collect(),
            joining_replicas: joining(machine, partition),
        }
    };
    v1::TopicDescription {
        name: topic.name.to_string(),
        id: topic.id.to_string(),
        create_time_ms: topic.created.0,
        partitions: topic.partitions.iter().enumerate().map(partition).collect(),
        configs: configs.iter().flatten().map(config).collect(),
    }
}
