//! How a group comes to life: its first membership, and its first election.
//!
//! Every voter writes the first membership by itself, before it takes part in anything: the same
//! entry at the same position on each, so it is as if a leader had sent it to all. Any majority of
//! the voters can then elect a leader, whichever of them die on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::{EntryPayload, Membership};
use tidelog_log::Log;
use tidelog_types::{LogPosition, NodeId};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::debug;

use crate::config::Entry;
use crate::replica::Replica;
use crate::store::applier::Machine;
use crate::store::entry;

/// What a node does for a group as it opens its replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Founding {
    /// Nothing: the group has had a leader, which tells its members whatever they lack.
    Over,
    /// The group is being created: writes the first membership into a log that is empty.
    Follows,
    /// The same, and stands for the first election at once, while the others would wait for theirs.
    Leads,
}

/// Pause after the first try of the first election: the other voters open their replicas meanwhile. Each
/// pause is twice the one before, for a new try ends an election that is only slow.
const FIRST_ELECTION_PAUSE: Duration = Duration::from_millis(20);

/// Tries of the first election. After them the usual timeouts of elections are in charge.
const FIRST_ELECTION_TRIES: u32 = 6;

/// Writes the first membership, unless the log holds or held something, and waits for the disk.
pub(super) async fn write_first_membership(
    log: &Arc<Log>,
    voters: BTreeSet<NodeId>,
) -> io::Result<()> {
    if log.frontier().last.is_some() || log.purged().is_some() {
        return Ok(());
    }
    let nodes: BTreeMap<NodeId, ()> = voters.iter().map(|node| (*node, ())).collect();
    let members = Membership::new(vec![voters], nodes).map_err(io::Error::other)?;
    let first = Entry::at(LogPosition::default(), EntryPayload::Membership(members));
    let (done, written) = oneshot::channel();
    let done = Box::new(move |result| drop(done.send(result)));
    // Whoever opens the group holds up all others, and tries again.
    log.be_patient(false);
    log.append(vec![entry::into_new(first)?], done).map_err(io::Error::other)?;
    let written = written.await.map_err(|_| io::Error::other("flusher stopped"))?;
    written.map_err(|err| io::Error::new(err.kind(), err))?;
    log.be_patient(true);
    Ok(())
}

/// Stands for election until somebody leads, by asking first: no vote is spent on voters that are
/// not there yet.
pub(super) async fn stand_first<M: Machine>(replica: Replica<M>) {
    let mut leadership = replica.leadership.clone();
    for tried in 0..FIRST_ELECTION_TRIES {
        if let Err(err) = replica.raft.trigger().elect(true).await {
            debug!(group = %replica.group, %err, "the first election is off");
            return;
        }
        let led = leadership.wait_for(|now| now.leader.is_some());
        if timeout(FIRST_ELECTION_PAUSE * (1 << tried), led).await.is_ok() {
            return;
        }
    }
}
