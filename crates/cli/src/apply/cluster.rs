//! What the cluster has, whether it takes changes, and the changes.

use std::collections::BTreeMap;

use tidelog_client::admin::{ConfigSource, NewTopic, TopicFacts};
use tidelog_client::{Client, Error};
use tidelog_types::TopicName;

use super::difference::{Difference, Found, Pair};
use super::file::Declared;
use crate::Failure;
use crate::outcomes::Outcomes;

/// The most topics of one call; brokers refuse more.
const CALL_TOPICS_MAX: usize = 100;

/// Looks up what is there of the declared topics, in their order.
pub(super) async fn pairs(client: &Client, declared: Vec<Declared>) -> Result<Vec<Pair>, Failure> {
    let mut found = BTreeMap::new();
    for declared in declared.chunks(CALL_TOPICS_MAX) {
        let names: Vec<TopicName> = declared.iter().map(|topic| topic.name.clone()).collect();
        for (name, topic) in client.admin().describe_topics(names).await? {
            match topic {
                Ok(facts) => drop(found.insert(name, Found::from(facts))),
                Err(Error::UnknownTopic { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    let pair = |declared: Declared| Pair { found: found.remove(&declared.name), declared };
    Ok(declared.into_iter().map(pair).collect())
}

/// Asks the cluster whether it takes all changes, and makes none.
pub(super) async fn check(client: &Client, pairs: &[Pair]) -> Result<(), Failure> {
    let admin = client.admin();
    let mut refused = Vec::new();
    for new in new_topics(pairs).chunks(CALL_TOPICS_MAX) {
        let topics = new.iter().map(|pair| new_topic(&pair.declared));
        let answers = admin.check_topics(topics).await?;
        for (pair, (_, answer)) in new.iter().zip(answers) {
            refused.extend(answer.err().map(|error| refusal(pair, error)));
        }
    }
    for pair in pairs.iter().filter(|pair| pair.found.is_some()) {
        let name = &pair.declared.name;
        if let Some((_, wanted)) = pair.more_partitions() {
            let answer = admin.check_partitions(name, wanted).await;
            refused.extend(answer.err().map(|error| refusal(pair, error)));
        }
        let changes = pair.config_changes();
        if !changes.is_empty() {
            let answer = admin.check_configs(name, changes).await;
            refused.extend(answer.err().map(|error| refusal(pair, error)));
        }
    }
    refused.into_iter().reduce(Failure::and).map_or(Ok(()), Err)
}

/// Makes all changes; what fails does not stop the others.
pub(super) async fn change(
    client: &Client,
    pairs: &[Pair],
) -> Result<(Vec<Difference>, Outcomes), Failure> {
    let mut changes = Changes::default();
    let admin = client.admin();
    for new in new_topics(pairs).chunks(CALL_TOPICS_MAX) {
        let topics = new.iter().map(|pair| new_topic(&pair.declared));
        let answers = admin.create_topics(topics).await?;
        for (pair, (_, answer)) in new.iter().zip(answers) {
            changes.note(pair, pair.creation(), answer.map(drop));
        }
    }
    for pair in pairs.iter().filter(|pair| pair.found.is_some()) {
        let name = &pair.declared.name;
        if let Some((there, wanted)) = pair.more_partitions() {
            let answer = admin.create_partitions(name, wanted).await;
            changes.note(pair, vec![pair.of_partitions(there, wanted)], answer);
        }
        let configs = pair.config_changes();
        if !configs.is_empty() {
            let answer = admin.alter_configs(name, configs).await;
            changes.note(pair, pair.of_configs(), answer);
        }
    }
    Ok((changes.differences, changes.outcomes))
}

/// What became of the changes.
#[derive(Default)]
struct Changes {
    differences: Vec<Difference>,
    outcomes: Outcomes,
}

impl Changes {
    fn note(&mut self, pair: &Pair, of: Vec<Difference>, answer: Result<(), Error>) {
        let applied = answer.is_ok();
        self.differences.extend(of.into_iter().map(|difference| difference.applied(applied)));
        match answer {
            Ok(()) => self.outcomes.succeed(),
            Err(error) => self.outcomes.fail(named(pair, error)),
        }
    }
}

fn new_topics(pairs: &[Pair]) -> Vec<&Pair> {
    pairs.iter().filter(|pair| pair.found.is_none()).collect()
}

fn new_topic(declared: &Declared) -> NewTopic {
    let mut topic = NewTopic::new(declared.name.clone());
    topic.partitions = declared.partitions;
    topic.replication_factor = declared.replication_factor;
    declared.configs.iter().fold(topic, |topic, (key, value)| topic.config(key, value))
}

fn named(pair: &Pair, error: Error) -> Failure {
    let Declared { name, place, .. } = &pair.declared;
    Failure::from(error).at(|message| format!("{place}: topic {name}: {message}"))
}

fn refusal(pair: &Pair, error: Error) -> Failure {
    named(pair, error).next_step("nothing was changed")
}

impl From<TopicFacts> for Found {
    fn from(facts: TopicFacts) -> Self {
        let replication_factor = facts.replication_factor();
        let own = facts.configs.into_iter().filter(|config| config.source == ConfigSource::Topic);
        Self {
            replication_factor,
            // Fits: a broker counts them in 32 bits.
            partitions: facts.partitions.len() as u32,
            configs: own.map(|config| (config.name, config.value)).collect(),
        }
    }
}
