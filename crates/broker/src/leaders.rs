//! What this broker does about the partitions that it leads: it reports them, so that the metadata
//! knows, and slowly hands those over that another replica should lead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidelog_raft::{DiskSpace, RaftStatus, Role};
use tidelog_state::metadata::{Command, LeaderReport};
use tidelog_types::{GroupId, NodeId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use crate::cluster::Cluster;
use crate::core::Core;
use crate::hosted::Replica;

/// Reports gathered before they are sent: many groups elect at once.
const GATHER: Duration = Duration::from_millis(5);

/// How often everything is looked at, whatever was missed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reports in one command.
const REPORTS_MAX: usize = 1_000;

/// How long a report may take.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between two looks at who should lead.
const BALANCE_EVERY: Duration = Duration::from_secs(5);

/// How long a broker must have been alive before leadership goes back to it.
const ALIVE_FOR: Duration = Duration::from_secs(10);

/// Partitions handed over in one look: each costs its producers a moment.
const HANDED_OVER_MAX: usize = 8;

/// Pause between two of them.
const HAND_OVER_PAUSE: Duration = Duration::from_millis(200);

/// Pause between two looks at whether the disk is nearly full.
const RELIEVE_EVERY: Duration = Duration::from_millis(250);

/// Entries that the next leader may lack.
const LAG_ENTRIES_MAX: u64 = 1_000;

/// Reports leaderships until the node stops.
pub(crate) async fn report(cluster: Arc<Cluster>) {
    let (changed, mut changes) = mpsc::channel(1);
    let mut watched: BTreeMap<GroupId, tokio::task::JoinHandle<()>> = BTreeMap::new();
    loop {
        watch_new(&cluster, &mut watched, &changed);
        let reports = due(&cluster);
        if !reports.is_empty() {
            send(&cluster, reports).await;
        }
        // A timeout is as good as a change: it looks at everything.
        if let Ok(Some(())) = timeout(LOOK_EVERY, changes.recv()).await {
            sleep(GATHER).await;
        }
    }
}

/// Has each replica's changes of leadership ring the bell.
fn watch_new(
    cluster: &Cluster,
    watched: &mut BTreeMap<GroupId, tokio::task::JoinHandle<()>>,
    bell: &mpsc::Sender<()>,
) {
    watched.retain(|_, task| !task.is_finished());
    for replica in cluster.hosted.all() {
        let Some(mut leadership) = replica.leadership_changes() else { continue };
        watched.entry(replica.group).or_insert_with(|| {
            let bell = bell.clone();
            tokio::spawn(async move {
                while leadership.changed().await.is_ok() {
                    // A full bell rings already.
                    let _ = bell.try_send(());
                }
            })
        });
    }
}

/// What the metadata does not know yet.
fn due(cluster: &Cluster) -> Vec<LeaderReport> {
    let machine = cluster.machine();
    let report = |replica: Arc<Replica>| {
        let now = replica.leadership()?;
        let (group, term) = (replica.group, now.term);
        let known = machine.partition(group)?.leader;
        let news = known.is_none_or(|known| known.term < term);
        let leads = now.role == Role::Leader && now.ready;
        (leads && news).then_some(LeaderReport { group, term, leader: cluster.me })
    };
    cluster.hosted.all().into_iter().filter_map(report).take(REPORTS_MAX).collect()
}

async fn send(cluster: &Cluster, reports: Vec<LeaderReport>) {
    let count = reports.len();
    let command = Command::ReportLeaders { reports };
    match cluster.propose(&command, Instant::now() + REPORT_TIMEOUT).await {
        Ok(_) => debug!(count, "reported leaderships"),
        Err(err) => warn!(%err, count, "leaderships are not reported yet"),
    }
}

/// Hands leaderships to their preferred replicas until the node stops.
pub(crate) async fn balance(core: Arc<Core>, cluster: Arc<Cluster>) {
    let mut alive_since: BTreeMap<NodeId, Instant> = BTreeMap::new();
    loop {
        sleep(BALANCE_EVERY).await;
        if *core.stopping.borrow() {
            return;
        }
        let live = cluster.node.live();
        alive_since.retain(|node, _| live.contains(node));
        for node in live {
            alive_since.entry(node).or_insert_with(Instant::now);
        }
        let settled =
            |node: &NodeId| alive_since.get(node).is_some_and(|since| since.elapsed() >= ALIVE_FOR);
        let mut handed_over = 0;
        for replica in cluster.hosted.all() {
            if handed_over == HANDED_OVER_MAX {
                break;
            }
            if let Some(to) = better_leader(&cluster, &replica, settled) {
                hand_over(&core, &replica, to).await;
                handed_over += 1;
                sleep(HAND_OVER_PAUSE).await;
            }
        }
    }
}

/// Hands partitions over while the disk is nearly full, to replicas whose disk is not, until the node
/// stops. Where there is none, producers are told.
pub(crate) async fn relieve(core: Arc<Core>, cluster: Arc<Cluster>) {
    loop {
        sleep(RELIEVE_EVERY).await;
        if *core.stopping.borrow() {
            return;
        }
        if cluster.node.space() == DiskSpace::Enough {
            continue;
        }
        let low = cluster.node.low_on_space();
        let live = cluster.node.live();
        for replica in cluster.hosted.all() {
            if let Some(to) = relief(&replica, &live, &low) {
                hand_over(&core, &replica, to).await;
            }
        }
    }
}

/// Who lacks least of those that could lead a partition instead of this broker; nobody, where too few
/// replicas have room for writes to go on.
fn relief(replica: &Replica, live: &BTreeSet<NodeId>, low: &BTreeSet<NodeId>) -> Option<NodeId> {
    replica.partition()?;
    replica.leadership().filter(|now| now.role == Role::Leader && now.ready)?;
    let status = replica.raft_status()?;
    let matched = |node: &NodeId| status.matched.get(node).copied().flatten();
    let could = |node: &&NodeId| live.contains(node) && !low.contains(node);
    if status.voters.iter().filter(could).count() <= status.voters.len() / 2 {
        return None;
    }
    let best = status.voters.iter().filter(could).max_by_key(|node| matched(node))?;
    lacks_little(&status, *best).then_some(*best)
}

/// Whether a node lacks so little that it could lead at once.
fn lacks_little(status: &RaftStatus, node: NodeId) -> bool {
    let last = status.last.map_or(0, |last| last.index.0);
    let matched = status.matched.get(&node).copied().flatten();
    matched.is_some_and(|matched| last.saturating_sub(matched.0) <= LAG_ENTRIES_MAX)
}

/// Who should lead instead of this broker: the first replica that is not on a broker that is being
/// drained, once it has been alive for a while and lacks little.
fn better_leader(
    cluster: &Cluster,
    replica: &Replica,
    settled: impl Fn(&NodeId) -> bool,
) -> Option<NodeId> {
    let now = replica.leadership().filter(|now| now.role == Role::Leader && now.ready)?;
    debug_assert!(now.leader.is_none_or(|leader| leader == cluster.me));
    let machine = cluster.machine();
    let partition = machine.partition(replica.group)?;
    let stays = |node: &NodeId| machine.broker(node.broker).is_some_and(|it| !it.is_draining);
    let preferred = machine.target_nodes(partition).into_iter().find(stays)?;
    if preferred == cluster.me || !settled(&preferred) {
        return None;
    }
    if cluster.node.low_on_space().contains(&preferred) {
        return None;
    }
    let status = replica.raft_status()?;
    let could = status.voters.contains(&preferred) && lacks_little(&status, preferred);
    could.then_some(preferred)
}

async fn hand_over(core: &Core, replica: &Replica, to: NodeId) {
    let (topic, number) = (&replica.topic, replica.group.partition);
    match replica.transfer_leader(to).await {
        Ok(()) => {
            core.counters.rebalanced.add(1);
            info!(%topic, partition = %number, node = %to, "handed leadership over");
        }
        Err(err) => info!(%topic, partition = %number, node = %to, %err, "kept leadership"),
    }
}
