//! What a node does by itself, for as long as it runs: follows who lives and dies, cleans logs, saves
//! votes, and tells how far each partition can be read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tidelog_log::Log;
use tidelog_types::{NodeId, canary};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tracing::info;

use super::{Hosted, Kind, Shared};
use crate::link::peer::PeerStatus;
use crate::partition::View;
use crate::replica::Member;
use crate::space::DiskSpace;
use crate::store::machines::Progress;

/// How long one group may take of a round of cleaning.
const CLEAN_PATIENCE: Duration = Duration::from_secs(1);

/// Pause between two voters that may take over, so that the first is not disturbed: so long, and so much
/// longer for each group that lost its leader, for their elections share the processors.
const TAKE_OVER_STEP: Duration = Duration::from_millis(120);
const TAKE_OVER_STEP_EACH: Duration = Duration::from_millis(2);
const TAKE_OVER_STEP_MAX: Duration = Duration::from_secs(1);

/// How often what was noted lazily of the votes is written: commits and durable marks.
const VOTES_EVERY: Duration = Duration::from_secs(1);

/// Pause between two tries to hand over what is led on a full disk.
const HAND_OVER_EVERY: Duration = Duration::from_millis(500);

/// What can be read of a partition: moves with what is applied and with what is written here.
pub(super) fn follow_view(
    log: &Arc<Log>,
    mut progress: watch::Receiver<Progress>,
) -> watch::Receiver<View> {
    let (sender, view) = watch::channel(View::default());
    let written = Arc::new(tokio::sync::Notify::new());
    let wake = Arc::clone(&written);
    log.on_written(Arc::new(move || wake.notify_one()));
    let log = Arc::downgrade(log);
    tokio::spawn(async move {
        loop {
            let now = *progress.borrow_and_update();
            let Some(log) = log.upgrade() else { return };
            let next = View::of(now, &log);
            drop(log);
            sender.send_if_modified(|view| std::mem::replace(view, next) != next);
            let behind = next.readable < now.high_watermark || canary!(ReadAboveCommit);
            tokio::select! {
                biased;
                changed = progress.changed() => if changed.is_err() { return },
                // Only a disk slower than its quorum makes the write the later of the two.
                () = written.notified(), if behind => {}
            }
        }
    });
    view
}

/// When a broker dies, its groups' next live voters take over at once.
pub(super) async fn follow_deaths(shared: Arc<Shared>, mut died: mpsc::UnboundedReceiver<NodeId>) {
    while let Some(dead) = died.recv().await {
        let mut live = shared.peers.live();
        live.remove(&dead);
        let mut orphans = shared.members();
        orphans.retain(|member| member.is_led_by(dead));
        if orphans.is_empty() {
            continue;
        }
        info!(node = %dead, groups = orphans.len(), "a leader died");
        let step = TAKE_OVER_STEP + TAKE_OVER_STEP_EACH * orphans.len() as u32;
        let step = step.min(TAKE_OVER_STEP_MAX);
        let take_over = |member: &Arc<dyn Member>| member.take_over(dead, &live, step);
        let taking_over: Vec<_> = orphans.iter().filter_map(take_over).collect();
        tokio::spawn(join_all(taking_over));
    }
}

/// When a broker is back, replication to it starts at once instead of after a backoff.
pub(super) async fn follow_returns(shared: Arc<Shared>) {
    let mut liveness = shared.peers.liveness();
    let mut before: BTreeMap<NodeId, PeerStatus> = BTreeMap::new();
    while liveness.changed().await.is_ok() {
        let now = liveness.borrow_and_update().clone();
        for (node, status) in &now {
            if *status == PeerStatus::Live && before.get(node) != Some(&PeerStatus::Live) {
                join_all(shared.members().iter().map(|member| member.peer_returned(*node))).await;
            }
        }
        before = now;
    }
}

pub(super) async fn clean(shared: Arc<Shared>) {
    loop {
        sleep(shared.config.clean_every).await;
        clean_once(&shared).await;
    }
}

pub(super) async fn clean_once(shared: &Shared) {
    let hosted: Vec<Hosted> = shared.groups().values().cloned().collect();
    for group in hosted {
        if let Kind::Partition(partition) = &group.kind {
            // A partition without a quorum must not hold up the others.
            drop(timeout(CLEAN_PATIENCE, partition.retain()).await);
            super::compact::roll(shared, partition, shared.env.clock.now()).await;
        }
        drop(timeout(CLEAN_PATIENCE, group.member.clean()).await);
    }
}

/// While the disk is full, hands over what this node leads of commands to nodes with room, for as long as
/// it leads some: their entries pile up here, though others write them. Partitions are handed over sooner, by
/// whoever hosts them.
pub(super) async fn hand_over_when_full(shared: Arc<Shared>) {
    let mut space = shared.space.subscribe();
    while space.wait_for(|space| *space == DiskSpace::Full).await.is_ok() {
        let low = shared.peers.low_on_space();
        let roomy: BTreeSet<_> = shared.peers.live().difference(&low).copied().collect();
        let commands: Vec<_> = {
            let groups = shared.groups();
            let of_commands = groups.values().filter(|it| !matches!(it.kind, Kind::Partition(_)));
            of_commands.map(|hosted| Arc::clone(&hosted.member)).collect()
        };
        let hand_over = |member: Arc<dyn Member>| {
            let (shared, roomy) = (Arc::clone(&shared), &roomy);
            async move { member.hand_over(roomy, &*shared).await }
        };
        // To its end, which each has by itself: one that is broken off refuses all writes.
        join_all(commands.into_iter().map(hand_over)).await;
        sleep(HAND_OVER_EVERY).await;
    }
}

pub(super) async fn save_votes(shared: Arc<Shared>) {
    loop {
        sleep(VOTES_EVERY).await;
        shared.votes.tick();
    }
}
