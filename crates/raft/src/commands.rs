//! Commands to the groups whose machines take them: the metadata group and coordinators.

use bytes::Bytes;
use openraft::errors::{ClientWriteError, RaftError};
use tidelog_state::metadata::Refusal;
use tidelog_types::{ErrorCode, NodeId};

use crate::clock::Clock;
use crate::config::{Outcome, Proposal};
use crate::replica::{Refused, Replica};
use crate::store::applier::Machine;

/// The largest command. The log refuses an entry that is too large, and an engine whose log refuses an
/// entry stops; so it is refused before anybody has seen it.
const COMMAND_BYTES_MAX: usize = 8 << 20;

/// The most entries that wait for room on a leader's disk before it takes no more commands: they are kept in
/// memory.
const WAITING_MAX: u64 = 4_096;

/// Why a command had no effect, or what is not known of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Another node leads, or should, for this one's disk is full; nothing was written.
    #[error("not the leader of the group")]
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

/// Proposes a command and waits until it is applied here. Leader only. Cancelling forgets the
/// outcome, not the command.
pub(crate) async fn propose<M: Machine>(
    replica: &Replica<M>,
    clock: &dyn Clock,
    body: Bytes,
) -> Result<Outcome, CommandError> {
    if body.len() > COMMAND_BYTES_MAX {
        let message =
            format!("the change has {} bytes, at most {COMMAND_BYTES_MAX} are allowed", body.len());
        return Err(Refusal { code: ErrorCode::MessageTooLarge, message }.into());
    }
    // Others write it, while it waits here for room on the disk. Not for ever.
    if replica.log.waits_for_room() && replica.log.unsynced() > WAITING_MAX {
        return Err(CommandError::NotLeader { hint: None });
    }
    replica.rouse().await;
    let proposal = Proposal::Command { append_time: clock.now(), body };
    match replica.raft.client_write(proposal).await {
        Ok(written) => Ok(written.data),
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
            let hint = to.leader_id.filter(|leader| *leader != replica.me);
            Err(CommandError::NotLeader { hint })
        }
        Err(_) => Err(CommandError::Unknown),
    }
}

/// Waits until everything committed before the call is applied here. Leader only.
pub(crate) async fn linearize<M: Machine>(replica: &Replica<M>) -> Result<(), CommandError> {
    replica.linearize().await.map_err(|refused| match refused {
        Refused::NotLeader(hint) => CommandError::NotLeader { hint },
        Refused::Other(_) => CommandError::Unknown,
    })
}
