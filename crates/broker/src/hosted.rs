//! The replicas that this broker hosts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tidelog_raft::{
    Coordinator, Leadership, MemberError, MemberStep, Partition, RaftStatus, Role, Target,
    TransferError,
};
use tidelog_types::{GroupId, NodeId, Term, TopicName};
use tokio::sync::watch;

use crate::budget::Budget;

/// One replica.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) group: GroupId,
    pub(crate) topic: TopicName,
    pub(crate) state: ReplicaState,
    /// Bytes of batches in flight that this partition may hold.
    pub(crate) share: Arc<Budget>,
    batch_bytes_max: AtomicUsize,
    needs_keys: AtomicBool,
}

/// What batches a topic takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Takes {
    /// The largest.
    pub(crate) batch_bytes_max: usize,
    /// Whether every record must have a key, for the topic is compacted.
    pub(crate) needs_keys: bool,
}

/// Whether a replica takes part in its group.
#[derive(Debug)]
pub(crate) enum ReplicaState {
    /// It does, and holds records.
    Open(Partition),
    /// It does, and coordinates consumer groups.
    Coordinator(Coordinator),
    /// It does not: its disk is damaged or failed. It neither votes nor acks.
    Out(String),
}

impl Replica {
    pub(crate) fn new(
        group: GroupId,
        topic: TopicName,
        state: ReplicaState,
        share: Arc<Budget>,
        takes: Takes,
    ) -> Self {
        let batch_bytes_max = AtomicUsize::new(takes.batch_bytes_max);
        let needs_keys = AtomicBool::new(takes.needs_keys);
        Self { group, topic, state, share, batch_bytes_max, needs_keys }
    }

    /// The partition, if this is one, unless the replica stepped out.
    pub(crate) fn partition(&self) -> Option<&Partition> {
        match &self.state {
            ReplicaState::Open(partition) => Some(partition),
            ReplicaState::Coordinator(_) | ReplicaState::Out(_) => None,
        }
    }

    /// The coordinator, if this is one, unless the replica stepped out.
    pub(crate) fn coordinator(&self) -> Option<&Coordinator> {
        match &self.state {
            ReplicaState::Coordinator(coordinator) => Some(coordinator),
            ReplicaState::Open(_) | ReplicaState::Out(_) => None,
        }
    }

    /// Whether it takes no part in its group: it found damage, or its engine stopped over a disk that
    /// failed.
    pub(crate) fn is_out_of_service(&self) -> bool {
        self.raft_status().is_none_or(|status| status.stopped.is_some())
    }

    /// Who leads, as it changes; `None` once the replica stepped out.
    pub(crate) fn leadership_changes(&self) -> Option<watch::Receiver<Leadership>> {
        match &self.state {
            ReplicaState::Open(partition) => Some(partition.leadership()),
            ReplicaState::Coordinator(coordinator) => Some(coordinator.leadership()),
            ReplicaState::Out(_) => None,
        }
    }

    /// Who leads, as this replica knows.
    pub(crate) fn leadership(&self) -> Option<Leadership> {
        self.leadership_changes().map(|leadership| *leadership.borrow())
    }

    /// Where Raft stands.
    pub(crate) fn raft_status(&self) -> Option<RaftStatus> {
        match &self.state {
            ReplicaState::Open(partition) => Some(partition.raft_status()),
            ReplicaState::Coordinator(coordinator) => Some(coordinator.raft_status()),
            ReplicaState::Out(_) => None,
        }
    }

    /// Bytes of its log.
    pub(crate) fn log_bytes(&self) -> u64 {
        match &self.state {
            ReplicaState::Open(partition) => partition.log_bytes(),
            ReplicaState::Coordinator(coordinator) => coordinator.log_bytes(),
            ReplicaState::Out(_) => 0,
        }
    }

    /// Hands leadership to `to`.
    pub(crate) async fn transfer_leader(&self, to: NodeId) -> Result<(), TransferError> {
        match &self.state {
            ReplicaState::Open(partition) => partition.transfer_leader(to).await,
            ReplicaState::Coordinator(coordinator) => coordinator.transfer_leader(to).await,
            ReplicaState::Out(_) => Err(TransferError::NotLeader { hint: None }),
        }
    }

    /// Takes one step towards the members that the group should have; see [`Partition::step_towards`].
    pub(crate) async fn step_towards(
        &self,
        term: Term,
        target: &Target,
    ) -> Result<MemberStep, MemberError> {
        match &self.state {
            ReplicaState::Open(partition) => partition.step_towards(term, target).await,
            ReplicaState::Coordinator(coordinator) => coordinator.step_towards(term, target).await,
            ReplicaState::Out(_) => Err(MemberError::NotLeader),
        }
    }

    /// Whether this replica leads, ready or not.
    pub(crate) fn leads(&self) -> bool {
        self.leadership().is_some_and(|leadership| leadership.role == Role::Leader)
    }

    /// What batches the topic takes.
    pub(crate) fn takes(&self) -> Takes {
        Takes {
            batch_bytes_max: self.batch_bytes_max.load(Ordering::Relaxed),
            needs_keys: self.needs_keys.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn set_takes(&self, takes: Takes) {
        self.batch_bytes_max.store(takes.batch_bytes_max, Ordering::Relaxed);
        self.needs_keys.store(takes.needs_keys, Ordering::Relaxed);
    }
}

/// All replicas of this broker.
#[derive(Debug, Default)]
pub(crate) struct Hosted(RwLock<BTreeMap<GroupId, Arc<Replica>>>);

impl Hosted {
    pub(crate) fn find(&self, group: GroupId) -> Option<Arc<Replica>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&group).cloned()
    }

    pub(crate) fn put(&self, replica: Arc<Replica>) {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        map.insert(replica.group, replica);
    }

    pub(crate) fn remove(&self, group: GroupId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&group);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Replica>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
