//! Whether a broker may be stopped. Each leader answers for the groups that it leads, from what it
//! hears of its followers; a group that nobody answers for is a risk as well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tidelog_proto::v1::admin_service_client::AdminServiceClient;
use tidelog_proto::v1::{CanStopRequest, CanStopResponse, Error, StopRisk};
use tidelog_raft::{RaftStatus, Role};
use tidelog_types::{BrokerId, GroupId, LogIndex, NodeId};
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::{Api, no_broker, topic_name};
use crate::access::{Operation, Resource};
use crate::cluster::{CATCH_UP_TIMEOUT, Cluster};
use crate::environment::ListenerName;
use crate::limits;

/// How long a replica may take until it has what was committed when the question came.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked at until then.
const CHECK: Duration = Duration::from_millis(50);

/// How long another broker may take to answer for its groups.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);

/// What is known of the groups that have a voter on the broker.
#[derive(Debug, Default)]
struct Found {
    /// Groups whose leader has answered.
    led: BTreeSet<GroupId>,
    /// Groups that need the broker, and why.
    risks: BTreeMap<GroupId, String>,
}

impl Api {
    pub(super) async fn can_stop_told(
        &self,
        request: CanStopRequest,
    ) -> Result<CanStopResponse, Error> {
        self.allow(Operation::Describe, Resource::Cluster)?;
        let cluster = self.core.cluster()?;
        let broker = BrokerId(request.broker_id);
        if !self.may_forward() {
            let found = led_here(&cluster, broker).await;
            let led = found.led.iter().map(|group| group.to_bytes().to_vec().into()).collect();
            return Ok(CanStopResponse { led, ..response(&cluster, broker, &found, usize::MAX) });
        }
        let caught_up = cluster.catch_up(Instant::now() + CATCH_UP_TIMEOUT).await;
        let machine = cluster.machine();
        if machine.broker(broker).is_none() {
            return Err(no_broker(&machine, broker));
        }
        let others = cluster.live_brokers().into_iter().filter(|id| *id != cluster.me.broker);
        let others = join_all(others.map(|other| led_there(&cluster, other, broker)));
        let (mut found, others) = tokio::join!(led_here(&cluster, broker), others);
        for other in others.into_iter().flatten() {
            found.led.extend(other.led);
            found.risks.extend(other.risks);
        }
        for group in with_replica_on(&cluster, broker) {
            if !found.led.contains(&group) {
                found.risks.insert(group, "it has no leader that answers".to_owned());
            }
        }
        if let Err(error) = caught_up {
            found.risks.insert(GroupId::METADATA, error.message);
        }
        Ok(response(&cluster, broker, &found, limits::HEALTH_NAMED_MAX))
    }
}

/// Every group that has a replica on the broker, as far as the metadata tell.
fn with_replica_on(cluster: &Cluster, broker: BrokerId) -> Vec<GroupId> {
    let status = cluster.metadata.raft_status();
    let votes = status.voters.iter().any(|voter| voter.broker == broker);
    let machine = cluster.machine();
    let partitions = machine.hosted_by(broker).map(|(group, _)| group);
    votes.then_some(GroupId::METADATA).into_iter().chain(partitions).collect()
}

fn response(cluster: &Cluster, broker: BrokerId, found: &Found, most: usize) -> CanStopResponse {
    let machine = cluster.machine();
    let risk = |(group, reason): (&GroupId, &String)| StopRisk {
        topic: topic_name(&machine, *group),
        partition: group.partition.0,
        reason: reason.clone(),
    };
    let (risks, groups) = (found.risks.len(), found.led.len());
    let summary = match risks {
        0 => format!("broker {broker} can stop: {groups} groups keep their majority without it"),
        1 => format!("broker {broker} is needed: 1 group has no majority without it"),
        _ => format!("broker {broker} is needed: {risks} groups have no majority without it"),
    };
    CanStopResponse {
        can_stop: risks == 0,
        summary,
        risks: found.risks.iter().take(most).map(risk).collect(),
        risk_count: risks as u32,
        led: Vec::new(),
    }
}

/// What another broker says of the groups that it leads; nothing when it does not answer.
async fn led_there(cluster: &Cluster, other: BrokerId, broker: BrokerId) -> Option<Found> {
    let address = cluster.address(other, ListenerName::Internal)?;
    let channel = cluster.others.waiting_channel(&address).ok()?;
    let mut client =
        AdminServiceClient::new(channel).max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    let asked = client.can_stop(CanStopRequest { broker_id: broker.0 });
    let answer = match timeout(ANSWER_TIMEOUT, asked).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => {
            warn!(%other, err = status.message(), "a broker does not tell what it leads");
            return None;
        }
        Err(_) => return None,
    };
    let group = |bytes: &bytes::Bytes| Some(GroupId::from_bytes(bytes[..].try_into().ok()?));
    let machine = cluster.machine();
    let risk = |risk: StopRisk| {
        let topic = match risk.topic.as_str() {
            "" => GroupId::METADATA.topic,
            name => machine.topic_by_name(name)?.id,
        };
        Some((GroupId::new(topic, tidelog_types::PartitionId(risk.partition)), risk.reason))
    };
    Some(Found {
        led: answer.led.iter().filter_map(group).collect(),
        risks: answer.risks.into_iter().filter_map(risk).collect(),
    })
}

/// What this broker knows of the groups that it leads.
async fn led_here(cluster: &Arc<Cluster>, broker: BrokerId) -> Found {
    let hosted = cluster.hosted.all();
    let groups = hosted.iter().map(|replica| replica.group).chain([GroupId::METADATA]);
    let led = groups.filter_map(|group| {
        let status = status(cluster, group)?;
        let votes = status.voters.iter().any(|voter| voter.broker == broker);
        let leads = status.leadership.role == Role::Leader && status.leadership.ready;
        (votes && leads).then(|| (group, status.committed.map_or(LogIndex::ZERO, |at| at.index)))
    });
    let mut open: Vec<_> = led.collect();
    let mut found =
        Found { led: open.iter().map(|(group, _)| *group).collect(), risks: BTreeMap::new() };
    let asked = Instant::now();
    loop {
        found.risks.clear();
        let live = cluster.node.live();
        for (group, committed) in &open {
            let now = status(cluster, *group);
            let risk = now.map_or_else(
                || Some("its replica here has stepped out".to_owned()),
                |now| risk(&now, cluster.me, broker, *committed, asked.elapsed(), &live),
            );
            if let Some(risk) = risk {
                found.risks.insert(*group, risk);
            }
        }
        open.retain(|(group, _)| found.risks.contains_key(group));
        if open.is_empty() || asked.elapsed() >= PATIENCE {
            return found;
        }
        sleep(CHECK).await;
    }
}

fn status(cluster: &Cluster, group: GroupId) -> Option<RaftStatus> {
    if group == GroupId::METADATA {
        return Some(cluster.metadata.raft_status());
    }
    cluster.hosted.find(group)?.raft_status()
}

/// Why a group has no majority without `broker`, as its leader knows. Only replicas count that have
/// answered it since the question came, `asked` ago: one that has just died had everything, too.
fn risk(
    status: &RaftStatus,
    me: NodeId,
    broker: BrokerId,
    committed: LogIndex,
    asked: Duration,
    live: &BTreeSet<NodeId>,
) -> Option<String> {
    let (mut sound, mut missing) = (0, Vec::new());
    for voter in status.voters.iter().filter(|voter| voter.broker != broker) {
        let matched = status.matched.get(voter).copied().flatten().unwrap_or(LogIndex::ZERO);
        let answers = status.silent.get(voter).is_some_and(|silent| *silent < asked);
        let id = voter.broker;
        if *voter == me {
            sound += 1;
        } else if !live.contains(voter) {
            missing.push(format!("broker {id} is down"));
        } else if !answers {
            missing.push(format!("the replica on broker {id} does not answer"));
        } else if matched < committed {
            let entries = committed.0 - matched.0;
            missing.push(format!("the replica on broker {id} lacks {entries} entries"));
        } else {
            sound += 1;
        }
    }
    let needed = status.voters.len() / 2 + 1;
    if sound >= needed {
        return None;
    }
    let why = if missing.is_empty() { String::new() } else { format!(": {}", missing.join(", ")) };
    let all = status.voters.len();
    Some(format!("{needed} of its {all} replicas are needed, {sound} would be left{why}"))
}

#[cfg(test)]
mod tests {
    use tidelog_types::{LogPosition, Term};

    use super::*;

    const ASKED: Duration = Duration::from_millis(50);

    fn node(broker: u32) -> NodeId {
        NodeId::new(broker, 1)
    }

    /// Led by 1, with 2 and 3 at these indexes, heard of just now.
    fn led_by_1(second: u64, third: u64) -> RaftStatus {
        let mut status = RaftStatus::default();
        status.voters = vec![node(1), node(2), node(3)];
        let committed = LogPosition { term: Term(1), index: LogIndex(10) };
        status.committed = Some(committed);
        for (broker, index) in [(2, second), (3, third)] {
            status.matched.insert(node(broker), Some(LogIndex(index)));
            status.silent.insert(node(broker), Duration::from_millis(10));
        }
        status
    }

    fn needs(status: &RaftStatus, broker: u32, live: &[u32]) -> Option<String> {
        let live = live.iter().map(|id| node(*id)).collect();
        risk(status, node(1), BrokerId(broker), LogIndex(10), ASKED, &live)
    }

    #[test]
    fn a_broker_is_needed_where_too_few_others_have_everything() {
        let status = led_by_1(10, 11);
        assert_eq!(needs(&status, 1, &[1, 2, 3]), None);
        assert_eq!(needs(&status, 2, &[1, 2, 3]), None);
        let down = needs(&status, 2, &[1, 2]).unwrap();
        assert!(down.contains("1 would be left") && down.contains("broker 3 is down"), "{down}");
        let behind = needs(&led_by_1(10, 7), 2, &[1, 2, 3]).unwrap();
        assert!(behind.contains("broker 3 lacks 3 entries"), "{behind}");
        // It stops what does not count anyway.
        assert_eq!(needs(&led_by_1(10, 7), 3, &[1, 2]), None);
    }

    #[test]
    fn a_replica_that_does_not_answer_does_not_count() {
        let mut status = led_by_1(10, 10);
        status.silent.insert(node(3), ASKED);
        let silent = needs(&status, 2, &[1, 2, 3]).unwrap();
        assert!(silent.contains("on broker 3 does not answer"), "{silent}");
    }

    #[test]
    fn the_only_replica_is_always_needed() {
        let mut status = RaftStatus::default();
        status.voters = vec![node(1)];
        let alone = needs(&status, 1, &[1]).unwrap();
        assert_eq!(alone, "1 of its 1 replicas are needed, 0 would be left");
    }
}
