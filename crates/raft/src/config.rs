//! How openraft is set up: the type config, the entry, and the engine's settings.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::entry::RaftEntry;
use openraft::impls::leader_id_std;
use openraft::{EntryPayload, Membership, SnapshotPolicy};
use smallvec::SmallVec;
use tidelog_log as log;
use tidelog_state::{group, metadata, partition};
use tidelog_types::batch::Info;
use tidelog_types::canary;
use tidelog_types::{LogIndex, LogPosition, NodeId, Term, Timestamp};

openraft::declare_raft_types!(
    /// One type config for all groups; a group's kind shows in its proposals and outcomes.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Outcome,
        NodeId = NodeId,
        // Addresses come from the broker registry, never from a membership entry.
        Node = (),
        // H2: one leader a term, so that the term can serve as leader epoch.
        LeaderId = leader_id_std::LeaderId<u64, NodeId>,
        Entry = Entry,
        AsyncRuntime = openraft_rt_tokio::TokioRuntime,
);

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type LeaderId = openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type Snapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, log::StartPoint>;
pub(crate) type Members = Membership<NodeId, ()>;
pub(crate) type Payload = EntryPayload<Proposal, NodeId, ()>;

/// What a leader proposes, and what a log entry of ours holds.
#[derive(Clone, Debug)]
pub(crate) enum Proposal {
    /// Record batches of a partition.
    Records(Records),
    /// A command for the group's state machine.
    Command {
        /// The leader's clock.
        append_time: Timestamp,
        /// Encoded by the state machine's own format.
        body: Bytes,
    },
}

/// Record batches, validated and numbered by the sequencer.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    /// The leader's clock.
    pub(crate) append_time: Timestamp,
    /// Number of the proposal in its term; an entry out of turn is void.
    pub(crate) ordinal: u64,
    /// Heads of the batches. Stamped once the entry has gone through the log.
    pub(crate) batches: SmallVec<[Info; 1]>,
    /// The bytes, or where they lie: apply never needs them.
    pub(crate) body: log::Body,
    /// If some were taken out by compaction: the parts as they were appended.
    pub(crate) original: Option<SmallVec<[log::Part; 1]>>,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records(records) => {
                write!(f, "records(ordinal={}, batches={})", records.ordinal, records.batches.len())
            }
            Self::Command { body, .. } => write!(f, "command(bytes={})", body.len()),
        }
    }
}

/// What applying an entry answers to its proposer.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Nothing to say: blank and membership entries, and entries of other kinds of groups.
    None,
    /// From a partition's machine.
    Partition(partition::Outcome),
    /// From the metadata machine.
    Metadata(Result<metadata::Outcome, metadata::Refusal>),
    /// From a coordinator's machine.
    Group(Result<group::Outcome, group::Refusal>),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A log entry as openraft handles it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    leader: LeaderId,
    index: u64,
    /// Blank, membership or a proposal.
    pub(crate) payload: Payload,
    /// What the log derived for the entry; present once it came out of the log or off the wire.
    pub(crate) header: Option<log::Header>,
    /// The leader's chain value, from the wire.
    pub(crate) expect_chain: Option<u32>,
}

impl Entry {
    /// An entry at a known position.
    pub(crate) fn at(position: LogPosition, payload: Payload) -> Self {
        Self {
            leader: LeaderId::new(position.term.0),
            index: position.index.0,
            payload,
            header: None,
            expect_chain: None,
        }
    }

    /// Where the entry stands.
    pub(crate) fn position(&self) -> LogPosition {
        LogPosition { term: Term(self.leader.term), index: LogIndex(self.index) }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.position(), self.payload)
    }
}

impl RaftEntry for Entry {
    type CommittedLeaderId = LeaderId;
    type Payload = Payload;

    fn new(log_id: LogId, payload: Payload) -> Self {
        Self::at(position(&log_id), payload)
    }

    fn log_id_parts(&self) -> (&LeaderId, u64) {
        (&self.leader, self.index)
    }

    fn set_log_id(&mut self, new: LogId) {
        self.leader = new.leader_id;
        self.index = new.index;
    }

    fn get_membership(&self) -> Option<Members> {
        match &self.payload {
            EntryPayload::Membership(members) => Some(members.clone()),
            EntryPayload::Blank | EntryPayload::Normal(_) => None,
        }
    }
}

/// openraft's log id as ours.
pub(crate) fn position(log_id: &LogId) -> LogPosition {
    LogPosition { term: Term(log_id.leader_id.term), index: LogIndex(log_id.index) }
}

/// Our position as openraft's log id.
pub(crate) fn log_id(position: LogPosition) -> LogId {
    LogId::new(LeaderId::new(position.term.0), position.index.0)
}

/// openraft's vote as the journal's.
pub(crate) fn stored_vote(vote: &Vote) -> log::Vote {
    log::Vote {
        term: Term(vote.leader_id.term),
        node: Some(vote.leader_id.voted_for),
        committed: vote.committed,
    }
}

/// The journal's vote as openraft's. A vote for nobody is none.
pub(crate) fn raft_vote(vote: &log::Vote) -> Option<Vote> {
    let node = vote.node?;
    Some(if vote.committed {
        Vote::new_committed(vote.term.0, node)
    } else {
        Vote::new(vote.term.0, node)
    })
}

/// Timings of the engine. The node's liveness probes decide faster; these are the backstop.
#[derive(Clone, Debug)]
pub(crate) struct Timings {
    pub(crate) heartbeat: Duration,
    pub(crate) election_min: Duration,
    pub(crate) election_max: Duration,
}

/// Entries that one replication message may carry; its bytes are bounded by the log reader.
const PAYLOAD_ENTRIES_MAX: u64 = 256;

/// How long a snapshot may take to send and install.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);

/// The engine's settings for one group. Who `stands` for election may do so by itself.
pub(crate) fn engine(name: String, timings: &Timings, stands: bool) -> Arc<openraft::Config> {
    let millis = |duration: Duration| duration.as_millis() as u64;
    Arc::new(openraft::Config {
        cluster_name: name,
        heartbeat_interval: millis(timings.heartbeat),
        election_timeout_min: millis(timings.election_min),
        election_timeout_max: millis(timings.election_max),
        max_payload_entries: PAYLOAD_ENTRIES_MAX,
        install_snapshot_timeout: millis(SNAPSHOT_TIMEOUT),
        // Snapshots are start points that the log writes as segments roll; retention asks for them.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        replication_lag_threshold: u64::MAX,
        // Followers write while the leader does: the local fsync and replication overlap.
        broadcast_submitted_on_append: Some(true),
        // H11: with early broadcast a leader that comes back in its old term may give an old
        // position to new bytes. A restarted leader always stands for election again.
        enable_leader_restore: Some(canary!(LeaderRestored)),
        enable_elect: stands,
        // A node that was cut off must not disturb the others when it comes back.
        enable_pre_vote: Some(true),
        // Of no use without the engine's statistics, and allocated for each group all the same.
        log_stage_capacity: Some(1),
        // A voter that lost its log is another node here, never a reversion.
        allow_log_reversion: None,
        ..openraft::Config::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hazard H2: by the engine's default, votes for two nodes in one term are ordered, so that both
    /// can lead it, and a leader epoch would name two logs.
    #[test]
    fn votes_for_two_nodes_in_one_term_exclude_each_other() {
        let vote = |term, broker| Vote::new(term, NodeId::new(broker, 1));
        assert_eq!(vote(1, 1).partial_cmp(&vote(1, 2)), None);
        assert!(vote(1, 2) < vote(2, 1));
    }
}
