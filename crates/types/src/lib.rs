//! The words that every crate speaks: ids, positions, names, error codes and the record-batch bytes.
//!
//! Nothing here does I/O, reads a clock or needs a runtime.

pub mod batch;
#[cfg(tidelog_faults)]
pub mod canary;
mod error_code;
#[cfg(tidelog_faults)]
pub mod failpoint;
mod feature_level;
mod group_name;
mod ids;
mod names;
mod positions;

pub use error_code::{ErrorCode, Kind};
pub use feature_level::{FEATURES, Feature, FeatureLevel, FeatureLevels};
pub use group_name::{GROUP_ID_BYTES_MAX, GroupName, InstanceId, InvalidGroupText, MemberId};
pub use ids::{
    BrokerId, GroupId, Incarnation, InvalidId, NodeId, PartitionId, ProducerEpoch, ProducerId,
    TopicId,
};
pub use names::{
    CONSUMER_GROUPS_TOPIC, InvalidTopicName, TOPIC_NAME_BYTES_MAX, TopicName, TopicPartition,
};
pub use positions::{LogIndex, LogPosition, Offset, Term, Timestamp};

/// Whether the bug of this name is planted; see `canary`.
#[cfg(tidelog_faults)]
#[macro_export]
macro_rules! canary {
    ($bug:ident) => {
        $crate::canary::planted($crate::canary::Canary::$bug)
    };
}

/// Whether the bug of this name is planted: only ever in a build with `--cfg tidelog_faults`.
#[cfg(not(tidelog_faults))]
#[macro_export]
macro_rules! canary {
    ($bug:ident) => {
        false
    };
}

/// Ends the process here when a test wants it so; see `failpoint`.
#[cfg(tidelog_faults)]
#[macro_export]
macro_rules! failpoint {
    ($what:literal, $step:literal, $phase:ident) => {
        $crate::failpoint::reached($what, $step, $crate::failpoint::Phase::$phase)
    };
}

/// Ends the process here when a test wants it so: only ever in a build with `--cfg tidelog_faults`.
#[cfg(not(tidelog_faults))]
#[macro_export]
macro_rules! failpoint {
    ($what:literal, $step:literal, $phase:ident) => {};
}
