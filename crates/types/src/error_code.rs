//! Error codes: Kafka's names, numbers and meaning where Kafka has one.

use std::fmt;

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Try the same again, after a pause.
    Retry,
    /// Ask another broker, after a look at fresh metadata.
    Redirect,
    /// The request is wrong and stays wrong.
    Invalid,
    /// Stored or sent bytes are not what they were.
    Corrupt,
    /// The component that answered is of no more use.
    Fatal,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $kind:ident;)*) => {
        /// A code of the native API. Numbers below 1000 are Kafka's, the others are ours.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorCode {
            /// All codes, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> i32 {
                match self { $(Self::$variant => $number,)* }
            }

            /// The name, as Kafka writes it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What a caller can do.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)* }
            }

            /// The code with this number; `None` when this version does not know it.
            #[must_use]
            pub const fn from_number(number: i32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

error_codes! {
    /// Something failed that has no code of its own.
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", Fatal;
    /// The offset lies below the log start or above the high watermark.
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", Invalid;
    /// A batch fails its checksum or is not laid out as a batch.
    CorruptMessage = 2, "CORRUPT_MESSAGE", Corrupt;
    /// No such topic, or no such partition of it.
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", Invalid;
    /// The partition has no leader now.
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", Retry;
    /// This broker does not lead the partition.
    NotLeader = 6, "NOT_LEADER_OR_FOLLOWER", Redirect;
    /// No answer in time; a write may have happened.
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", Retry;
    /// The broker is not up.
    BrokerNotAvailable = 8, "BROKER_NOT_AVAILABLE", Retry;
    /// The batch is larger than `max.message.bytes`.
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", Invalid;
    /// The coordinator is replaying its log.
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", Retry;
    /// The coordinator of the group has no leader now.
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", Retry;
    /// This broker does not lead the coordinator of the group.
    NotCoordinator = 16, "NOT_COORDINATOR", Redirect;
    /// The topic name breaks the rule.
    InvalidTopic = 17, "INVALID_TOPIC_EXCEPTION", Invalid;
    /// The group id breaks the rule.
    InvalidGroupId = 24, "INVALID_GROUP_ID", Invalid;
    /// The group has no such member (any more): it was expired, or replaced.
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", Invalid;
    /// The session timeout is out of bounds.
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT", Invalid;
    /// The metadata of a commit is too long.
    InvalidCommitOffsetSize = 28, "INVALID_COMMIT_OFFSET_SIZE", Invalid;
    /// A timestamp is of a type, or out of the bounds, that the topic does not take.
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", Invalid;
    /// A topic of this name exists.
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", Invalid;
    /// The number of partitions is out of bounds.
    InvalidPartitions = 37, "INVALID_PARTITIONS", Invalid;
    /// The replication factor is zero or exceeds the number of brokers.
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", Invalid;
    /// The brokers that a partition is to have replicas on are none, too many, unknown or repeated.
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT", Invalid;
    /// A configuration key is unknown or its value out of bounds.
    InvalidConfig = 40, "INVALID_CONFIG", Invalid;
    /// This broker does not lead the metadata group.
    NotController = 41, "NOT_CONTROLLER", Redirect;
    /// The request is malformed.
    InvalidRequest = 42, "INVALID_REQUEST", Invalid;
    /// The batch does not follow the producer's last one.
    OutOfOrderSequence = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", Invalid;
    /// The batch was appended long ago; its offset is no longer known.
    DuplicateSequence = 46, "DUPLICATE_SEQUENCE_NUMBER", Invalid;
    /// A newer instance of the producer exists.
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", Fatal;
    /// The disk of the partition failed.
    StorageError = 56, "KAFKA_STORAGE_ERROR", Retry;
    /// The partition does not know the producer id (any more): take a new epoch.
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", Invalid;
    /// An earlier move of the partition is not over.
    ReassignmentInProgress = 60, "REASSIGNMENT_IN_PROGRESS", Retry;
    /// The group has members.
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", Invalid;
    /// No such group.
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", Invalid;
    /// The batch's codec is unknown to the broker.
    UnsupportedCompression = 76, "UNSUPPORTED_COMPRESSION_TYPE", Invalid;
    /// The high watermark of a new leader is not known yet.
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", Retry;
    /// The group has as many members as it may have.
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", Invalid;
    /// Another member has taken the instance over.
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", Fatal;
    /// A member of the group subscribes to the topic.
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC", Invalid;
    /// A record breaks a rule of its topic.
    InvalidRecord = 87, "INVALID_RECORD", Invalid;
    /// The feature level is not raised: a broker does not support it, or it would be lowered.
    FeatureUpdateFailed = 96, "FEATURE_UPDATE_FAILED", Invalid;
    /// No topic has this id.
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", Retry;
    /// The request was meant for another cluster.
    InconsistentClusterId = 104, "INCONSISTENT_CLUSTER_ID", Invalid;
    /// The member does not hold the partition.
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", Invalid;
    /// The member's holdings have changed: a heartbeat tells how.
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", Retry;
    /// The topic pattern does not parse.
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", Invalid;
    /// A budget of the broker is used up.
    ResourceExhausted = 1000, "RESOURCE_EXHAUSTED", Retry;
    /// The disk is full; reads go on.
    StorageFull = 1001, "STORAGE_FULL", Retry;
    /// The cluster has not formed yet.
    ClusterNotFormed = 1002, "CLUSTER_NOT_FORMED", Retry;
    /// The replica found damage and stepped out.
    ReplicaQuarantined = 1003, "REPLICA_QUARANTINED", Retry;
    /// The request names a group, member or feature that this version does not have.
    Unsupported = 1004, "UNSUPPORTED", Invalid;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_lead_back() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code.number()), Some(*code));
        }
        assert_eq!(ErrorCode::from_number(31_337), None);
    }
}
