//! What the names and patterns of a group stand for.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_types::{ErrorCode, TopicId, TopicName};

use super::{Refusal, Subscription};
use crate::metadata::{PARTITIONS_MAX, TOPICS_MAX};

/// What names and patterns stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    /// Topics that exist, of those that are named or matched: id and number of partitions.
    pub known: BTreeMap<TopicName, (TopicId, u32)>,
    /// Which of the topics each pattern matches.
    pub matched: BTreeMap<String, BTreeSet<TopicName>>,
}

impl Topics {
    /// Refuses more than a cluster can have.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let partitions: u64 = self.known.values().map(|(_, count)| u64::from(*count)).sum();
        let counts = [
            ("topics", self.known.len() as u64, TOPICS_MAX),
            ("partitions", partitions, PARTITIONS_MAX),
        ];
        match counts.into_iter().find(|(_, count, most)| *count > *most as u64) {
            None => Ok(()),
            Some((what, count, most)) => {
                let message = format!("{count} {what}: at most {most} are allowed");
                Err(Refusal::new(ErrorCode::InvalidRequest, message))
            }
        }
    }

    /// Adds what was found out for one member.
    pub(super) fn merge(&mut self, mut newer: Self) {
        newer.keep_partitions(self);
        self.known.append(&mut newer.known);
        self.matched.append(&mut newer.matched);
    }

    /// A topic never has fewer partitions than it had: whoever says so has looked earlier.
    pub(super) fn keep_partitions(&mut self, earlier: &Self) {
        for (name, (id, partitions)) in &mut self.known {
            if let Some((_, had)) = earlier.known.get(name).filter(|(known, _)| known == id) {
                *partitions = (*partitions).max(*had);
            }
        }
    }

    /// Forgets what none of these subscriptions names or matches.
    pub(super) fn retain_subscribed<'a>(
        &mut self,
        subscriptions: impl Iterator<Item = &'a Subscription> + Clone,
    ) {
        let patterns: BTreeSet<_> = subscriptions
            .clone()
            .filter_map(|subscription| subscription.pattern.as_ref())
            .collect();
        self.matched.retain(|pattern, _| patterns.contains(pattern));
        let named: BTreeSet<_> =
            subscriptions.flat_map(|subscription| &subscription.topics).collect();
        let matched: BTreeSet<_> = self.matched.values().flatten().collect();
        self.known.retain(|name, _| named.contains(name) || matched.contains(name));
    }

    /// Whether a subscription has the topic.
    pub(super) fn subscribed(&self, subscription: &Subscription, topic: &TopicName) -> bool {
        let pattern = subscription.pattern.as_ref();
        let matched = pattern.and_then(|pattern| self.matched.get(pattern));
        subscription.topics.contains(topic) || matched.is_some_and(|names| names.contains(topic))
    }

    /// The existing topics that a subscription has.
    pub(super) fn ids(&self, subscription: &Subscription) -> BTreeSet<TopicId> {
        let pattern = subscription.pattern.as_ref();
        let matched = pattern.and_then(|pattern| self.matched.get(pattern)).into_iter().flatten();
        let names = subscription.topics.iter().chain(matched);
        names.filter_map(|name| self.known.get(name)).map(|(id, _)| *id).collect()
    }
}
