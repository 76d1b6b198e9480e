//! The task that feeds a partition's log on its leader.
//!
//! It owns the [`Sequencer`], which decides; the task only moves: requests in, entries to the
//! engine, outcomes back. On a replica that does not lead it answers so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use smallvec::SmallVec;
use tidelog_log as log;
use tidelog_state::partition::{
    Answer, BatchAnswer, Command, Decision, Sequencer, Settlement, State,
};
use tidelog_types::batch::Info;
use tidelog_types::{ErrorCode, NodeId, Offset, Term, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;
use tracing::{debug, error};

use crate::clock::Clock;
use crate::config::{LeaderId, Outcome, Proposal, Records};
use crate::leadership::{Leadership, Role};
use crate::replica::Replica;
use crate::store::machines::PartitionMachine;

/// Entries of one partition that may be on their way. Fewer: a slow disk is not kept busy. More:
/// small batches travel one by one where they could share an entry.
const ENTRIES_IN_FLIGHT_MAX: usize = 16;

/// Bytes after which an entry is closed. Smaller: more envelopes and fsyncs. Larger: worse latency.
const ENTRY_BYTES_SOON: usize = 512 * 1024;

/// Batches after which an entry is closed: one vectored write must hold them.
const ENTRY_BATCHES_MAX: usize = 256;

/// Pause before a drained sequencer tries again: the engine refused a write, most likely because
/// its quorum is silent.
const RESTART_PAUSE: Duration = Duration::from_millis(20);

/// Where an appended batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The leader's clock when it was appended.
    pub append_time: Timestamp,
    /// It had been appended before; this is a resend.
    pub duplicate: bool,
}

/// Why a batch or command was not taken, or what is not known of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// Another node leads; nothing was written.
    #[error("not the leader")]
    NotLeader {
        /// Who does, when known.
        hint: Option<NodeId>,
    },
    /// The batch breaks a rule; nothing was written.
    #[error("{0}")]
    Rejected(ErrorCode),
    /// Nothing was written; the same may succeed in a moment.
    #[error("the leader cannot write now")]
    Retry,
    /// It may have been written; a resend tells.
    #[error("the outcome is unknown")]
    Unknown,
    /// The partition's queue is full; nothing was written.
    #[error("the partition's queue is full")]
    Overloaded,
    /// The disk of the leader is nearly full; nothing was written.
    #[error("the leader's disk is nearly full")]
    StorageFull,
}

pub(crate) type Reply = oneshot::Sender<Result<Appended, ProposeError>>;

/// What the task is asked for.
#[derive(Debug)]
pub(crate) enum Request {
    /// Append a batch that was checked.
    Append {
        /// The whole batch.
        batch: Bytes,
        /// Its head.
        info: Info,
        /// Where the outcome goes.
        reply: Reply,
    },
    /// Have all replicas do something.
    Command {
        /// What.
        command: Command,
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<(), ProposeError>>,
    },
    /// Ask whether retention may trigger at the present time.
    Retain {
        /// The time to trim by; `None` when this replica may not.
        reply: oneshot::Sender<Option<Timestamp>>,
    },
}

type Settled = BoxFuture<'static, (u64, Settlement)>;

/// The task's state.
pub(crate) struct Sequencing {
    replica: Replica<PartitionMachine>,
    clock: Arc<dyn Clock>,
    requests: mpsc::Receiver<Request>,
    leadership: watch::Receiver<Leadership>,
    sequencer: Option<Sequencer>,
    /// Batches that were let in and not sealed.
    open: Open,
    in_flight: FuturesUnordered<Settled>,
    /// Who waits for which ticket; a resend joins the first send.
    waiting: BTreeMap<u64, SmallVec<[(Reply, bool); 1]>>,
}

#[derive(Debug, Default)]
struct Open {
    batches: SmallVec<[Info; 1]>,
    body: SmallVec<[Bytes; 1]>,
    bytes: usize,
}

impl Sequencing {
    pub(crate) fn new(
        replica: Replica<PartitionMachine>,
        clock: Arc<dyn Clock>,
        requests: mpsc::Receiver<Request>,
    ) -> Self {
        let leadership = replica.leadership.clone();
        Self {
            replica,
            clock,
            requests,
            leadership,
            sequencer: None,
            open: Open::default(),
            in_flight: FuturesUnordered::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// Runs until every handle of the partition is gone.
    pub(crate) async fn run(mut self) {
        loop {
            let state = self.sequencer.as_ref().map(Sequencer::state);
            let takes = match state {
                // Nobody to ask: requests are answered at once.
                None | Some(State::Ended) => true,
                Some(State::Running) => self.in_flight.len() < ENTRIES_IN_FLIGHT_MAX,
                Some(State::Draining | State::Drained) => false,
            };
            let stalled = state.is_some() && !takes && !self.leadership.borrow().ready;
            tokio::select! {
                biased;
                changed = self.leadership.changed() => {
                    if changed.is_err() {
                        // The engine is gone; requests are answered until the handles are, too.
                        self.end();
                        while let Some(request) = self.requests.recv().await {
                            self.refuse(request);
                        }
                        return;
                    }
                    self.follow().await;
                }
                Some((ordinal, settlement)) = self.in_flight.next() => self.settle(ordinal, settlement),
                () = sleep(RESTART_PAUSE), if state == Some(State::Drained) => self.restart().await,
                request = self.requests.recv(), if takes || stalled => {
                    let Some(request) = request else { return };
                    // What waits behind entries that no quorum writes would wait for its deadline,
                    // with room in the node's budget; its sender had better look elsewhere.
                    if stalled { self.refuse(request) } else { self.take(request).await }
                }
            }
        }
    }

    /// Starts a sequencer with each term that this replica leads, and ends it with the term.
    async fn follow(&mut self) {
        let now = *self.leadership.borrow_and_update();
        let term = self.sequencer.as_ref().map(Sequencer::term);
        if term.is_some() && (now.role != Role::Leader || term != Some(now.term)) {
            self.end();
        }
        if now.ready && self.sequencer.is_none() {
            self.start(now.term).await;
        }
    }

    async fn start(&mut self, term: Term) {
        let Some(machine) = machine(self.replica.clone()).await else { return };
        match Sequencer::start(&machine, term) {
            Ok(sequencer) => self.sequencer = Some(sequencer),
            // A later term has begun; its leadership is on the way here.
            Err(err) => debug!(group = %self.replica.group, %err, "sequencer waits"),
        }
    }

    fn end(&mut self) {
        self.open = Open::default();
        if let Some(mut sequencer) = self.sequencer.take() {
            let answers = sequencer.end();
            self.answer(answers);
        }
        // Late outcomes of an ended sequencer have no one to go to.
        self.in_flight = FuturesUnordered::new();
        for (reply, _) in std::mem::take(&mut self.waiting).into_values().flatten() {
            // The sender may have given up.
            let _ = reply.send(Err(ProposeError::Unknown));
        }
    }

    async fn restart(&mut self) {
        let Some(machine) = machine(self.replica.clone()).await else { return };
        let Some(sequencer) = &mut self.sequencer else { return };
        let term = sequencer.term();
        if let Err(err) = sequencer.restart(&machine) {
            // Nothing is on its way, so a fresh start from applied state is sound in this term too.
            error!(group = %self.replica.group, %err, "sequencer lost its place");
            self.end();
            if self.replica.metrics().vote.leader_id.term == term.0 {
                self.start(term).await;
            }
        }
    }

    fn refuse(&self, request: Request) {
        let now = *self.leadership.borrow();
        // A leader that is not ready yet is not another one's hint.
        let hint = now.leader.filter(|leader| *leader != self.replica.me);
        let refusal = if now.role == Role::Leader {
            ProposeError::Retry
        } else {
            ProposeError::NotLeader { hint }
        };
        match request {
            // Askers may have given up, in all three.
            Request::Append { reply, .. } => drop(reply.send(Err(refusal))),
            Request::Command { reply, .. } => drop(reply.send(Err(refusal))),
            Request::Retain { reply } => drop(reply.send(None)),
        }
    }

    /// Takes a request and those behind it that fit in the same entry, then proposes the entry.
    async fn take(&mut self, first: Request) {
        let mut next = Some(first);
        while let Some(request) = next {
            if self.sequencer.as_ref().is_none_or(|sequencer| sequencer.state() == State::Ended) {
                self.refuse(request);
            } else {
                match request {
                    Request::Append { batch, info, reply } => self.offer(batch, info, reply),
                    Request::Command { command, reply } => {
                        self.seal().await;
                        self.command(command, reply).await;
                    }
                    Request::Retain { reply } => {
                        let now = self.clock.now();
                        let sequencer = self.sequencer.as_mut();
                        let admitted = sequencer.map(|it| it.admit_retention(now));
                        // The asker may have given up.
                        let _ = reply.send(admitted.and_then(Result::ok).map(|()| now));
                    }
                }
            }
            let full =
                self.open.bytes >= ENTRY_BYTES_SOON || self.open.body.len() >= ENTRY_BATCHES_MAX;
            next = if full { None } else { self.requests.try_recv().ok() };
        }
        self.seal().await;
    }

    fn offer(&mut self, batch: Bytes, info: Info, reply: Reply) {
        let now = self.clock.now();
        let sequencer = self.sequencer.as_mut().expect("checked by the caller");
        let answer = match sequencer.offer(&info, now) {
            Decision::Append { ticket } => {
                self.open.bytes += batch.len();
                self.open.batches.push(info);
                self.open.body.push(batch);
                self.waiting.entry(ticket.0).or_default().push((reply, false));
                return;
            }
            Decision::InFlight { ticket } => {
                self.waiting.entry(ticket.0).or_default().push((reply, true));
                return;
            }
            Decision::Duplicate { base_offset, append_time } => {
                Ok(Appended { base_offset, append_time, duplicate: true })
            }
            Decision::Hold => Err(ProposeError::Retry),
            Decision::Reject(code) => Err(ProposeError::Rejected(code)),
        };
        // The sender may have given up.
        let _ = reply.send(answer);
    }

    /// Closes the open entry and hands it to the engine.
    async fn seal(&mut self) {
        let now = self.clock.now();
        let Some(sequencer) = &mut self.sequencer else { return };
        let Some(sealed) = sequencer.seal(now) else { return };
        let open = std::mem::take(&mut self.open);
        assert_eq!(sealed.batches, open.body.len(), "the entry holds what was let in");
        let proposal = Proposal::Records(Records {
            append_time: sealed.append_time,
            ordinal: sealed.ordinal,
            batches: open.batches,
            body: log::Body::Memory(open.body),
            original: None,
        });
        let term = sequencer.term();
        let outcome = propose(self.replica.clone(), proposal, term).await;
        let ordinal = sealed.ordinal;
        self.in_flight.push(Box::pin(async move { (ordinal, settlement(outcome.await)) }));
    }

    async fn command(
        &mut self,
        command: Command,
        reply: oneshot::Sender<Result<(), ProposeError>>,
    ) {
        let now = self.clock.now();
        let Some(sequencer) = &mut self.sequencer else { return };
        let append_time = sequencer.stamp(now);
        let term = sequencer.term();
        let body = command.encode().into();
        let outcome =
            propose(self.replica.clone(), Proposal::Command { append_time, body }, term).await;
        tokio::spawn(async move {
            let answer = match outcome.await {
                Proposed::Applied(_) => Ok(()),
                Proposed::Refused => Err(ProposeError::Retry),
                Proposed::Lost => Err(ProposeError::Unknown),
            };
            // The asker may have given up.
            let _ = reply.send(answer);
        });
    }

    fn settle(&mut self, ordinal: u64, settlement: Settlement) {
        let Some(sequencer) = &mut self.sequencer else { return };
        let answers = sequencer.settled(ordinal, settlement);
        if sequencer.state() != State::Running {
            // What was let in and not sealed is answered with the rest and offered again.
            self.open = Open::default();
        }
        let ended = sequencer.state() == State::Ended;
        self.answer(answers);
        if ended {
            self.end();
        }
    }

    fn answer(&mut self, answers: Vec<BatchAnswer>) {
        for BatchAnswer { ticket, answer } in answers {
            for (reply, duplicate) in self.waiting.remove(&ticket.0).into_iter().flatten() {
                let answer = match answer {
                    Answer::Appended { base_offset, append_time } => {
                        Ok(Appended { base_offset, append_time, duplicate })
                    }
                    Answer::Again => Err(ProposeError::Retry),
                    Answer::Unknown => Err(ProposeError::Unknown),
                };
                // The sender may have given up.
                let _ = reply.send(answer);
            }
        }
    }
}

/// A copy of the applied machine; `None` when the engine has stopped.
async fn machine(replica: Replica<PartitionMachine>) -> Option<tidelog_state::partition::Machine> {
    let copy = replica
        .raft
        .with_state_machine(|applier| Box::pin(std::future::ready(applier.machine.state.clone())));
    copy.await.ok()
}

/// Proposes, fenced by the term: a leader of a later term, this node included, refuses it. Resolves
/// once the engine has taken the proposal; the inner future is its outcome.
async fn propose(
    replica: Replica<PartitionMachine>,
    proposal: Proposal,
    term: Term,
) -> BoxFuture<'static, Proposed> {
    replica.rouse().await;
    let (responder, outcome) = ProgressResponder::complete_only();
    let write = replica.raft.write(proposal).with_leader(LeaderId::new(term.0));
    match write.responder(responder).await {
        Ok(()) => Box::pin(async move {
            match outcome.await {
                Ok(Ok(written)) => Proposed::Applied(written.data),
                Ok(Err(ClientWriteError::ForwardToLeader(_))) => Proposed::Refused,
                // Discarded by a later leader, or the engine died: nobody here can tell.
                Ok(Err(_)) | Err(_) => Proposed::Lost,
            }
        }),
        // The engine has stopped; whether it took the entry is unknown.
        Err(_) => Box::pin(std::future::ready(Proposed::Lost)),
    }
}

/// How a proposal ended.
enum Proposed {
    Applied(Outcome),
    Refused,
    Lost,
}

fn settlement(proposed: Proposed) -> Settlement {
    match proposed {
        Proposed::Applied(Outcome::Partition(outcome)) => Settlement::Applied(outcome),
        Proposed::Applied(other) => unreachable!("a partition answered {other}"),
        Proposed::Refused => Settlement::Refused,
        Proposed::Lost => Settlement::Lost,
    }
}
