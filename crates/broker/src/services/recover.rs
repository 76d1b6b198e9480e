//! `UnsafeRecover`: groups that have lost their majority for good go on with what this broker holds.
//!
//! Everything is checked before anything is done, by this broker and not by whoever calls: that the lost do
//! not answer anybody, that every other replica was heard, and that none of them is further.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use tidelog_proto::v1::{
    Error, RecoveredGroup, TopicPartition, UnsafeRecoverRequest, UnsafeRecoverResponse,
};
use tidelog_raft::{RecoverError, Standing};
use tidelog_state::metadata::{Command, Machine, MembersReport};
use tidelog_types::{BrokerId, GroupId, LogPosition, NodeId, Term};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::admin::admin_deadline;
use super::{Api, at_most, invalid, no_broker, topic_name};
use crate::access::{Operation, Resource};
use crate::cluster::Cluster;
use crate::limits;

/// Groups that begin anew at a time.
const AT_A_TIME: usize = 16;

/// What other brokers hold of the groups.
type Others = BTreeMap<NodeId, BTreeMap<GroupId, Standing>>;

impl Api {
    pub(super) async fn unsafely_recovered(
        &self,
        request: UnsafeRecoverRequest,
    ) -> Result<UnsafeRecoverResponse, Error> {
        self.allow(Operation::Alter, Resource::Cluster)?;
        at_most(request.partitions.len(), limits::ADMIN_PARTITIONS_MAX, "partitions")?;
        let deadline = admin_deadline(request.timeout_ms)?;
        let cluster = self.core.cluster()?;
        let me = cluster.me.broker;
        if request.broker_id != me.0 {
            let asked = request.broker_id;
            return Err(invalid(format!("this is broker {me}: ask broker {asked} itself")));
        }
        let mut lost = lost(&cluster, &request)?;
        let groups = groups(&cluster, &request, &lost)?;
        all_are_heard(&cluster, &groups, &mut lost)?;
        let others = survey(&cluster, &lost, None, &groups).await?;
        let recovered = match request.validate_only {
            true => go_on_with(&cluster, groups, &lost, &others, None).await,
            false => {
                let within = deadline.saturating_duration_since(Instant::now());
                let refused = |err: RecoverError| invalid(err.to_string());
                let _turn = cluster.node.take_turn(within).map_err(refused)?;
                let done = fence_and_go_on(&cluster, groups, &lost, deadline).await;
                // Who is not told waits until the time is up.
                drop(survey(&cluster, &lost, Some(Duration::ZERO), &[]).await);
                done?
            }
        };
        Ok(UnsafeRecoverResponse {
            lost_broker_ids: lost.iter().map(|node| node.broker.0).collect(),
            groups: recovered,
            gone: gone(&cluster.machine(), &lost),
        })
    }
}

/// Refuses while a broker is neither lost nor heard: it may have a replica that nobody here knows of.
/// Members of groups that are no part of the cluster any more are lost.
fn all_are_heard(
    cluster: &Cluster,
    groups: &[GroupId],
    lost: &mut BTreeSet<NodeId>,
) -> Result<(), Error> {
    let (machine, live) = (cluster.machine(), cluster.node.live());
    let mut brokers = machine.brokers().map(|broker| broker.node());
    if let Some(node) = brokers.find(|node| !live.contains(node) && !lost.contains(node)) {
        let id = node.broker;
        return Err(invalid(format!(
            "broker {id} does not answer: start it, or name it as lost, if it is"
        )));
    }
    let members = groups.iter().flat_map(|group| cluster.node.members(*group));
    lost.extend(members.filter(|node| !live.contains(node)));
    Ok(())
}

/// Shuts the lost out everywhere, and only then has groups go on.
async fn fence_and_go_on(
    cluster: &Cluster,
    groups: Vec<GroupId>,
    lost: &BTreeSet<NodeId>,
    deadline: Instant,
) -> Result<Vec<RecoveredGroup>, Error> {
    let within = deadline.saturating_duration_since(Instant::now());
    let others = survey(cluster, lost, Some(within), &groups).await?;
    cluster.node.shut_out(lost).await.map_err(|err| invalid(err.to_string()))?;
    Ok(go_on_with(cluster, groups, lost, &others, Some(deadline)).await)
}

/// Has groups go on until `deadline`, or without one only tells which could; the metadata first: without
/// them nothing else does.
async fn go_on_with(
    cluster: &Cluster,
    groups: Vec<GroupId>,
    lost: &BTreeSet<NodeId>,
    others: &Others,
    deadline: Option<Instant>,
) -> Vec<RecoveredGroup> {
    let (first, rest): (Vec<_>, Vec<_>) =
        groups.into_iter().partition(|group| *group == GroupId::METADATA);
    let mut all = Vec::new();
    for groups in [first, rest] {
        let stuck = all.iter().any(|told: &RecoveredGroup| !told.refusal.is_empty());
        let each = groups.into_iter().map(|group| async move {
            if stuck {
                let refusal = "the metadata do not go on".to_owned();
                return RecoveredGroup { refusal, ..described(cluster, group) };
            }
            go_on(cluster, group, lost, others, deadline).await
        });
        all.extend(stream::iter(each).buffered(AT_A_TIME).collect::<Vec<_>>().await);
    }
    all
}

/// The nodes that are lost.
fn lost(cluster: &Cluster, request: &UnsafeRecoverRequest) -> Result<BTreeSet<NodeId>, Error> {
    let (machine, live) = (cluster.machine(), cluster.node.live());
    if request.lost_broker_ids.is_empty() {
        let silent = machine.brokers().map(|broker| broker.node());
        let silent: BTreeSet<_> = silent.filter(|node| !live.contains(node)).collect();
        return match (silent.is_empty(), request.validate_only) {
            (true, _) => Err(invalid("all brokers answer this one: none is lost")),
            (false, true) => Ok(silent),
            (false, false) => Err(invalid("no broker is named as lost")),
        };
    }
    let node = |id: &u32| {
        let broker = machine.broker(BrokerId(*id)).map(|broker| broker.node());
        let node = broker.ok_or_else(|| no_broker(&machine, BrokerId(*id)))?;
        match live.contains(&node) {
            true => Err(invalid(format!("broker {id} is alive, so it is not lost: stop it first"))),
            false => Ok(node),
        }
    };
    request.lost_broker_ids.iter().map(node).collect()
}

/// The groups that are to go on: those that were asked for, or all that need it.
fn groups(
    cluster: &Cluster,
    request: &UnsafeRecoverRequest,
    lost: &BTreeSet<NodeId>,
) -> Result<Vec<GroupId>, Error> {
    let node = &cluster.node;
    let machine = cluster.machine();
    let needs_it = |group: &GroupId| match node.members(*group).is_empty() {
        false => !node.has_majority(*group, lost),
        // Out of service here: the metadata tell who votes.
        true => machine
            .partition(*group)
            .is_some_and(|partition| !partition.has_majority(|node| !lost.contains(node))),
    };
    if request.partitions.is_empty() {
        let hosted = cluster.hosted.all();
        let here = hosted.iter().map(|replica| replica.group);
        let mut all: Vec<_> = here.chain([GroupId::METADATA]).filter(needs_it).collect();
        all.sort_unstable();
        return Ok(all);
    }
    if needs_it(&GroupId::METADATA) {
        return Err(invalid(
            "the metadata have lost their majority as well: recover all groups in one go",
        ));
    }
    let find = |asked: &TopicPartition| {
        let group = cluster.find(&asked.topic, asked.partition, "")?;
        let name = format!("{}/{}", asked.topic, asked.partition);
        if node.standing(group).is_none() {
            let me = cluster.me.broker;
            return Err(invalid(format!("broker {me} has no replica of {name}")));
        }
        match needs_it(&group) {
            true => Ok(group),
            false => Err(invalid(format!("{name} keeps its majority without what is lost"))),
        }
    };
    // Named twice it goes on once.
    let found: Result<BTreeSet<GroupId>, Error> = request.partitions.iter().map(find).collect();
    Ok(found?.into_iter().collect())
}

/// Asks every broker that is left how far its replicas are.
async fn survey(
    cluster: &Cluster,
    lost: &BTreeSet<NodeId>,
    fence: Option<Duration>,
    groups: &[GroupId],
) -> Result<Others, Error> {
    let live = cluster.node.live();
    let others = live.into_iter().filter(|node| *node != cluster.me);
    let asked = others.map(|node| async move {
        let told = cluster.node.survey(node, lost, fence, groups).await;
        let refused = |err| format!("broker {} does not agree: {err}", node.broker);
        told.map(|told| (node, told)).map_err(|err| invalid(refused(err)))
    });
    join_all(asked).await.into_iter().collect()
}

/// Has one group go on here, or tells whether it could.
async fn go_on(
    cluster: &Cluster,
    group: GroupId,
    lost: &BTreeSet<NodeId>,
    others: &Others,
    deadline: Option<Instant>,
) -> RecoveredGroup {
    let here = cluster.node.standing(group).unwrap_or_default();
    let mut told = described(cluster, group);
    if let Some(obstacle) = obstacle(cluster, group, &here, lost, others) {
        told.refusal = obstacle;
        return told;
    }
    let Some(deadline) = deadline else { return told };
    let above = others.values().filter_map(|held| held.get(&group)).map(|held| held.term).max();
    let recovered = cluster.node.recover(group, above.unwrap_or(Term(0)));
    match timeout_at(deadline, recovered).await {
        Ok(Ok(at)) => {
            told.recovered_index = Some(at.index.0);
            report(cluster, group, at, deadline).await;
        }
        Ok(Err(err)) => told.refusal = err.to_string(),
        Err(_) => told.refusal = "it was not done in time; ask again".to_owned(),
    }
    if !told.refusal.is_empty() {
        warn!(%group, refusal = told.refusal, "a group does not go on");
    }
    told
}

/// Tells the metadata who votes now: whoever believes the members of before would take replicas for whole
/// that are not.
async fn report(cluster: &Cluster, group: GroupId, at: LogPosition, deadline: Instant) {
    let machine = cluster.machine();
    let Some(partition) = machine.partition(group) else { return };
    let (voters, revision) = (vec![cluster.me], partition.revision);
    let command =
        Command::ReportMembers { reports: vec![MembersReport { group, at, voters, revision }] };
    if let Err(err) = cluster.propose(&command, deadline).await {
        warn!(%group, %err, "the metadata do not know yet who votes in a group that goes on");
    }
}

/// What is left of a group here.
fn described(cluster: &Cluster, group: GroupId) -> RecoveredGroup {
    let here = cluster.node.standing(group).unwrap_or_default();
    let high_watermark = cluster.hosted.find(group).and_then(|replica| {
        replica.partition().map(|partition| partition.now().progress.high_watermark)
    });
    RecoveredGroup {
        topic: topic_name(&cluster.machine(), group),
        partition: group.partition.0,
        end_offset: here.next_offset.to_wire(),
        high_watermark: high_watermark.unwrap_or_default().to_wire(),
        append_time_ms: here.append_time.0,
        recovered_index: None,
        refusal: String::new(),
    }
}

/// Why a group should not, or cannot, go on with what this broker holds.
fn obstacle(
    cluster: &Cluster,
    group: GroupId,
    here: &Standing,
    lost: &BTreeSet<NodeId>,
    others: &Others,
) -> Option<String> {
    if here.is_out {
        return Some("the replica here is out of service, or not open yet".to_owned());
    }
    let mut members = cluster.node.members(group).into_iter();
    let is_unheard =
        |node: &NodeId| *node != cluster.me && !lost.contains(node) && !others.contains_key(node);
    if let Some(node) = members.find(is_unheard) {
        let id = node.broker;
        return Some(format!(
            "broker {id} has a replica and does not answer: start it, or name it as lost"
        ));
    }
    others.iter().find_map(|(node, held)| {
        let (held, id) = (held.get(&group)?, node.broker);
        if held.is_out {
            return Some(format!(
                "the replica on broker {id} is out of service, or not open yet, and may hold more: ask \
                 again; `partition raft` tells more"
            ));
        }
        // Of equals the first: two that are asked at a time never both go on.
        let is_ahead = (held.last, Reverse(*node)) > (here.last, Reverse(cluster.me));
        let how = if held.last == here.last { "as much" } else { "more" };
        is_ahead.then(|| format!("broker {id} holds {how}: recover it from there"))
    })
}

/// Partitions all of whose replicas are lost.
fn gone(machine: &Machine, lost: &BTreeSet<NodeId>) -> Vec<TopicPartition> {
    let is_lost = |id: &BrokerId| lost.iter().any(|node| node.broker == *id);
    let gone = machine.live_partitions();
    let gone = gone.filter(|(_, partition)| partition.brokers().iter().all(is_lost));
    let name = |(group, _): (GroupId, _)| TopicPartition {
        topic: topic_name(machine, group),
        partition: group.partition.0,
    };
    gone.map(name).collect()
}
