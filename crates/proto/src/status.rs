//! Errors that end a call or a stream: a gRPC status with the typed error inside.
//!
//! The details follow gRPC's richer error model, so that other languages' helpers read them:
//! `grpc-status-details-bin` holds a `google.rpc.Status`, and that one `Any` with our error.

use prost::Message;
use tidelog_types::ErrorCode;
use tonic::{Code, Status};

use crate::v1::Error;

const TYPE_URL: &str = "type.googleapis.com/tidelog.v1.Error";

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = error.error_code().map_or(Code::Unknown, grpc_code);
        let message = error.to_string();
        let any = Any { type_url: TYPE_URL.to_owned(), value: error.encode_to_vec() };
        let details = RpcStatus { code: code.into(), message: message.clone(), details: vec![any] };
        Self::with_details(code, message, details.encode_to_vec().into())
    }
}

impl Error {
    /// The error inside `status`; `None` when the status is not one of ours, as when a connection
    /// broke or a proxy answered.
    #[must_use]
    pub fn from_status(status: &Status) -> Option<Self> {
        let details = RpcStatus::decode(status.details()).ok()?;
        let any = details.details.into_iter().find(|any| any.type_url == TYPE_URL)?;
        Self::decode(any.value.as_slice()).ok()
    }
}

/// The gRPC code that stands for `code`. Proxies and generic clients act on it: what may be sent again
/// as it is becomes `UNAVAILABLE`.
fn grpc_code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::OffsetOutOfRange => Code::OutOfRange,
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::UnknownTopicId
        | ErrorCode::GroupIdNotFound => Code::NotFound,
        ErrorCode::LeaderNotAvailable
        | ErrorCode::NotLeader
        | ErrorCode::NotController
        | ErrorCode::NotCoordinator
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::BrokerNotAvailable
        | ErrorCode::OffsetNotAvailable
        | ErrorCode::ClusterNotFormed
        | ErrorCode::ReassignmentInProgress
        | ErrorCode::ReplicaQuarantined
        | ErrorCode::StorageError => Code::Unavailable,
        ErrorCode::RequestTimedOut => Code::DeadlineExceeded,
        ErrorCode::TopicAlreadyExists => Code::AlreadyExists,
        ErrorCode::InvalidTopic
        | ErrorCode::InvalidTimestamp
        | ErrorCode::InvalidPartitions
        | ErrorCode::InvalidReplicationFactor
        | ErrorCode::InvalidReplicaAssignment
        | ErrorCode::InvalidConfig
        | ErrorCode::InvalidGroupId
        | ErrorCode::InvalidSessionTimeout
        | ErrorCode::InvalidCommitOffsetSize
        | ErrorCode::InvalidRegularExpression
        | ErrorCode::InvalidRequest
        | ErrorCode::InvalidRecord
        | ErrorCode::CorruptMessage
        | ErrorCode::MessageTooLarge => Code::InvalidArgument,
        ErrorCode::OutOfOrderSequence
        | ErrorCode::DuplicateSequence
        | ErrorCode::InvalidProducerEpoch
        | ErrorCode::UnknownProducerId
        | ErrorCode::UnknownMemberId
        | ErrorCode::NonEmptyGroup
        | ErrorCode::FencedInstanceId
        | ErrorCode::FencedMemberEpoch
        | ErrorCode::StaleMemberEpoch
        | ErrorCode::GroupSubscribedToTopic
        | ErrorCode::FeatureUpdateFailed
        | ErrorCode::InconsistentClusterId => Code::FailedPrecondition,
        ErrorCode::UnsupportedCompression | ErrorCode::Unsupported => Code::Unimplemented,
        ErrorCode::ResourceExhausted | ErrorCode::StorageFull | ErrorCode::GroupMaxSizeReached => {
            Code::ResourceExhausted
        }
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::LeaderHint;

    #[test]
    fn an_error_comes_back_out_of_its_status() {
        let leader = LeaderHint { broker_id: 2, address: "b:7071".to_owned(), leader_epoch: 9 };
        let error = Error::new(ErrorCode::NotLeader, "broker 1 does not lead orders/0");
        let error = error.with_leader(Some(leader));
        let status = Status::from(error.clone());
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.message(), "NOT_LEADER_OR_FOLLOWER: broker 1 does not lead orders/0");
        assert_eq!(Error::from_status(&status), Some(error));
    }

    #[test]
    fn a_foreign_status_holds_no_error() {
        assert_eq!(Error::from_status(&Status::unavailable("proxy is down")), None);
        let garbage = Status::with_details(Code::Unknown, "", vec![0xff; 9].into());
        assert_eq!(Error::from_status(&garbage), None);
    }

    #[test]
    fn only_an_error_without_its_own_status_is_unknown() {
        for code in ErrorCode::ALL {
            let unknown = grpc_code(*code) == Code::Unknown;
            assert_eq!(unknown, *code == ErrorCode::UnknownServerError, "{code}");
        }
    }
}
