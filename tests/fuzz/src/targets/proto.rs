//! Messages of the network, and the errors in its statuses.

use std::time::Duration;

use prost::Message;
use tidelog_proto::v1;
use tidelog_types::ErrorCode;
use tonic::{Code, Status};

use super::verdict;
use crate::engine::Target;

/// Decodes a message of one type, and that again from its own bytes.
type Decode = fn(&[u8]) -> String;

fn decode<M: Message + Default + PartialEq>(bytes: &[u8]) -> String {
    verdict(M::decode(bytes), |message| {
        let again = M::decode(&*message.encode_to_vec()).expect("what was encoded is decoded");
        // A number that is none is equal to nothing; no message has one.
        assert!(again == message, "another message came out");
        format!("ok {}", message.encoded_len().min(64) / 4)
    })
}

macro_rules! messages {
    ($($message:ident),* $(,)?) => {
        /// Every message, by name.
        static ALL: &[(&str, Decode)] = &[$((stringify!($message), decode::<v1::$message>)),*];
    };
}

messages! {
    Error,
    LeaderHint, TopicPartition, OffsetSpec, Record, RecordHeader, ConfigEntry,
    CreateTopicsRequest, NewTopic, ConfigValue, CreateTopicsResponse, CreateTopicsResult,
    CreatedTopic, DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicsResult,
    AlterConfigsRequest, TopicConfigs, AlterConfigsResponse, AlterConfigsResult,
    TransferLeaderRequest, TransferLeaderItem, TransferLeaderResponse, TransferLeaderResult,
    ClusterHealthRequest, ClusterHealthResponse, DescribePartitionRaftRequest,
    DescribePartitionRaftResponse, DescribePartitionRaftResult, PartitionRaft, ReplicaRaft,
    SetLogLevelRequest, SetLogLevelResponse, ScrubPartitionRequest, ScrubPartitionResponse,
    CreatePartitionsRequest, NewPartitions, CreatePartitionsResponse, CreatePartitionsResult,
    TrimPartitionsRequest, TrimPartitionsItem, TrimPartitionsResponse, TrimPartitionsResult,
    MovePartitionsRequest, MovePartitionsItem, MovePartitionsResponse, CanStopRequest,
    CanStopResponse, StopRisk, RebalancePartitionsRequest, RebalancePartitionsResponse,
    PlannedMove, PlannedLoad, DrainBrokerRequest, DrainBrokerResponse, RemoveBrokerRequest,
    RemoveBrokerResponse, FinalizeUpgradeRequest, FinalizeUpgradeResponse, Feature,
    BrokerSoftware, DescribeConfigurationRequest, DescribeConfigurationResponse,
    DescribeReplicasRequest, DescribeReplicasResponse, HostedReplica,
    ProduceRequest, ProduceResponse, Appended, FetchRequest, FetchOpen, FetchUntil,
    FetchCredit, FetchResponse, ListOffsetsRequest, ListOffsetsItem, ListOffsetsResponse,
    ListOffsetsResult, ListedOffset, InitProducerRequest, InitProducerResponse,
    ProducerIdentity, ProduceRecordsRequest, ProduceRecordsResponse, ProduceRecordsResult,
    FetchRecordsRequest, FetchRecordsResponse, FetchedRecord, HeartbeatRequest, Subscription,
    Holdings, HeartbeatResponse, AssignedPartition, CommittedOffset, LeaveGroupRequest,
    LeaveGroupResponse, CommitOffsetsRequest, OffsetCommit, CommitOffsetsResponse,
    CommitOffsetsResult, FetchOffsetsRequest, FetchOffsetsResponse, GroupOffset,
    ListGroupsRequest, ListGroupsResponse, GroupListing, DescribeGroupRequest,
    DescribeGroupResponse, GroupMember, GroupHolding, SeekGroupRequest, SeekTarget,
    SeekGroupResponse, SeekGroupResult, DeleteGroupRequest, DeleteGroupResponse,
    DeleteOffsetsRequest, DeleteOffsetsResponse, DeleteOffsetsResult, SubscribeRequest,
    SubscribeOpen, SubscribeCredit, SubscribeAck, SubscribeResponse, SubscribeOpened,
    SubscribeRecords, SubscribeAssignment, DescribeClusterRequest, DescribeClusterResponse,
    Broker, ListenerAddress, DescribeTopicsRequest, DescribeTopicsResponse,
    DescribeTopicsResult, TopicDescription, PartitionDescription, ListTopicsRequest,
    ListTopicsResponse, TopicListing, IntroduceRequest, IntroduceResponse, RaftVote, RaftLogId,
    RaftEntry, RaftPart, ExchangeRequest, StreamHello, ExchangeResponse, RaftRequest, AppendRequest,
    VoteRequest, TransferRequest, EndStream, Probe, ProbeReply, Beat, SleepingGroup, BeatReply, Campaign, RaftResponse,
    AppendSuccess, VoteReply, TransferReply, InstallSnapshotRequest, SnapshotHeader,
    InstallSnapshotResponse, ReadLogRequest, ReadLogResponse, ReadLogHeader, SurveyRequest,
    SurveyResponse, GroupStanding, UnsafeRecoverRequest, UnsafeRecoverResponse, RecoveredGroup,
    DeadBroker, RebuiltOn,
}

/// The first byte of an input says which message the rest is.
pub(super) const MESSAGES: Target = Target {
    name: "messages",
    samples: || (0..ALL.len() as u8).map(|message| vec![message]).collect(),
    run: |input| {
        let Some((first, rest)) = input.split_first() else { return "empty".into() };
        let (name, decode) = ALL[usize::from(*first) % ALL.len()];
        format!("{name}: {}", decode(rest))
    },
    mend: None,
    allocates: (16 * 1024, 1024),
};

pub(super) const STATUS: Target = Target {
    name: "status",
    samples: || {
        let error = v1::Error::new(ErrorCode::NotLeader, "broker 2 leads")
            .with_leader(Some(v1::LeaderHint { broker_id: 2, ..v1::LeaderHint::default() }))
            .with_retry_after(Duration::from_millis(20))
            .with_maybe_written(true);
        vec![Status::from(error).details().to_vec()]
    },
    run: |input| {
        let status = Status::with_details(Code::Unavailable, "x", input.to_vec().into());
        match v1::Error::from_status(&status) {
            None => "no error of ours".into(),
            Some(error) => {
                let (code, pause) = (error.error_code().is_ok(), error.retry_after().is_some());
                let status = Status::from(error.clone());
                assert_eq!(v1::Error::from_status(&status), Some(error));
                format!("{code} {pause}")
            }
        }
    },
    mend: None,
    allocates: (16 * 1024, 64),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_in_the_list() {
        let generated = [
            include_str!("../../../../crates/proto/src/gen/tidelog.v1.rs"),
            include_str!("../../../../crates/proto/src/gen/tidelog.v1.raft.rs"),
        ];
        let lines = generated.iter().flat_map(|text| text.lines());
        let structs = lines.filter_map(|line| line.strip_prefix("pub struct "));
        let names = structs.filter_map(|rest| rest.split([' ', '<']).next());
        let missing: Vec<&str> = names
            .filter(|name| !name.ends_with("Server") && !name.ends_with("Client"))
            .filter(|name| !ALL.iter().any(|(listed, _)| listed == name))
            .collect();
        assert_eq!(missing, Vec::<&str>::new(), "add them to the list");
    }
}
