//! Who leads a group, as one replica sees it, and whether it may serve.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use openraft::{Instant as _, Raft, ServerState};
use tidelog_types::{GroupId, NodeId, Term, canary};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, info};

use crate::config::TypeConfig;
use crate::latest::latest;
use crate::quiescence::Quiescence;
use crate::store::applier::{Applier, Machine};
use crate::store::machines::Progress;

/// What a replica is in its group now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Proposes and replicates.
    Leader,
    /// Follows.
    #[default]
    Follower,
    /// Stands for election.
    Candidate,
    /// Follows without a vote.
    Learner,
}

/// Who leads a group, as one replica sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The replica's term.
    pub term: Term,
    /// The leader of that term, when known.
    pub leader: Option<NodeId>,
    /// What the replica is.
    pub role: Role,
    /// It leads, has applied its own first entry and heard from a quorum within 2 s. Only then may
    /// it serve: before, its watermark could lie below the one that consumers have seen.
    pub ready: bool,
}

/// Silence of the quorum after which a leader stops serving (H15): it never steps down by itself.
const QUORUM_SILENCE_MAX: Duration = Duration::from_secs(2);

/// How often a leader checks its quorum.
const QUORUM_CHECK: Duration = Duration::from_millis(250);

/// How often a new leader checks whether it may serve.
const READY_CHECK: Duration = Duration::from_millis(10);

/// Tells who leads, as it changes, until the engine stops.
pub(crate) async fn follow_leadership<M: Machine>(
    group: GroupId,
    me: NodeId,
    raft: Raft<TypeConfig, Applier<M>>,
    mut progress: watch::Receiver<Progress>,
    quiescence: Arc<Quiescence>,
    sender: watch::Sender<Leadership>,
) {
    let mut server = raft.server_metrics();
    let mut sleep_changes = quiescence.changes();
    loop {
        let now = look(&raft, &latest(&server, Clone::clone), &progress, &quiescence, me);
        let before = *sender.borrow();
        if now != before {
            sender.send_replace(now);
            // A new leader needs its timers.
            if (now.term, now.leader, now.role) != (before.term, before.leader, before.role) {
                quiescence.touch();
                quiescence.wake();
            }
            if now.role == Role::Leader && before.role != Role::Leader {
                info!(%group, epoch = now.term.0, "became leader");
            } else if before.role == Role::Leader && now.role != Role::Leader {
                info!(%group, epoch = now.term.0, "lost leadership");
            }
        }
        let leads = now.role == Role::Leader;
        tokio::select! {
            biased;
            changed = server.changed() => if changed.is_err() { break },
            // Until it is ready a leader waits for its own entry to be applied.
            changed = progress.changed(), if leads && !now.ready => if changed.is_err() { break },
            // The quorum's answer shows in the metrics without an event of its own. While the group sleeps,
            // answers to beats take its place, and it is woken when they stay away.
            () = sleep(if now.ready { QUORUM_CHECK } else { READY_CHECK }),
                if leads && quiescence.is_awake() => {}
            () = sleep_changes.next() => {}
        }
    }
    if let Err(fatal) = latest(&raft.metrics(), |metrics| metrics.running_state.clone())
        && !matches!(fatal, Fatal::Stopped)
    {
        error!(%group, err = %fatal, "replica stopped: it takes no part in its group any more");
    }
    sender.send_modify(|now| {
        now.role = Role::Follower;
        now.ready = false;
        now.leader = None;
    });
    // Who has no engine tells and confirms nothing any more.
    quiescence.wake();
}

fn look<M: Machine>(
    raft: &Raft<TypeConfig, Applier<M>>,
    server: &openraft::metrics::RaftServerMetrics<TypeConfig>,
    progress: &watch::Receiver<Progress>,
    quiescence: &Quiescence,
    me: NodeId,
) -> Leadership {
    let term = Term(server.vote.leader_id.term);
    let role = match server.state {
        ServerState::Leader => Role::Leader,
        ServerState::Candidate => Role::Candidate,
        ServerState::Learner => Role::Learner,
        ServerState::Follower | ServerState::Shutdown => Role::Follower,
    };
    let heard = || {
        if canary!(DeposedLeaderServes) {
            return true;
        }
        let acked = latest(&raft.metrics(), |metrics| metrics.last_quorum_acked);
        let by_beats = quiescence.confirmed().map(|at| at.elapsed());
        let silent = acked.map(|at| at.elapsed()).into_iter().chain(by_beats).min();
        silent.is_some_and(|silent| silent < QUORUM_SILENCE_MAX)
    };
    // A lone voter is its own quorum, and no answer ever moves its clock.
    let alone = || server.membership_config.voter_ids().eq([me]);
    let ready =
        role == Role::Leader && progress.borrow().term() == Some(term) && (heard() || alone());
    Leadership { term, leader: server.current_leader, role, ready }
}
