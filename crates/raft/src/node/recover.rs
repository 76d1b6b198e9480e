//! The worst day: a majority of a group is lost for good, and one replica goes on with what it holds.
//!
//! To Raft it is as if one of the lost nodes had led once more, in a term far above all that are known: the
//! replica is sent a last entry by it, a membership of itself alone, with everything before it committed.
//! Then it stands for election and has its own vote. Nothing in the engine is bent for it.
//!
//! It is safe only as long as the lost stay lost: they may hold what was acked and is missing here, and as a
//! majority of the old members they would elect a leader. So they are shut out first, durably, by every
//! broker that is left.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tidelog_log::Frontier;
use tidelog_proto::v1;
use tidelog_proto::v1::raft_service_client::RaftServiceClient;
use tidelog_types::{GroupId, LogIndex, LogPosition, NodeId, Offset, Term, Timestamp};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tonic::Status;
use tracing::warn;

use super::{Node, Shared};
use crate::config::{log_id, position};
use crate::link::wire;
use crate::replica::Member;

/// Why a group does not go on alone; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RecoverError(String);

impl From<io::Error> for RecoverError {
    fn from(err: io::Error) -> Self {
        Self(err.to_string())
    }
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// Its last entry. Of several replicas, the one with the greatest holds all that any of them knows to
    /// be committed.
    pub last: Option<LogPosition>,
    /// The offset after its last record; of another node's replica it is not told.
    pub next_offset: Offset,
    /// When its last entry was appended; of another node's replica it is not told.
    pub append_time: Timestamp,
    /// The term of its last vote.
    pub term: Term,
    /// It takes no part in its group, and what it holds is not known.
    pub is_out: bool,
}

impl Node {
    /// How far the replica here is; `None` when there is none.
    #[must_use]
    pub fn standing(&self, group: GroupId) -> Option<Standing> {
        self.shared.standing(group)
    }

    /// Who takes part in the group, by the membership in force here; nobody, when it is not open here.
    #[must_use]
    pub fn members(&self, group: GroupId) -> BTreeSet<NodeId> {
        self.shared.member(group).map(|member| member.all()).unwrap_or_default()
    }

    /// Whether the group still has a majority when `lost` are gone, by the membership in force here.
    #[must_use]
    pub fn has_majority(&self, group: GroupId, lost: &BTreeSet<NodeId>) -> bool {
        self.shared.member(group).is_some_and(|member| member.has_majority(lost))
    }

    /// Asks `node` how far its replicas are. With `fence` it shuts `lost` out, and for so long lets no other
    /// node than this one go on with any group; with no time, this one is through.
    ///
    /// # Errors
    /// It does not answer, one of `lost` answers it, or it is another node's turn.
    pub async fn survey(
        &self,
        node: NodeId,
        lost: &BTreeSet<NodeId>,
        fence: Option<Duration>,
        groups: &[GroupId],
    ) -> Result<BTreeMap<GroupId, Standing>, RecoverError> {
        let peer = self.shared.peers.get(node);
        let connection = peer.connection();
        let connection =
            connection.ok_or_else(|| RecoverError(format!("no connection to {node}")))?;
        let request = v1::SurveyRequest {
            hello: Some(peer.hello()),
            lost: lost.iter().map(|node| node.to_u64()).collect(),
            fence: fence.is_some(),
            hold_ms: fence.map_or(0, |held| u32::try_from(held.as_millis()).unwrap_or(u32::MAX)),
            groups: groups.iter().map(|group| group.to_bytes().to_vec().into()).collect(),
        };
        let mut client = RaftServiceClient::new(connection.channel);
        let answer = timeout(SURVEY_PATIENCE, client.survey(request)).await;
        let answer = answer.map_err(|_| RecoverError(format!("no answer from {node}")))?;
        let answer = answer.map_err(|status| RecoverError(status.message().to_owned()))?;
        let read = |standing: v1::GroupStanding| {
            let group =
                wire::group(&standing.group).map_err(|err| RecoverError(err.to_string()))?;
            let last = standing.last.map(wire::log_id_in).as_ref().map(position);
            let (term, is_out) = (Term(standing.term), standing.out);
            Ok((group, Standing { last, term, is_out, ..Standing::default() }))
        };
        answer.into_inner().standings.into_iter().map(read).collect()
    }

    /// Shuts nodes out for good: from then on, after restarts too, this node talks to none of them.
    ///
    /// # Errors
    /// One of them answers, or is this node; or the disk failed.
    pub async fn shut_out(&self, lost: &BTreeSet<NodeId>) -> Result<(), RecoverError> {
        self.shared.shut_out(lost).await
    }

    /// Takes the turn to go on with groups, for `within` at most, and keeps other nodes from it: of two
    /// that go on with one group, each would take writes.
    ///
    /// # Errors
    /// Somebody else has it.
    pub fn take_turn(&self, within: Duration) -> Result<Turn, RecoverError> {
        let busy =
            || RecoverError("this broker is at it already: wait until it is through".to_owned());
        let place = Arc::clone(&self.shared.recovery.here).try_lock_owned().map_err(|_| busy())?;
        self.shared.hold(self.id(), within)?;
        Ok(Turn { shared: Arc::clone(&self.shared), _place: place })
    }

    /// Who was shut out.
    #[must_use]
    pub fn lost(&self) -> BTreeSet<NodeId> {
        self.shared.fence.out()
    }

    /// Why another broker has shut this node out, if one has.
    #[must_use]
    pub fn cast_out(&self) -> watch::Receiver<Option<String>> {
        self.shared.peers.cast_out()
    }

    /// Has the replica here go on alone, in a term above `above`, and waits until it leads. All that it
    /// holds counts as committed from then on. Gives the entry in which the group begins anew.
    ///
    /// The others of its members must have been shut out ([`Node::shut_out`]) by whoever else has a replica,
    /// and none of those may be further than this one.
    ///
    /// # Errors
    /// The group is not open here, has a majority without `lost`, or a member that is neither lost nor shut
    /// out; or this replica may not take part in elections.
    pub async fn recover(&self, group: GroupId, above: Term) -> Result<LogPosition, RecoverError> {
        let shared = &self.shared;
        let lost = self.lost();
        let not_here = || RecoverError(format!("group {group} is not open here"));
        let member = shared.member(group).ok_or_else(not_here)?;
        if member.has_majority(&lost) {
            return Err(RecoverError("the group has its majority".to_owned()));
        }
        // A vote of this node too may be ahead of what the survey told.
        let (term, last) = member.foundation().await.map_err(RecoverError)?;
        let term = Term(term.0.max(above.0) + TERMS_AHEAD);
        let index = last.map_or(LogIndex::ZERO, |last| last.index.next());
        let at = LogPosition { term, index };
        let stand_in = member.all().into_iter().find(|node| lost.contains(node));
        let stand_in = stand_in
            .ok_or_else(|| RecoverError("no member of the group was declared lost".to_owned()))?;
        shared.fence.note(group, at, shared.env.clock.now()).await?;
        warn!(%group, ?last, %term, ?lost, "a group goes on with what this node holds of it");
        member.go_on_alone(stand_in, last, at).await.map_err(RecoverError)?;
        Ok(at)
    }
}

/// How long another node may take to tell how far its replicas are.
const SURVEY_PATIENCE: Duration = Duration::from_secs(5);

/// Whose turn it is to go on with groups.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// Held by a call of this node.
    here: Arc<tokio::sync::Mutex<()>>,
    /// The node, this one or another, and until when.
    turn: Mutex<Option<(NodeId, Instant)>>,
}

/// The turn to go on with groups; given back when dropped.
#[derive(Debug)]
pub struct Turn {
    shared: Arc<Shared>,
    _place: tokio::sync::OwnedMutexGuard<()>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shared.let_go_of_turn(self.shared.config.node);
    }
}

/// Terms that are passed over: those that lost nodes may have been elected in without a word to this one.
const TERMS_AHEAD: u64 = 1_000;

impl Shared {
    fn member(&self, group: GroupId) -> Option<Arc<dyn Member>> {
        self.groups().get(&group).map(|hosted| Arc::clone(&hosted.member))
    }

    fn standing(&self, group: GroupId) -> Option<Standing> {
        let record = self.votes.get(group).filter(|record| !record.deleted)?;
        let term = record.vote.map_or(Term(0), |vote| vote.term);
        let port = self.groups().get(&group).map(|hosted| Arc::clone(&hosted.port));
        let Some(frontier) = port.map(|port| port.log().frontier()) else {
            return Some(Standing { term, is_out: true, ..Standing::default() });
        };
        let Frontier { last, next_offset, append_time, .. } = frontier;
        Some(Standing { last, next_offset, append_time, term, is_out: false })
    }

    fn hold(&self, by: NodeId, within: Duration) -> Result<(), RecoverError> {
        let now = Instant::now();
        let mut turn = self.recovery.turn.lock().unwrap_or_else(PoisonError::into_inner);
        match *turn {
            Some((other, until)) if other != by && now < until => Err(RecoverError(format!(
                "broker {} goes on with groups at the moment: one broker after the other",
                other.broker
            ))),
            _ => {
                *turn = Some((by, now + within));
                Ok(())
            }
        }
    }

    fn let_go_of_turn(&self, by: NodeId) {
        let mut turn = self.recovery.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if turn.is_some_and(|(holder, _)| holder == by) {
            *turn = None;
        }
    }

    async fn shut_out(&self, lost: &BTreeSet<NodeId>) -> Result<(), RecoverError> {
        self.refuse_living(lost)?;
        self.fence.shut_out(lost, self.env.clock.now()).await?;
        self.peers.shut_out();
        Ok(())
    }

    fn refuse_living(&self, lost: &BTreeSet<NodeId>) -> Result<(), RecoverError> {
        let live = self.peers.live();
        match lost.intersection(&live).next() {
            None => Ok(()),
            Some(node) => Err(RecoverError(format!(
                "broker {} answers broker {}: it is not lost; stop it first",
                node.broker, self.config.node.broker
            ))),
        }
    }

    pub(super) fn surveyed(
        &self,
        asked: v1::SurveyRequest,
    ) -> BoxFuture<'_, Result<v1::SurveyResponse, Status>> {
        Box::pin(async move {
            let lost = asked.lost.iter().map(|node| NodeId::from_u64(*node)).collect();
            let refused = |err: RecoverError| Status::failed_precondition(err.to_string());
            let by = NodeId::from_u64(asked.hello.map_or(0, |hello| hello.from));
            if asked.fence && asked.hold_ms == 0 {
                self.let_go_of_turn(by);
            } else if asked.fence {
                self.hold(by, Duration::from_millis(asked.hold_ms.into())).map_err(refused)?;
                self.shut_out(&lost).await.map_err(refused)?;
            } else {
                self.refuse_living(&lost).map_err(refused)?;
            }
            let mut standings = Vec::new();
            for group in &asked.groups {
                let id = wire::group(group);
                let id = id.map_err(|err| Status::invalid_argument(err.to_string()))?;
                let Some(standing) = self.standing(id) else { continue };
                standings.push(v1::GroupStanding {
                    group: group.clone(),
                    last: standing.last.map(log_id).as_ref().map(wire::log_id_out),
                    term: standing.term.0,
                    out: standing.is_out,
                });
            }
            Ok(v1::SurveyResponse { standings })
        })
    }
}
