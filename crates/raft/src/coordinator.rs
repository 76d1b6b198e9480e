//! A coordinator of consumer groups on this node, as the broker uses it.

use std::sync::{Arc, PoisonError, RwLock};

use tidelog_state::group::{Command, Group, Machine, Outcome as Done};
use tidelog_types::{GroupId, GroupName, NodeId, Term};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::commands::{self, CommandError};
use crate::config::Outcome;
use crate::leadership::Leadership;
use crate::members::{MemberError, MemberStep, Target};
use crate::partition::{TransferError, transferred};
use crate::replica::{Campaigner, RaftStatus, Replica};
use crate::store::machines::CoordinatorMachine;

/// A coordinator's replica. Clones share it.
#[derive(Clone, Debug)]
pub struct Coordinator {
    pub(crate) replica: Replica<CoordinatorMachine>,
    pub(crate) machine: Arc<RwLock<Machine>>,
    pub(crate) changes: watch::Receiver<u64>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) campaigner: Arc<dyn Campaigner>,
}

impl Coordinator {
    /// The Raft group.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.replica.group
    }

    /// Who leads, as it changes.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.replica.leadership.clone()
    }

    /// A consumer group, as it is applied here.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<Arc<Group>> {
        self.read(|machine| machine.group(name).cloned())
    }

    /// All consumer groups, as they are applied here, by name.
    #[must_use]
    pub fn groups(&self) -> Vec<(GroupName, Arc<Group>)> {
        let pair = |(name, group): (&GroupName, &Arc<Group>)| (name.clone(), Arc::clone(group));
        self.read(|machine| machine.groups().map(pair).collect())
    }

    /// Moves with everything that some member has to hear of; commits do not move it.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Proposes a command and waits until it is applied here. Leader only. Cancelling forgets the
    /// outcome, not the command.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn propose(&self, command: &Command) -> Result<Done, CommandError> {
        let body = command.encode().into();
        match commands::propose(&self.replica, &*self.clock, body).await? {
            Outcome::Group(result) => Ok(result?),
            other => unreachable!("a coordinator answered {other}"),
        }
    }

    /// Waits until everything committed before the call is applied here. Leader only.
    ///
    /// # Errors
    /// [`CommandError::NotLeader`] when a quorum does not confirm this node.
    pub async fn linearize(&self) -> Result<(), CommandError> {
        commands::linearize(&self.replica).await
    }

    /// Hands leadership to `to`, or to another voter when that one does not take it.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), TransferError> {
        transferred(self.replica.transfer(to, &*self.campaigner).await)
    }

    /// Takes one step towards `target`, which must have been asked for after this node was elected in
    /// `term`. Leader only. Cancelling may leave the change half done; the next step finishes it.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn step_towards(
        &self,
        term: Term,
        target: &Target,
    ) -> Result<MemberStep, MemberError> {
        self.replica.step_towards(term, target, &*self.campaigner).await
    }

    /// Where Raft stands.
    #[must_use]
    pub fn raft_status(&self) -> RaftStatus {
        self.replica.status()
    }

    /// Bytes of the log on this node's disk.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.replica.log.bytes()
    }

    fn read<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        // A panic while applying stops the engine, and nobody is served by a replica without one.
        look(&self.machine.read().unwrap_or_else(PoisonError::into_inner))
    }
}
