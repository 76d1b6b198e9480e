//! `tidelog partition raft`: where the Raft group of a partition stands.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use tidelog_client::admin::{Admin, RaftFacts, ReplicaFacts};
use tidelog_client::{BrokerId, Client, Error};
use tidelog_types::{LogIndex, TopicPartition};
use tokio::time::timeout;

use super::args::RaftArgs;
use crate::args::Globals;
use crate::connect::connect;
use crate::topic::{or_dash, unknown_partition};
use crate::{Column, Failure, Page, chain};

/// How long one replica is asked; one that is down must not hold up the others.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(2);

/// How many partitions one call may ask for.
const PARTITIONS_PER_CALL: usize = 1_000;

/// The group, as its replicas tell it.
#[derive(Debug, Serialize)]
pub(crate) struct GroupView {
    topic: String,
    partition: u32,
    leader: Option<u32>,
    term: Option<u64>,
    log_start: Option<u64>,
    high_watermark: Option<u64>,
    replicas: Vec<ReplicaView>,
}

/// One replica: what it says itself, and what the leader knows about it.
#[derive(Debug, Serialize)]
struct ReplicaView {
    broker: u32,
    role: &'static str,
    term: Option<u64>,
    last_index: Option<u64>,
    committed_index: Option<u64>,
    applied_index: Option<u64>,
    purged_index: Option<u64>,
    matched_index: Option<u64>,
    lag_entries: Option<u64>,
    problem: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column::number("BROKER"),
    Column::text("ROLE"),
    Column::number("TERM"),
    Column::number("LAST"),
    Column::number("COMMITTED"),
    Column::number("APPLIED"),
    Column::number("PURGED").only_wide(),
    Column::number("MATCHED"),
    Column::number("LAG"),
    Column::text("PROBLEM"),
];

pub(super) async fn run(globals: &Globals, args: &RaftArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let admin = client.admin();
    let name = &args.partition;
    let topic = admin.describe_topic(&name.topic).await?;
    let count = topic.partitions.len();
    let found = topic.partitions.into_iter().find(|facts| facts.partition == name.partition);
    let Some(mut facts) = found else {
        return Err(unknown_partition(name, u32::try_from(count).unwrap_or(u32::MAX)));
    };
    facts.replicas.sort_unstable();
    let brokers = admin.cluster().await?.brokers;
    let address = |id: &BrokerId| {
        brokers.iter().find(|broker| broker.id == *id).map(|broker| broker.address.clone())
    };
    let asked = facts.replicas.iter().map(|id| ask(&admin, *id, address(id), name));
    let answers = join_all(asked).await;
    let group = GroupView::new(name, &answers);
    globals.output().item("partition.raft", &group, |_| group.page())?;
    Ok(ExitCode::SUCCESS)
}

/// All groups of all topics, as their replicas tell them: each broker is asked once for many.
pub(crate) async fn look_at_all(client: &Client) -> Result<Vec<GroupView>, Failure> {
    let admin = client.admin();
    let names = admin.list_topics().await?.into_iter().map(|topic| topic.name);
    let mut on: BTreeMap<BrokerId, Vec<TopicPartition>> = BTreeMap::new();
    for (name, topic) in admin.describe_topics(names).await? {
        // Deleted since it was listed, or not described: the part on topics tells.
        for facts in topic.iter().flat_map(|topic| &topic.partitions) {
            for replica in &facts.replicas {
                let partition = TopicPartition { topic: name.clone(), partition: facts.partition };
                on.entry(*replica).or_default().push(partition);
            }
        }
    }
    let brokers = admin.cluster().await?.brokers;
    let address = |id: BrokerId| {
        brokers.iter().find(|broker| broker.id == id).map(|broker| broker.address.clone())
    };
    let asked =
        on.iter().map(|(id, partitions)| ask_for_many(&admin, *id, address(*id), partitions));
    let mut answers: BTreeMap<TopicPartition, Vec<Answer>> = BTreeMap::new();
    for (partition, answer) in join_all(asked).await.into_iter().flatten() {
        answers.entry(partition).or_default().push(answer);
    }
    Ok(answers.iter().map(|(name, answers)| GroupView::new(name, answers)).collect())
}

async fn ask_for_many(
    admin: &Admin,
    id: BrokerId,
    address: Option<String>,
    partitions: &[TopicPartition],
) -> Vec<(TopicPartition, Answer)> {
    let mut told = Vec::with_capacity(partitions.len());
    for some in partitions.chunks(PARTITIONS_PER_CALL) {
        let problem = match &address {
            None => "its address is not known".to_owned(),
            Some(address) => {
                let call = admin.describe_rafts_at(address, some.to_vec());
                match timeout(REPLICA_TIMEOUT, call).await {
                    Ok(Ok(answers)) => {
                        let answer = |(partition, facts): (_, Result<_, Error>)| {
                            (partition, (id, facts.map_err(|error| shown(&error))))
                        };
                        told.extend(answers.into_iter().map(answer));
                        continue;
                    }
                    Ok(Err(error)) => shown(&error),
                    Err(_) => format!("no answer within {} s", REPLICA_TIMEOUT.as_secs()),
                }
            }
        };
        told.extend(some.iter().map(|partition| (partition.clone(), (id, Err(problem.clone())))));
    }
    told
}

/// What a replica says of itself, or why it does not.
type Answer = (BrokerId, Result<RaftFacts, String>);

async fn ask(
    admin: &Admin,
    id: BrokerId,
    address: Option<String>,
    name: &TopicPartition,
) -> Answer {
    let Some(address) = address else {
        return (id, Err("its address is not known".to_owned()));
    };
    let call = admin.describe_rafts_at(&address, [name.clone()]);
    let told = match timeout(REPLICA_TIMEOUT, call).await {
        Ok(Ok(mut told)) => told.pop().map_or_else(
            || Err("no answer about the partition".to_owned()),
            |(_, told)| told.map_err(|error| shown(&error)),
        ),
        Ok(Err(error)) => Err(shown(&error)),
        Err(_) => Err(format!("no answer within {} s", REPLICA_TIMEOUT.as_secs())),
    };
    (id, told)
}

fn shown(error: &Error) -> String {
    chain(error)
}

impl GroupView {
    fn new(name: &TopicPartition, answers: &[Answer]) -> Self {
        let told = || answers.iter().filter_map(|(_, told)| told.as_ref().ok());
        // Of two that believe to lead, the one of the higher term is right.
        let leader = told().filter(|facts| facts.leads).max_by_key(|facts| facts.term);
        let newest = leader.or_else(|| told().max_by_key(|facts| facts.term));
        let replica = |(id, told): &Answer| {
            let known = leader.and_then(|facts| facts.replicas.iter().find(|r| r.broker == *id));
            ReplicaView::new(*id, told, known, leader.map(|facts| facts.answered_by))
        };
        Self {
            topic: name.topic.to_string(),
            partition: name.partition.0,
            leader: newest.and_then(|facts| facts.leader).map(|broker| broker.0),
            term: newest.map(|facts| facts.term.0),
            log_start: newest.map(|facts| facts.log_start.0),
            high_watermark: newest.map(|facts| facts.high_watermark.0),
            replicas: answers.iter().map(replica).collect(),
        }
    }

    fn page(&self) -> Page {
        Page::new()
            .facts([
                ("partition", format!("{}/{}", self.topic, self.partition)),
                ("leader", or_dash(self.leader)),
                ("term", or_dash(self.term)),
                ("log start", or_dash(self.log_start)),
                ("high watermark", or_dash(self.high_watermark)),
            ])
            .table(COLUMNS, self.replicas.iter().map(ReplicaView::cells))
    }
}

impl ReplicaView {
    fn new(
        id: BrokerId,
        told: &Result<RaftFacts, String>,
        known: Option<&ReplicaFacts>,
        leader: Option<BrokerId>,
    ) -> Self {
        let own = told.as_ref().ok();
        let index = |of: fn(&RaftFacts) -> Option<LogIndex>| own.and_then(of).map(|index| index.0);
        let role = match (leader == Some(id), known.is_none_or(|replica| replica.voter)) {
            (true, _) => "leader",
            (false, true) => "follower",
            (false, false) => "learner",
        };
        Self {
            broker: id.0,
            role,
            term: own.map(|facts| facts.term.0),
            last_index: index(|facts| facts.last_log),
            committed_index: index(|facts| facts.committed),
            applied_index: index(|facts| facts.applied),
            purged_index: index(|facts| facts.purged),
            matched_index: known.and_then(|replica| replica.matched).map(|index| index.0),
            lag_entries: known.and_then(|replica| replica.lag_entries),
            problem: match told {
                Ok(facts) => facts.quarantined.as_ref().map(|why| format!("out of service: {why}")),
                Err(problem) => Some(problem.clone()),
            },
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.broker.to_string(),
            self.role.to_owned(),
            or_dash(self.term),
            or_dash(self.last_index),
            or_dash(self.committed_index),
            or_dash(self.applied_index),
            or_dash(self.purged_index),
            or_dash(self.matched_index),
            or_dash(self.lag_entries),
            self.problem.clone().unwrap_or_default(),
        ]
    }
}
