//! What the client knows of brokers, topics and leaders. It may be old; epochs tell what is newer.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use tidelog_proto::v1;
use tidelog_types::{BrokerId, PartitionId, TopicName, TopicPartition};

use super::locked;

/// The leader of a partition, as last heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) broker: BrokerId,
    pub(crate) address: Arc<str>,
    pub(crate) epoch: i32,
}

/// A topic, as last heard.
#[derive(Clone, Debug)]
pub(crate) struct TopicFacts {
    pub(crate) id: String,
    pub(crate) partitions: u32,
    /// `max.message.bytes`.
    pub(crate) batch_bytes_max: Option<usize>,
    create_time_ms: i64,
    leaders: Vec<Option<Leader>>,
}

#[derive(Debug, Default)]
pub(crate) struct Metadata {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    cluster_id: String,
    brokers: BTreeMap<u32, String>,
    topics: HashMap<TopicName, TopicFacts>,
}

impl Metadata {
    pub(crate) fn cluster_id(&self) -> String {
        locked(&self.known).cluster_id.clone()
    }

    pub(crate) fn broker_addresses(&self) -> Vec<String> {
        locked(&self.known).brokers.values().cloned().collect()
    }

    pub(crate) fn broker_address(&self, broker: BrokerId) -> Option<String> {
        locked(&self.known).brokers.get(&broker.0).cloned()
    }

    pub(crate) fn topic(&self, topic: &TopicName) -> Option<TopicFacts> {
        locked(&self.known).topics.get(topic).cloned()
    }

    pub(crate) fn leader(&self, topic: &TopicName, partition: PartitionId) -> Option<Leader> {
        let known = locked(&self.known);
        known.topics.get(topic)?.leaders.get(partition.0 as usize)?.clone()
    }

    pub(crate) fn forget_topic(&self, topic: &TopicName) {
        locked(&self.known).topics.remove(topic);
    }

    pub(crate) fn learn_brokers(&self, cluster_id: &str, brokers: &[v1::Broker]) {
        let mut known = locked(&self.known);
        if !cluster_id.is_empty() {
            known.cluster_id = cluster_id.to_owned();
        }
        if brokers.is_empty() {
            return;
        }
        let named = brokers.iter().filter(|broker| !broker.address.is_empty());
        known.brokers = named.map(|broker| (broker.id, broker.address.clone())).collect();
    }

    /// Takes a description over. Of two topics of one name the younger counts, of two leaders the
    /// one of the higher epoch.
    pub(crate) fn learn_topic(&self, topic: &TopicName, described: v1::TopicDescription) {
        let mut known = locked(&self.known);
        let Known { brokers, topics, .. } = &mut *known;
        let batch_bytes_max = described.configs.iter().find(|c| c.name == "max.message.bytes");
        let batch_bytes_max = batch_bytes_max.and_then(|config| config.value.parse().ok());
        let facts = TopicFacts {
            id: described.id,
            partitions: described.partitions.len() as u32,
            batch_bytes_max,
            create_time_ms: described.create_time_ms,
            leaders: Vec::new(),
        };
        let kept = topics.entry(topic.clone()).or_insert_with(|| facts.clone());
        if kept.id != facts.id {
            if facts.create_time_ms < kept.create_time_ms {
                return;
            }
            *kept = facts;
        } else {
            kept.partitions = kept.partitions.max(facts.partitions);
            kept.batch_bytes_max = facts.batch_bytes_max.or(kept.batch_bytes_max);
        }
        kept.leaders.resize(kept.partitions as usize, None);
        for partition in described.partitions {
            let hint = partition.leader.and_then(|hint| leader(hint, brokers));
            if let (Some(slot), Some(leader)) =
                (kept.leaders.get_mut(partition.partition as usize), hint)
            {
                take_newer(slot, leader);
            }
        }
    }

    /// Takes a hint over; tells whether it was news.
    pub(crate) fn learn_leader(&self, partition: &TopicPartition, hint: v1::LeaderHint) -> bool {
        let mut known = locked(&self.known);
        let Known { brokers, topics, .. } = &mut *known;
        let slot = topics
            .get_mut(&partition.topic)
            .and_then(|topic| topic.leaders.get_mut(partition.partition.0 as usize));
        match (slot, leader(hint, brokers)) {
            (Some(slot), Some(leader)) => take_newer(slot, leader),
            _ => false,
        }
    }
}

/// The leader that a hint names, if its address is known.
fn leader(hint: v1::LeaderHint, brokers: &BTreeMap<u32, String>) -> Option<Leader> {
    let address = match hint.known_address() {
        Some(address) => address,
        None => brokers.get(&hint.broker_id)?,
    };
    Some(Leader { broker: hint.broker(), address: address.into(), epoch: hint.leader_epoch })
}

fn take_newer(slot: &mut Option<Leader>, leader: Leader) -> bool {
    let newer = slot.as_ref().is_none_or(|known| {
        // The same leadership at another address: the broker came back elsewhere.
        known.epoch < leader.epoch
            || (known.epoch == leader.epoch
                && known.broker == leader.broker
                && known.address != leader.address)
    });
    if newer {
        *slot = Some(leader);
    }
    newer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(broker_id: u32, leader_epoch: i32) -> v1::LeaderHint {
        v1::LeaderHint { broker_id, address: format!("b{broker_id}:1"), leader_epoch }
    }

    fn description(id: &str, create_time_ms: i64, leader: v1::LeaderHint) -> v1::TopicDescription {
        let partition = v1::PartitionDescription {
            leader: Some(leader),
            ..v1::PartitionDescription::default()
        };
        let partitions = vec![partition];
        v1::TopicDescription { id: id.to_owned(), create_time_ms, partitions, ..Default::default() }
    }

    #[test]
    fn only_a_higher_epoch_moves_a_leader() {
        let metadata = Metadata::default();
        let topic = TopicName::new("t").unwrap();
        let partition = TopicPartition { topic: topic.clone(), partition: PartitionId(0) };
        let epoch = || metadata.leader(&topic, PartitionId(0)).map(|leader| leader.epoch);
        metadata.learn_topic(&topic, description("a", 1, hint(1, 5)));
        assert!(!metadata.learn_leader(&partition, hint(2, 5)));
        assert!(!metadata.learn_leader(&partition, hint(2, 4)));
        assert!(metadata.learn_leader(&partition, hint(2, 6)));
        metadata.learn_topic(&topic, description("a", 1, hint(1, 5)));
        assert_eq!(epoch(), Some(6));
    }

    #[test]
    fn a_topic_created_anew_replaces_the_old_one_and_not_the_reverse() {
        let metadata = Metadata::default();
        let topic = TopicName::new("t").unwrap();
        metadata.learn_topic(&topic, description("a", 1, hint(1, 9)));
        metadata.learn_topic(&topic, description("b", 2, hint(2, 1)));
        metadata.learn_topic(&topic, description("a", 1, hint(1, 9)));
        assert_eq!(metadata.topic(&topic).unwrap().id, "b");
        assert_eq!(metadata.leader(&topic, PartitionId(0)).unwrap().epoch, 1);
    }
}
