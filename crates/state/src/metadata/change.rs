//! What an applied command changed, for brokers that reconcile.

use tidelog_types::{BrokerId, GroupId, TopicId};

/// One thing that changed; the machine tells what it is now.
///
/// A feed of hints: a broker that missed some, after a snapshot or a restart, looks at everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// The cluster formed.
    Formed,
    /// A broker is new or gone, or has another incarnation, rack or address, or is being drained.
    Broker(BrokerId),
    /// The cluster's feature level was raised.
    FeatureLevel,
    /// A config of the whole cluster changed: every topic may be concerned.
    ClusterConfig,
    /// A topic is new, with its partitions.
    TopicCreated(TopicId),
    /// A config of the topic changed.
    TopicConfig(TopicId),
    /// The topic was deleted: replicas remove their data and report.
    TopicDeleting(TopicId),
    /// Every replica of the topic is gone, and so is its description.
    TopicGone(TopicId),
    /// A partition is new, or its state, target or reported leader changed.
    Partition(GroupId),
}
