//! The cluster's metadata: topics, partitions, configs, brokers and producer ids.
//!
//! One Raft group holds it; every broker follows that group and reconciles what it hosts with what
//! [`Machine`] says. The machine holds the *target*: which replicas a partition should have. Who
//! votes in a partition's group now is known by that group alone; its leader reports it, so that a
//! node that is no more needed learns of it.

mod broker;
mod change;
mod command;
mod config;
mod features;
mod machine;
mod moves;
mod outcome;
mod outlook;
mod placement;
mod plan;
mod registry;
mod snapshot;
mod software;
mod topic;
mod topics;

pub use broker::{
    ADDRESS_BYTES_MAX, Address, BROKER_ID_MAX, BROKERS_MAX, Broker, BrokerSpec, ClusterId,
    LISTENERS_MAX, RACK_BYTES_MAX,
};
pub use change::Change;
pub use command::{Command, ConfigChange, ConfigScope, LeaderReport, MembersReport, PartitionMove};
pub use config::{
    CONFIG_KEYS, ConfigEntry, ConfigKey, ConfigOverrides, ConfigSource, ConfigValue, InvalidConfig,
    TopicConfig,
};
pub use features::check_levels;
pub use machine::{Applied, Machine, PRODUCER_IDS_PER_BLOCK};
pub use outcome::{Outcome, Refusal, Reply, decode_reply, encode_reply};
pub use outlook::{Outlook, outlook};
pub use placement::place;
pub use plan::{Grounds, Load, Plan, evacuate, rebalance};
pub use snapshot::VERSION as SNAPSHOT_VERSION;
pub use software::Software;
pub use topic::{
    Leader, Leaving, PARTITIONS_MAX, PARTITIONS_PER_TOPIC_DEFAULT, PARTITIONS_PER_TOPIC_MAX,
    Partition, PartitionState, REPLICATION_FACTOR_DEFAULT_MAX, REPLICATION_FACTOR_MAX, TOPICS_MAX,
    Topic, TopicState,
};
