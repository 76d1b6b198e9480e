//! Members and what they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidelog_types::{InstanceId, MemberId, Timestamp, TopicName};

use super::Partition;

/// What a member wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subscription {
    /// Topics by name; they need not exist.
    pub topics: BTreeSet<TopicName>,
    /// Topics by a pattern.
    pub pattern: Option<String>,
}

/// A partition that a member holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The group's epoch when it was granted.
    pub granted: u32,
    /// It was asked back, and is not given up yet.
    pub revoking: bool,
}

/// A member of a group.
///
/// Invariants:
/// - `epoch` changes exactly when the keys of `holdings` or a grant in it change.
/// - `revision` rises with every change of `epoch` or `holdings`, and when the member itself changes
///   what it said when it joined. It begins at 1.
/// - `revoking_since` is set exactly while a holding is revoking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Set for a static member.
    pub instance: Option<InstanceId>,
    /// Name of its client.
    pub client_id: String,
    /// What it subscribes to.
    pub subscription: Subscription,
    /// How long it may be silent.
    pub session_timeout: Duration,
    /// How long giving up may take.
    pub rebalance_timeout: Duration,
    /// The group's epoch at the last change of what it holds.
    pub epoch: u32,
    /// Counts the changes that the member has to hear of.
    pub revision: u64,
    /// What it holds.
    pub holdings: BTreeMap<Partition, Holding>,
    /// When the first of its holdings that are revoking was asked back, by the log's time.
    pub revoking_since: Option<Timestamp>,
    /// From whom it took its instance over, last. That one is fenced: it may not take it back.
    pub replaced: Option<MemberId>,
}
