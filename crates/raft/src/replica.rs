//! One group's engine on this node: what partitions and the metadata group share.

mod sleep;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryFutureExt};
use openraft::errors::Fatal;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendResult, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::vote::RaftVote;
use openraft::{Instant as _, Raft, RaftMetrics, ReadPolicy};
use tidelog_log::{Log, StartPoint};
use tidelog_types::{GroupId, LogIndex, LogPosition, NodeId, Term, canary};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};

use crate::config::{Entry, Members, Payload, TypeConfig, Vote, log_id, position};
use crate::latest::latest;
use crate::leadership::{Leadership, Role, follow_leadership};
use crate::link::server::Port;
use crate::quiescence::{Answered, Led, Quiescence};
use crate::store::applier::{Applier, Machine, as_snapshot};
use crate::store::machines::Progress;

/// Where a replica's Raft stands, for people.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RaftStatus {
    /// Term, leader and role.
    pub leadership: Leadership,
    /// The last entry of the log.
    pub last: Option<LogPosition>,
    /// The last entry known to be committed.
    pub committed: Option<LogPosition>,
    /// The last applied entry.
    pub applied: Option<LogPosition>,
    /// The entry before the first retained one.
    pub purged: Option<LogPosition>,
    /// Members that vote.
    pub voters: Vec<NodeId>,
    /// Members that do not.
    pub learners: Vec<NodeId>,
    /// On the leader: how far each member's log is known to match.
    pub matched: BTreeMap<NodeId, Option<LogIndex>>,
    /// On the leader: how long ago each other member answered last; without those that never did.
    pub silent: BTreeMap<NodeId, Duration>,
    /// Why the engine has stopped, if it has.
    pub stopped: Option<String>,
}

/// How long a transfer of leadership may take before another voter is made to campaign (H14).
const TRANSFER_PATIENCE: Duration = Duration::from_millis(500);

/// How often the target of a transfer is looked at until it has caught up.
const MATCHED_CHECK: Duration = Duration::from_millis(10);

/// A group's engine. Clones share it.
pub(crate) struct Replica<M: Machine> {
    pub(crate) group: GroupId,
    pub(crate) me: NodeId,
    pub(crate) raft: Raft<TypeConfig, Applier<M>>,
    pub(crate) log: Arc<Log>,
    /// Takes part in elections once its log goes so far: it did before the replica was given up.
    owed: LogIndex,
    pub(crate) leadership: watch::Receiver<Leadership>,
    /// Whether the group sleeps.
    quiescence: Arc<Quiescence>,
    /// Told when the engine is to end, whatever it waits for.
    closing: Arc<watch::Sender<bool>>,
}

impl<M: Machine> Clone for Replica<M> {
    fn clone(&self) -> Self {
        Self {
            group: self.group,
            me: self.me,
            raft: self.raft.clone(),
            log: Arc::clone(&self.log),
            owed: self.owed,
            leadership: self.leadership.clone(),
            quiescence: Arc::clone(&self.quiescence),
            closing: Arc::clone(&self.closing),
        }
    }
}

impl<M: Machine> fmt::Debug for Replica<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("group", &self.group).finish_non_exhaustive()
    }
}

/// How often a replica made anew is looked at: whether it has all that it had.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why a group did not do what was asked; nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("not the leader of the group")]
    NotLeader(Option<NodeId>),
    #[error("{0}")]
    Other(String),
}

impl<M: Machine> Replica<M> {
    /// Wraps an engine and follows its leadership until the engine stops.
    pub(crate) fn new(
        group: GroupId,
        raft: Raft<TypeConfig, Applier<M>>,
        log: Arc<Log>,
        owed: LogIndex,
        progress: watch::Receiver<Progress>,
        answered: Arc<Answered>,
        closing: watch::Sender<bool>,
    ) -> Self {
        let me = *raft.node_id();
        let (sender, leadership) = watch::channel(Leadership::default());
        let engine = raft.clone();
        let ticks = Box::new(move |on| engine.runtime_config().tick(on));
        let quiescence = Arc::new(Quiescence::new(answered, ticks));
        let sleeping = Arc::clone(&quiescence);
        tokio::spawn(follow_leadership(group, me, raft.clone(), progress, sleeping, sender));
        if !log.has_reached(owed) {
            tokio::spawn(stand_when_whole(group, raft.clone(), Arc::downgrade(&log), owed));
        }
        Self { group, me, raft, log, owed, leadership, quiescence, closing: Arc::new(closing) }
    }

    /// Refuses to take part in an election with less than was held when the replica was given up.
    ///
    /// The others did without it by a membership that this node had acked, as a voter of the one before.
    /// Who has not heard of that membership counts it still: with its empty log it would help such a node
    /// to lead that lacks what was acked since.
    fn may_elect(&self) -> Result<(), String> {
        if self.log.has_reached(self.owed) || canary!(ForgottenLogVotes) {
            return Ok(());
        }
        Err(format!("replica here is made anew and lacks entries up to {}", self.owed))
    }

    /// A copy of the engine's metrics: a borrow that is held would block the engine (H6).
    pub(crate) fn metrics(&self) -> RaftMetrics<TypeConfig> {
        latest(&self.raft.metrics(), Clone::clone)
    }

    /// Waits until everything committed before the call is applied here, by ReadIndex.
    pub(crate) async fn linearize(&self) -> Result<(), Refused> {
        use openraft::errors::{LinearizableReadError, RaftError};
        self.rouse().await;
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(Refused::NotLeader(to.leader_id))
            }
            // The quorum did not confirm in time: another leader may exist.
            Err(RaftError::APIError(_)) => Err(Refused::NotLeader(None)),
            Err(err) => Err(Refused::Other(err.to_string())),
        }
    }

    /// Where Raft stands.
    pub(crate) fn status(&self) -> RaftStatus {
        let metrics = self.metrics();
        let at = |id: &Option<crate::config::LogId>| id.as_ref().map(position);
        let members = metrics.membership_config.membership().clone();
        let matched = metrics.replication.iter().flatten();
        let heard = metrics.heartbeat.iter().flatten();
        let silent = heard.filter_map(|(node, at)| at.map(|at| (*node, at.elapsed())));
        let silent = self.quiescence.silent().unwrap_or_else(|| silent.collect());
        RaftStatus {
            leadership: *self.leadership.borrow(),
            last: self.log.frontier().last,
            committed: at(&metrics.local_committed),
            applied: at(&metrics.last_applied),
            purged: self.log.purged(),
            voters: members.voter_ids().collect(),
            learners: members.learner_ids().collect(),
            matched: matched.map(|(node, id)| (*node, at(id).map(|at| at.index))).collect(),
            silent,
            stopped: metrics.running_state.err().map(|fatal| fatal.to_string()),
        }
    }

    /// Hands leadership to `to`, or to another voter when that one does not take it in time.
    ///
    /// The engine refuses writes from the moment that it is asked, so it is asked only for a target
    /// that is alive and has all that the log held when the call began.
    pub(crate) async fn transfer(
        &self,
        to: NodeId,
        campaign: &dyn Campaigner,
    ) -> Result<(), Refused> {
        let before = *self.leadership.borrow();
        if before.role != Role::Leader {
            return Err(Refused::NotLeader(before.leader));
        }
        if to == self.me {
            return Ok(());
        }
        let status = self.status();
        if !status.voters.contains(&to) {
            return Err(Refused::Other(format!("node {to} is no voter of group {}", self.group)));
        }
        if !campaign.is_live(to) {
            return Err(Refused::Other(format!("node {to} is not alive, leadership stays")));
        }
        self.rouse().await;
        self.caught_up(to, status.last.map(|last| last.index)).await?;
        let stopped = |err: Fatal<TypeConfig>| Refused::Other(err.to_string());
        self.raft.trigger().transfer_leader(to).await.map_err(stopped)?;
        if self.led_by_another(before.term).await {
            return Ok(());
        }
        // The engine refuses writes for as long as the target is silent (H14), so somebody must
        // take over: any live voter will do.
        for voter in status.voters.into_iter().filter(|voter| *voter != self.me) {
            if campaign.campaign(self.group, voter).await && self.led_by_another(before.term).await
            {
                return Ok(());
            }
        }
        Err(Refused::Other(format!("no voter of group {} took leadership over", self.group)))
    }

    /// Waits until `follower` is known to have the entry at `last`, for as long as a transfer may take.
    async fn caught_up(&self, follower: NodeId, last: Option<LogIndex>) -> Result<(), Refused> {
        let deadline = Instant::now() + TRANSFER_PATIENCE;
        loop {
            let matched = self.status().matched.get(&follower).copied().flatten();
            if matched >= last {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let missing = |last: LogIndex| last.0 - matched.map_or(0, |matched| matched.0);
                return Err(Refused::Other(format!(
                    "node {follower} lacks {} entries, leadership stays",
                    last.map_or(0, missing)
                )));
            }
            sleep(MATCHED_CHECK).await;
        }
    }

    async fn led_by_another(&self, term: Term) -> bool {
        let mut leadership = self.leadership.clone();
        let moved = leadership.wait_for(|now| now.term > term && now.leader.is_some());
        matches!(timeout(TRANSFER_PATIENCE, moved).await, Ok(Ok(_)))
    }

    /// Whether `dead` still counts as the leader here, or nobody does.
    fn led_by(&self, dead: NodeId) -> bool {
        let now = *self.leadership.borrow();
        now.role != Role::Leader
            && now.leader.is_none_or(|leader| leader == dead || leader == self.me)
    }

    /// The vote that the engine holds now: the metrics' may be behind it.
    async fn vote(&self) -> Result<Vote, String> {
        let vote = self.raft.with_raft_state(|state| {
            let vote = state.vote_ref();
            Vote::from_leader_id(*vote.leader_id(), vote.is_committed())
        });
        vote.await.map_err(|err| err.to_string())
    }

    /// Stands for election past the lease of a leader that is known to be gone, from whatever vote
    /// the engine holds. Safe, because no read here ever trusts a
    /// lease.
    async fn stand_in(&self) -> Result<(), String> {
        self.may_elect()?;
        self.quiescence.wake();
        let vote = self.vote().await?;
        let request = TransferLeaderRequest::new(vote, self.me, None);
        match self.raft.handle_transfer_leader(request).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(err)) => Err(err.to_string()),
            Err(err) => Err(err.to_string()),
        }
    }
}

/// How often a replica that is alone in its group stands for election, and how long each try may take.
const ALONE_TRIES: u32 = 20;
const ALONE_PATIENCE: Duration = Duration::from_millis(500);

impl<M: Machine> Replica<M> {
    /// See [`Member::go_on_alone`].
    async fn lead_alone(
        &self,
        leader: NodeId,
        last: Option<LogPosition>,
        at: LogPosition,
    ) -> Result<(), String> {
        let members = Members::new_with_defaults(vec![BTreeSet::from([self.me])], []);
        let request = AppendEntriesRequest {
            vote: Vote::new_committed(at.term.0, leader),
            prev_log_id: last.map(log_id),
            leader_commit: Some(log_id(at)),
            entries: vec![Entry::at(at, Payload::Membership(members))],
        };
        let answer = self.raft.append_entries(request).await.map_err(|err| err.to_string())?;
        if !answer.is_success() {
            return Err(format!("the replica has moved on meanwhile: {answer}"));
        }
        let mut leadership = self.leadership.clone();
        for _ in 0..ALONE_TRIES {
            // It may stand by itself at this very moment: then it is refused here, and leads all the same.
            if let Err(err) = self.stand_in().await {
                debug!(group = %self.group, err, "standing alone was refused");
            }
            let leads = leadership
                .wait_for(|now| now.term > at.term && now.role == Role::Leader && now.ready);
            if matches!(timeout(ALONE_PATIENCE, leads).await, Ok(Ok(_))) {
                return Ok(());
            }
        }
        Err("the replica is alone in its group, and leads it only later".to_owned())
    }
}

/// Makes another node campaign for a group.
pub(crate) trait Campaigner: Send + Sync + fmt::Debug {
    /// Whether `voter` was reached and agreed.
    fn campaign(&self, group: GroupId, voter: NodeId) -> BoxFuture<'_, bool>;

    /// Whether `node` answers.
    fn is_live(&self, node: NodeId) -> bool;

    /// Tells which nodes have to be sent much before they can vote in a group that this node leads.
    fn learn(&self, group: GroupId, term: Term, nodes: BTreeSet<NodeId>);
}

/// What the node's liveness needs of a group, whatever its machine.
pub(crate) trait Member: Send + Sync + fmt::Debug {
    /// Whether `node` leads the group, as far as this replica knows.
    fn is_led_by(&self, node: NodeId) -> bool;
    /// Takes over from `dead`, which leads this group, if this node is in line for it. Who is second in line
    /// leaves the first so much time, and the third twice as much.
    fn take_over(
        &self,
        dead: NodeId,
        live: &BTreeSet<NodeId>,
        step: Duration,
    ) -> Option<BoxFuture<'static, ()>>;
    /// Hands leadership away if this node has it.
    fn hand_over<'a>(
        &'a self,
        live: &'a std::collections::BTreeSet<NodeId>,
        campaign: &'a dyn Campaigner,
    ) -> BoxFuture<'a, ()>;
    /// Lets the followers that were unreachable be tried at once.
    fn peer_returned(&self, node: NodeId) -> BoxFuture<'static, ()>;
    /// Members that vote.
    fn voters(&self) -> std::collections::BTreeSet<NodeId>;
    /// Drops segments that nobody needs.
    fn clean(&self) -> BoxFuture<'static, ()>;
    /// Everybody who takes part, voters and learners, as far as is known here.
    fn all(&self) -> BTreeSet<NodeId>;
    /// Whether a majority is left without `lost`: of both memberships, while one is on its way.
    fn has_majority(&self, lost: &BTreeSet<NodeId>) -> bool;
    /// The term of the vote here and the last entry, on which a group could go on alone.
    fn foundation(&self) -> BoxFuture<'static, Result<(Term, Option<LogPosition>), String>>;
    /// Takes an entry behind `last`, as if `leader` had sent it in the term of `at`, by which this node is
    /// the only member and everything before is committed; then leads.
    fn go_on_alone(
        &self,
        leader: NodeId,
        last: Option<LogPosition>,
        at: LogPosition,
    ) -> BoxFuture<'static, Result<(), String>>;
    /// What the next beat has to tell of the group, if this node leads it and it sleeps; one that has been
    /// idle for `after`, if that is set, offers to sleep to the others, if all are `able`.
    fn rest(&self, after: Option<Duration>, able: &BTreeSet<NodeId>) -> Option<Led>;
    /// `node` sleeps under this leader of `term`, as it was asked at `sent`.
    fn agreed(&self, term: Term, node: NodeId, sent: Instant);
    /// Somebody does not sleep, so nobody does.
    fn wake(&self);
    /// Whether the group sleeps, as far as this replica knows.
    fn sleeps(&self) -> bool;
    /// Stops the engine.
    fn stop(&self) -> BoxFuture<'static, ()>;
}

/// How often a voter that is not the first in line tries.
const TAKE_OVER_TRIES: u32 = 3;

impl<M: Machine> Member for Replica<M> {
    fn is_led_by(&self, node: NodeId) -> bool {
        self.leadership.borrow().leader == Some(node)
    }

    fn take_over(
        &self,
        dead: NodeId,
        live: &BTreeSet<NodeId>,
        step: Duration,
    ) -> Option<BoxFuture<'static, ()>> {
        let metrics = self.metrics();
        let voters: Vec<NodeId> = metrics.membership_config.voter_ids().collect();
        let after = voters.iter().position(|voter| *voter == dead).map_or(0, |at| at + 1);
        let in_line = voters.iter().cycle().skip(after).take(voters.len());
        let mut in_line = in_line.filter(|voter| **voter != dead && live.contains(voter));
        let rank = in_line.position(|voter| *voter == self.me)? as u32;
        // Without a majority in reach this node is the one that is cut off: it must not come back
        // with a higher term and depose a healthy leader.
        let reached = voters.iter().filter(|voter| **voter == self.me || live.contains(voter));
        if reached.count() * 2 <= voters.len() {
            return None;
        }
        let replica = self.clone();
        Some(Box::pin(async move {
            sleep(step * rank).await;
            // The first in line may hold a shorter log and lose; the next then tries with a term
            // above the one that the first has spent. The first tries once, so they cannot tie.
            let tries = if rank == 0 { 1 } else { TAKE_OVER_TRIES };
            for _ in 0..tries {
                if !replica.led_by(dead) {
                    return;
                }
                match replica.stand_in().await {
                    Ok(()) => info!(group = %replica.group, %dead, "standing in for a dead leader"),
                    Err(err) => debug!(group = %replica.group, %dead, err, "take-over refused"),
                }
                sleep(step).await;
            }
        }))
    }

    fn hand_over<'a>(
        &'a self,
        live: &'a std::collections::BTreeSet<NodeId>,
        campaign: &'a dyn Campaigner,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let status = self.status();
            if status.leadership.role != Role::Leader {
                return;
            }
            let others = status.voters.iter().filter(|voter| **voter != self.me);
            let target = others
                .filter(|voter| live.contains(voter))
                .max_by_key(|voter| status.matched.get(voter).copied().flatten());
            let Some(target) = target else { return };
            if let Err(err) = self.transfer(*target, campaign).await {
                debug!(group = %self.group, %err, "leadership was not handed over");
            }
        })
    }

    fn peer_returned(&self, node: NodeId) -> BoxFuture<'static, ()> {
        let raft = self.raft.clone();
        Box::pin(async move {
            // A stopped engine has no backoff to reset.
            let _ = raft.trigger().reset_backoff([node]).await;
        })
    }

    fn voters(&self) -> std::collections::BTreeSet<NodeId> {
        self.metrics().membership_config.voter_ids().collect()
    }

    fn all(&self) -> BTreeSet<NodeId> {
        self.metrics().membership_config.membership().nodes().map(|(node, ())| *node).collect()
    }

    fn has_majority(&self, lost: &BTreeSet<NodeId>) -> bool {
        let metrics = self.metrics();
        let configs = metrics.membership_config.membership().get_joint_config();
        configs.iter().all(|voters| voters.difference(lost).count() * 2 > voters.len())
    }

    fn foundation(&self) -> BoxFuture<'static, Result<(Term, Option<LogPosition>), String>> {
        let replica = self.clone();
        Box::pin(async move {
            replica.may_elect()?;
            let seen = replica.raft.with_raft_state(|state| {
                let last = state.log_ids.last().map(position);
                (Term(state.vote_ref().leader_id().term), last)
            });
            seen.await.map_err(|err| err.to_string())
        })
    }

    fn go_on_alone(
        &self,
        leader: NodeId,
        last: Option<LogPosition>,
        at: LogPosition,
    ) -> BoxFuture<'static, Result<(), String>> {
        let replica = self.clone();
        Box::pin(async move { replica.lead_alone(leader, last, at).await })
    }

    fn clean(&self) -> BoxFuture<'static, ()> {
        let replica = self.clone();
        Box::pin(async move {
            let due = replica
                .raft
                .with_state_machine(|applier| Box::pin(std::future::ready(applier.purge_due())))
                .await;
            if matches!(due, Ok(true))
                && let Err(err) = replica.raft.trigger().snapshot().await
            {
                debug!(group = %replica.group, %err, "log was not cleaned");
            }
        })
    }

    fn rest(&self, after: Option<Duration>, able: &BTreeSet<NodeId>) -> Option<Led> {
        let is_idle = after.is_some_and(|after| self.quiescence.idle() >= after);
        if is_idle && self.quiescence.is_awake() {
            self.fall_asleep(able);
        }
        self.quiescence.told()
    }

    fn agreed(&self, term: Term, node: NodeId, sent: Instant) {
        self.quiescence.agreed(term, node, sent);
    }

    fn wake(&self) {
        if self.quiescence.wake() {
            self.settle();
        }
    }

    fn sleeps(&self) -> bool {
        !self.quiescence.is_awake()
    }

    fn stop(&self) -> BoxFuture<'static, ()> {
        let raft = self.raft.clone();
        let log = Arc::clone(&self.log);
        let (group, closing) = (self.group, Arc::clone(&self.closing));
        Box::pin(async move {
            // The engine ends only once it has what it waits for.
            log.be_patient(false);
            closing.send_replace(true);
            if let Err(err) = raft.shutdown().await {
                debug!(%group, %err, "engine ended by itself");
            }
            // The files are at rest only once the last flush is through, well or not.
            let (done, flushed) = tokio::sync::oneshot::channel();
            log.after_flush(Box::new(move |result| drop(done.send(result))));
            drop(flushed.await);
        })
    }
}

/// Lets the engine stand for election by itself once the log holds what it must.
async fn stand_when_whole<M: Machine>(
    group: GroupId,
    raft: Raft<TypeConfig, Applier<M>>,
    log: Weak<Log>,
    owed: LogIndex,
) {
    while let Some(log) = log.upgrade() {
        if log.has_reached(owed) {
            info!(%group, %owed, "a replica made anew has all that it had, and stands for election");
            raft.runtime_config().elect(true);
            return;
        }
        drop(log);
        sleep(LOOK_EVERY).await;
    }
}

impl<M: Machine> Port for Replica<M> {
    fn append(
        &self,
        input: BoxStream<'static, AppendEntriesRequest<TypeConfig>>,
    ) -> BoxStream<'static, Result<StreamAppendResult<TypeConfig>, Fatal<TypeConfig>>> {
        let quiescence = Arc::clone(&self.quiescence);
        // A heartbeat says no less than an entry: the leader is awake.
        let input = input.inspect(move |_| {
            quiescence.wake();
        });
        self.raft.stream_append(input).boxed()
    }

    fn vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> BoxFuture<'static, Result<VoteResponse<TypeConfig>, String>> {
        let (raft, allowed) = (self.raft.clone(), self.may_elect());
        self.quiescence.wake();
        Box::pin(async move {
            allowed?;
            raft.vote(request).map_err(|err| err.to_string()).await
        })
    }

    fn pre_vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> BoxFuture<'static, Result<VoteResponse<TypeConfig>, String>> {
        let (raft, allowed) = (self.raft.clone(), self.may_elect());
        // The engine's lease has run out in its sleep, and it would agree. If the leader is still there, it
        // hears from who asks, which does not sleep.
        let is_led = self.quiescence.is_led();
        if !is_led {
            self.quiescence.wake();
        }
        let replica = self.clone();
        Box::pin(async move {
            allowed?;
            if is_led {
                let vote = replica.vote().await?;
                let last = replica.log.frontier().last.map(log_id);
                return Ok(VoteResponse::new(vote, last, false));
            }
            raft.pre_vote(request).map_err(|err| err.to_string()).await
        })
    }

    fn transfer(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> BoxFuture<'static, Result<(), String>> {
        let (raft, allowed) = (self.raft.clone(), self.may_elect());
        self.quiescence.wake();
        Box::pin(async move {
            allowed?;
            let answer =
                raft.handle_transfer_leader(request).await.map_err(|err| err.to_string())?;
            answer.map_err(|err| err.to_string())
        })
    }

    fn campaign(&self) -> BoxFuture<'static, Result<(), String>> {
        let replica = self.clone();
        Box::pin(async move {
            debug!(group = %replica.group, "asked to campaign");
            replica.stand_in().await
        })
    }

    fn confirm(&self) -> BoxFuture<'static, Result<Vote, String>> {
        let replica = self.clone();
        Box::pin(async move {
            replica.linearize().await.map_err(|err| err.to_string())?;
            let vote = replica.vote().await?;
            // A leader of a later term may have been heard of since.
            let leads = vote.leader_id.voted_for == replica.me && vote.is_committed();
            if leads { Ok(vote) } else { Err("leads no more".to_owned()) }
        })
    }

    fn log(&self) -> Arc<Log> {
        Arc::clone(&self.log)
    }

    fn sleep_under(&self, leader: NodeId, term: Term, last: LogIndex) -> bool {
        self.quiescence.follow(leader, term, || self.has_all_of(leader, term, last))
    }

    fn install(&self, vote: Vote, start: StartPoint) -> BoxFuture<'static, Result<Vote, String>> {
        let raft = self.raft.clone();
        self.quiescence.wake();
        Box::pin(async move {
            let snapshot = as_snapshot(start).map_err(|err| err.to_string())?;
            let snapshot = snapshot.ok_or("start point of an empty log")?;
            let reply = raft.install_full_snapshot(vote, snapshot).await;
            reply.map(|reply| reply.vote).map_err(|err| err.to_string())
        })
    }
}
