//! The metadata group on this node, as the broker uses it.

use std::sync::Arc;

use openraft::errors::{ClientWriteError, RaftError};
use tidelog_state::metadata::{Command, Machine, Outcome as Changed, Refusal};
use tidelog_types::NodeId;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::{Outcome, Proposal};
use crate::leadership::Leadership;
use crate::partition::{TransferError, transferred};
use crate::replica::{Campaigner, RaftStatus, Refused, Replica};
use crate::store::machines::{MetadataMachine, Progress};

/// Why a command had no effect, or what is not known of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Another node leads; nothing was written.
    #[error("not the leader of the metadata group")]
    NotLeader {
        /// Who does, when known.
        hint: Option<NodeId>,
    },
    /// The machine's own answer.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It may take effect; every command may be proposed again.
    #[error("the outcome is unknown")]
    Unknown,
}

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
        let proposal =
            Proposal::Command { append_time: self.clock.now(), body: command.encode().into() };
        match self.replica.raft.client_write(proposal).await {
            Ok(written) => match written.data {
                Outcome::Metadata(result) => Ok(result?),
                other => unreachable!("the metadata group answered {other}"),
            },
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                let hint = to.leader_id.filter(|leader| *leader != self.replica.me);
                Err(CommandError::NotLeader { hint })
            }
            Err(_) => Err(CommandError::Unknown),
        }
    }

    /// Waits until everything committed before the call is applied here. Leader only.
    ///
    /// # Errors
    /// [`CommandError::NotLeader`] when a quorum does not confirm this node.
    pub async fn linearize(&self) -> Result<(), CommandError> {
        self.replica.linearize().await.map_err(|refused| match refused {
            Refused::NotLeader(hint) => CommandError::NotLeader { hint },
            Refused::Other(_) => CommandError::Unknown,
        })
    }

    /// Hands leadership to `to`, or to another voter when that one does not take it.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), TransferError> {
        transferred(self.replica.transfer(to, &*self.campaigner).await)
    }

    /// Where Raft stands.
    #[must_use]
    pub fn raft_status(&self) -> RaftStatus {
        self.replica.status()
    }
}
