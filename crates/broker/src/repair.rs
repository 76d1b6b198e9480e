//! The way back of a replica that stepped out because its disk is damaged.
//!
//! What is found while the replica is open comes from the node's scrubber; what is found when it is
//! opened comes from `reconcile`. Either way it stays out, is filled up again from its leader, and is
//! opened anew.

use std::sync::Arc;
use std::time::Duration;

use tidelog_raft::{SteppedOut, with_sources};
use tidelog_types::{GroupId, NodeId};
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::cluster::Cluster;
use crate::hosted::ReplicaState;

/// Pause before the first further try to fill a replica up, and the longest one.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(10);

/// Takes replicas out in which damage was found that cannot be mended while they are open; ends with
/// the node.
pub(crate) async fn take_out(cluster: Arc<Cluster>) {
    // Asked for once, when the broker starts.
    let Some(mut outs) = cluster.node.stepping_out() else { return };
    while let Some(SteppedOut { group, reason, .. }) = outs.recv().await {
        if group == GroupId::METADATA {
            error!(
                reason,
                "the metadata on this disk is damaged: restart this broker to repair it"
            );
            continue;
        }
        match cluster.node.step_out(group).await {
            Ok(true) => {}
            // Told twice.
            Ok(false) => continue,
            Err(err) => {
                // Closed all the same; it says why when it is opened.
                warn!(%group, err = with_sources(&err), "a damaged replica is not marked as such");
            }
        }
        warn!(%group, reason, "took a damaged replica out of its group");
        // Opened again it is refused, and that has it filled up.
        cluster.hosted.remove(group);
        cluster.reopen.notify_one();
    }
}

/// Fills a replica up that is out, for as long as it is, and has it opened.
pub(crate) async fn bring_back(cluster: Arc<Cluster>, group: GroupId, voters: Vec<NodeId>) {
    let mut pause = AGAIN_AFTER;
    loop {
        sleep(pause).await;
        pause = (pause * 2).min(AGAIN_AFTER_MAX);
        let hosted = cluster.hosted.find(group);
        // Deleted, with its topic.
        if hosted.is_none_or(|replica| !matches!(replica.state, ReplicaState::Out(_))) {
            return;
        }
        match cluster.node.refill(group, &voters).await {
            Ok(refilled) => {
                info!(%group, ?refilled, "a replica comes back");
                cluster.hosted.remove(group);
                cluster.reopen.notify_one();
                return;
            }
            Err(err) => warn!(%group, err = with_sources(&err), "a replica stays out"),
        }
    }
}
