//! Brings the partitions that this broker leads to where they should be.
//!
//! The way of a move: a new target in the metadata -> here, at whoever leads the partition: one step of
//! its group after the other -> a report once it is there -> `reconcile` of the brokers that it has left.
//!
//! A step is taken only towards a target that was asked for after this broker was elected: see
//! `state::metadata::moves` for what depends on it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tidelog_raft::{MemberError, MemberStep, Role, Target};
use tidelog_state::metadata::{Command, Machine, MembersReport, Partition};
use tidelog_types::{GroupId, NodeId, Term};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use crate::cluster::{CATCH_UP_TIMEOUT, Cluster};
use crate::hosted::Replica;

/// Partitions that take a step at a time. Larger: moves are faster. Smaller: they disturb less.
const AT_A_TIME: usize = 8;

/// How often it is looked whether anything is to move, whatever was missed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Pause between two steps of what moves.
const STEP_PAUSE: Duration = Duration::from_millis(100);

/// How long one step may take: a change of members needs a majority.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a report may take.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Moves what this broker leads until the node stops.
pub(crate) async fn follow(cluster: Arc<Cluster>) {
    let mut changes = cluster.machine_changes();
    loop {
        changes.borrow_and_update();
        let due = due(&cluster);
        if due.is_empty() {
            match timeout(LOOK_EVERY, changes.changed()).await {
                // The replica of the metadata has stopped: there is nothing to go by any more.
                Ok(Err(_)) => return,
                Ok(Ok(())) | Err(_) => continue,
            }
        }
        step_all(&cluster, due).await;
        sleep(STEP_PAUSE).await;
    }
}

/// A partition that this broker leads, and the term in which it does.
struct Due {
    replica: Arc<Replica>,
    term: Term,
}

fn due(cluster: &Cluster) -> Vec<Due> {
    let machine = cluster.machine();
    let due = |replica: Arc<Replica>| {
        let partition = machine.partition(replica.group)?;
        if partition.is_creating() || is_settled(&machine, partition) {
            return None;
        }
        let now = replica.leadership().filter(|now| now.role == Role::Leader && now.ready)?;
        Some(Due { replica, term: now.term })
    };
    cluster.hosted.all().into_iter().filter_map(due).collect()
}

/// Whether the partition is where it should be, as far as was reported.
pub(crate) fn is_settled(machine: &Machine, partition: &Partition) -> bool {
    let voters: BTreeSet<NodeId> = partition.voters.iter().copied().collect();
    let target: BTreeSet<NodeId> = machine.target_nodes(partition).into_iter().collect();
    voters == target && partition.leaving.iter().all(|leaving| leaving.released)
}

async fn step_all(cluster: &Cluster, due: Vec<Due>) {
    // After the elections that `due` saw: whatever was released before them is known from here on.
    if let Err(err) = cluster.catch_up(Instant::now() + CATCH_UP_TIMEOUT).await {
        debug!(%err, "nothing moves without news of the metadata");
        return;
    }
    let machine = cluster.machine();
    let steps = due.into_iter().map(|due| step(&machine, due));
    let reports: Vec<_> = stream::iter(steps)
        .buffer_unordered(AT_A_TIME)
        .filter_map(|report| async move { report })
        .collect()
        .await;
    if reports.is_empty() {
        return;
    }
    let command = Command::ReportMembers { reports };
    if let Err(err) = cluster.propose(&command, Instant::now() + REPORT_TIMEOUT).await {
        warn!(%err, "moved partitions are not reported yet");
    }
}

/// Takes one step; the report once there is none left.
async fn step(machine: &Machine, Due { replica, term }: Due) -> Option<MembersReport> {
    let group = replica.group;
    let partition = machine.partition(group)?;
    let revision = partition.revision;
    let voters = machine.target_nodes(partition).into_iter().collect();
    let target = Target { voters, ..Target::default() };
    let stepped = timeout(STEP_TIMEOUT, replica.step_towards(term, &target)).await;
    let name = Name { topic: replica.topic.as_str(), group };
    match stepped {
        Ok(Ok(MemberStep::There { at, voters })) => {
            info!(%name, voters = %shown(&voters), "a partition is where it should be");
            Some(MembersReport { group, at, voters, revision })
        }
        Ok(Ok(MemberStep::Changed)) => {
            info!(%name, "a partition came one step closer to its brokers");
            None
        }
        Ok(Ok(waiting)) => {
            debug!(%name, ?waiting, "a partition is on its way");
            None
        }
        // Whoever leads now goes on.
        Ok(Err(MemberError::NotLeader)) => None,
        Ok(Err(err)) => {
            warn!(%name, %err, "a partition does not move yet");
            None
        }
        Err(_) => {
            warn!(%name, "a partition does not move yet: no majority of it answers");
            None
        }
    }
}

/// Nodes or brokers as people write them.
pub(crate) fn shown<T: ToString>(nodes: impl IntoIterator<Item = T>) -> String {
    nodes.into_iter().map(|node| node.to_string()).collect::<Vec<_>>().join(",")
}

/// A partition as people write it.
struct Name<'a> {
    topic: &'a str,
    group: GroupId,
}

impl std::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.group.partition)
    }
}
