//! Takes replicas off the brokers that are being drained, and off those that have been gone for too long,
//! a few at a time. Only the leader of the metadata does anything, and it keeps nothing: whoever leads
//! next goes on from the metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidelog_raft::Role;
use tidelog_state::metadata::{Broker, Command, Grounds, Machine, Partition, evacuate};
use tidelog_types::{BrokerId, GroupId, NodeId};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::cluster::{CATCH_UP_TIMEOUT, Cluster};
use crate::config::Config;
use crate::mover::{is_settled, shown};

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Partitions that move at a time, whoever asked for it. Larger: it is over sooner. Smaller: it disturbs
/// less, and less is half done when it is called off.
const MOVING_MAX: usize = 16;

/// How long the command may take.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Drains until the node stops.
pub(crate) async fn follow(cluster: Arc<Cluster>, config: Config) {
    let rebuild_after = Some(config.replicas.rebuild_after.0).filter(|after| !after.is_zero());
    loop {
        sleep(LOOK_EVERY).await;
        let now = *cluster.metadata.leadership().borrow();
        if now.role != Role::Leader || !now.ready {
            cluster.missed.send_replace(None);
            continue;
        }
        let live = cluster.live_brokers();
        let mut lost = BTreeSet::new();
        cluster.missed.send_modify(|missed| {
            let missed = missed.get_or_insert_default();
            missed.look(&cluster.machine(), &live);
            lost = rebuild_after.map(|after| missed.longer_than(after)).unwrap_or_default();
        });
        let shut_out = shut_out(&cluster);
        mark(&cluster, &shut_out).await;
        lost.extend(shut_out);
        drain(&cluster, &live, &lost).await;
    }
}

/// Brokers of the cluster that were declared lost for good.
fn shut_out(cluster: &Cluster) -> BTreeSet<BrokerId> {
    let (machine, out) = (cluster.machine(), cluster.node.lost());
    let is_known = |node: &&NodeId| machine.broker(node.broker).is_some_and(|b| b.node() == **node);
    out.iter().filter(is_known).map(|node| node.broker).collect()
}

/// Marks brokers as being drained, as soon as there are others for what they had: a leader that comes after
/// this one need not know that they were declared lost.
async fn mark(cluster: &Cluster, shut_out: &BTreeSet<BrokerId>) {
    for broker in shut_out.iter().copied() {
        let machine = cluster.machine();
        if machine.broker(broker).is_none_or(|known| known.is_draining) {
            continue;
        }
        let command = Command::DrainBroker { broker, draining: true };
        if machine.rehearse(&command, cluster.node.now()).is_err() {
            continue;
        }
        match cluster.propose(&command, Instant::now() + PROPOSE_TIMEOUT).await {
            Ok(_) => info!(%broker, "a lost broker is to be drained"),
            Err(err) => warn!(%err, %broker, "a lost broker is not to be drained yet"),
        }
    }
}

/// Has some partitions moved, if there is room for more.
async fn drain(cluster: &Cluster, live: &BTreeSet<BrokerId>, lost: &BTreeSet<BrokerId>) {
    if !has_work(&cluster.machine(), lost) {
        return;
    }
    // What was asked for meanwhile is not undone by a leader that was.
    if cluster.catch_up(Instant::now() + CATCH_UP_TIMEOUT).await.is_err() {
        return;
    }
    let machine = cluster.machine();
    let from = from(&machine, lost);
    let counts =
        |(_, partition): &(GroupId, &Partition)| is_moving(&machine, partition, &from, live);
    let room = MOVING_MAX.saturating_sub(machine.live_partitions().filter(counts).count());
    let takers = takers(cluster, &machine, live).difference(lost).copied().collect();
    let grounds = Grounds { takers: &takers, bytes: &BTreeMap::new(), moves_max: room };
    let moves = evacuate(&machine, &from, grounds).moves;
    if moves.is_empty() {
        return;
    }
    let (partitions, command) = (moves.len(), Command::MovePartitions { moves });
    let brokers = shown(&from);
    match cluster.propose(&command, Instant::now() + PROPOSE_TIMEOUT).await {
        Ok(_) => info!(brokers, partitions, "partitions leave brokers"),
        Err(err) => warn!(%err, brokers, "partitions do not leave brokers yet"),
    }
}

/// Whether a partition should have a replica on a broker that is to be emptied.
fn has_work(machine: &Machine, lost: &BTreeSet<BrokerId>) -> bool {
    let from = from(machine, lost);
    let concerns = |partition: &Partition| partition.replicas.iter().any(|id| from.contains(id));
    !from.is_empty() && machine.live_partitions().any(|(_, partition)| concerns(partition))
}

/// Whether a partition takes up one of the places of those that move. One that is on its way to a broker
/// that is to be emptied does not, for it will be told something else; and neither does one that cannot
/// move, for most of its replicas are gone.
fn is_moving(
    machine: &Machine,
    partition: &Partition,
    from: &BTreeSet<BrokerId>,
    live: &BTreeSet<BrokerId>,
) -> bool {
    !is_settled(machine, partition)
        && partition.has_majority(|node| live.contains(&node.broker))
        && !partition.replicas.iter().any(|id| from.contains(id))
}

/// Brokers to be emptied.
fn from(machine: &Machine, lost: &BTreeSet<BrokerId>) -> BTreeSet<BrokerId> {
    let draining = machine.brokers().filter(|broker| broker.is_draining).map(|broker| broker.id);
    draining.chain(lost.iter().copied()).collect()
}

/// Brokers that may be given replicas: alive, not to be emptied, with room on their disk.
pub(crate) fn takers(
    cluster: &Cluster,
    machine: &Machine,
    live: &BTreeSet<BrokerId>,
) -> BTreeSet<BrokerId> {
    let low = cluster.node.low_on_space();
    let could = |broker: &&Broker| {
        !broker.addresses.is_empty() && live.contains(&broker.id) && !low.contains(&broker.node())
    };
    machine.takers().filter(could).map(|broker| broker.id).collect()
}
