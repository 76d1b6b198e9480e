//! The metadata group on this node, as the broker uses it.

use std::sync::Arc;

use tidelog_state::metadata::{Command, Machine, Outcome as Changed};
use tidelog_types::{NodeId, Term};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::commands::{self, CommandError};
use crate::config::Outcome;
use crate::leadership::Leadership;
use crate::members::{MemberError, MemberStep, Target};
use crate::partition::{TransferError, transferred};
use crate::replica::{Campaigner, RaftStatus, Replica};
use crate::store::machines::{MetadataMachine, Progress};

/// The metadata group. Clones share it.
#[derive(Clone, Debug)]
pub struct Metadata {
    pub(crate) replica: Replica<MetadataMachine>,
    pub(crate) machine: watch::Receiver<Arc<Machine>>,
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) campaigner: Arc<dyn Campaigner>,
}

impl Metadata {
    /// The applied machine, as it changes.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<Arc<Machine>> {
        self.machine.clone()
    }

    /// What is applied, as it moves; offsets stay zero.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Who leads, as it changes.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.replica.leadership.clone()
    }

    /// Proposes a command and waits until it is applied here. Leader only. Cancelling forgets the
    /// outcome, not the command.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn propose(&self, command: &Command) -> Result<Changed, CommandError> {
        let body = command.encode().into();
        match commands::propose(&self.replica, &*self.clock, body).await? {
            Outcome::Metadata(result) => Ok(result?),
            other => unreachable!("the metadata group answered {other}"),
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
}
