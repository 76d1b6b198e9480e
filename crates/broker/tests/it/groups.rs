//! Consumer groups, as a client with nothing but stubs sees them.

use std::time::Duration;

use tidelog_proto::v1::commit_offsets_result::Result as Kept;
use tidelog_proto::v1::group_service_client::GroupServiceClient;
use tidelog_proto::v1::seek_group_result::Result as Sought;
use tidelog_proto::v1::{
    CommitOffsetsRequest, DeleteGroupRequest, DeleteOffsetsRequest, DescribeGroupRequest, Error,
    FetchOffsetsRequest, GroupState, HeartbeatRequest, HeartbeatResponse, Holdings,
    LeaveGroupRequest, ListGroupsRequest, OffsetCommit, ProduceRecordsRequest, Record,
    SeekGroupRequest, SeekTarget, Subscription, TopicPartition,
};
use tidelog_types::ErrorCode;
use tonic::Status;
use tonic::transport::Channel;

use crate::cluster::{Cluster, PATIENCE};

const GROUP: &str = "billing";

/// A member that a test drives call by call.
struct Member {
    client: GroupServiceClient<Channel>,
    id: String,
    topics: Vec<String>,
    last: HeartbeatResponse,
}

impl Member {
    fn new(client: GroupServiceClient<Channel>, id: &str, topics: &[&str]) -> Self {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Self { client, id: id.to_owned(), topics, last: HeartbeatResponse::default() }
    }

    fn request(&self) -> HeartbeatRequest {
        HeartbeatRequest {
            group_id: GROUP.to_owned(),
            member_id: self.id.clone(),
            revision: self.last.revision,
            max_wait_ms: 1_000,
            ..HeartbeatRequest::default()
        }
    }

    async fn send(&mut self, request: HeartbeatRequest) -> Result<(), Error> {
        let answer = self.client.heartbeat(request).await.map_err(|status| typed(&status))?;
        self.last = answer.into_inner();
        Ok(())
    }

    async fn join(&mut self) {
        let subscription = Subscription {
            topics: self.topics.clone(),
            session_timeout_ms: 3_000,
            ..Subscription::default()
        };
        let request = HeartbeatRequest { subscription: Some(subscription), ..self.request() };
        self.send(request).await.unwrap();
    }

    async fn beat(&mut self) -> Result<(), Error> {
        self.send(self.request()).await
    }

    /// Tells that it holds what it was told to hold, and nothing else.
    async fn acknowledge(&mut self) {
        let partition = |a: &tidelog_proto::v1::AssignedPartition| TopicPartition {
            topic: a.topic.clone(),
            partition: a.partition,
        };
        let partitions = self.last.assignment.iter().map(partition).collect();
        let request =
            HeartbeatRequest { holdings: Some(Holdings { partitions }), ..self.request() };
        self.send(request).await.unwrap();
    }

    fn partitions(&self) -> Vec<u32> {
        self.last.assignment.iter().map(|assigned| assigned.partition).collect()
    }

    async fn commit(&mut self, partition: u32, offset: i64) -> Result<i64, Error> {
        let (id, epoch) = (self.id.clone(), self.last.member_epoch);
        commit(&mut self.client, &id, epoch, partition, offset).await
    }
}

async fn commit(
    client: &mut GroupServiceClient<Channel>,
    member: &str,
    member_epoch: u32,
    partition: u32,
    offset: i64,
) -> Result<i64, Error> {
    let topic = "orders".to_owned();
    let commit = OffsetCommit { topic, partition, offset, ..OffsetCommit::default() };
    let request = CommitOffsetsRequest {
        group_id: GROUP.to_owned(),
        member_id: member.to_owned(),
        member_epoch,
        offsets: vec![commit],
    };
    let answer = client.commit_offsets(request).await.map_err(|status| typed(&status))?;
    match answer.into_inner().results.remove(0).result.unwrap() {
        Kept::Committed(committed) => Ok(committed.offset),
        Kept::Error(error) => Err(error),
    }
}

fn typed(status: &Status) -> Error {
    Error::from_status(status).unwrap_or_else(|| panic!("no typed error: {status}"))
}

fn code(result: Result<impl std::fmt::Debug, Error>) -> ErrorCode {
    result.unwrap_err().error_code().unwrap()
}

impl Cluster {
    async fn groups(&self, id: u32) -> GroupServiceClient<Channel> {
        GroupServiceClient::new(self.channel(id).await)
    }

    async fn produce(&self, by: u32, partition: u32, records: usize) {
        let record = |n| Record { value: Some(format!("{n}").into()), ..Record::default() };
        let request = ProduceRecordsRequest {
            topic: "orders".to_owned(),
            partition: Some(partition),
            records: (0..records).map(record).collect(),
            timeout_ms: 0,
        };
        self.log(by).await.produce_records(request).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_share_partitions_and_a_zombie_cannot_commit() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(1, "orders", 4, 3).await;
    for partition in 0..4 {
        cluster.produce(1, partition, 10).await;
    }
    let mut first = Member::new(cluster.groups(1).await, "first", &["orders"]);
    first.join().await;
    assert_eq!(first.partitions(), [0, 1, 2, 3]);
    assert_eq!(first.commit(0, 5).await, Ok(5));

    // The second member gets nothing before the first has given it up.
    let mut second = Member::new(cluster.groups(2).await, "second", &["orders"]);
    second.join().await;
    assert_eq!(second.partitions(), [] as [u32; 0]);
    first.beat().await.unwrap();
    let kept = first.partitions();
    assert_eq!(kept.len(), 2, "{kept:?}");
    let given_up = (0..4).find(|partition| !kept.contains(partition)).unwrap();
    assert_eq!(first.commit(given_up, 3).await, Ok(3), "it holds it until it says otherwise");
    first.acknowledge().await;
    second.beat().await.unwrap();
    assert_eq!(second.partitions().len(), 2);
    assert_eq!(code(first.commit(given_up, 4).await), ErrorCode::FencedMemberEpoch);
    let started = second.last.assignment.iter().find(|a| a.partition == given_up).unwrap();
    assert_eq!(started.committed.as_ref().unwrap().offset, 3, "the next holder knows where");

    // What is wrong with a commit is said.
    let theirs = second.partitions()[0];
    assert_eq!(code(second.commit(theirs, 11).await), ErrorCode::OffsetOutOfRange);
    assert_eq!(code(second.commit(theirs, -1).await), ErrorCode::OffsetOutOfRange);
    assert_eq!(code(second.commit(9, 1).await), ErrorCode::UnknownTopicOrPartition);
    let epoch = second.last.member_epoch;
    let mut client = cluster.groups(3).await;
    let stale = commit(&mut client, "second", epoch - 1, theirs, 1).await;
    assert_eq!(code(stale), ErrorCode::StaleMemberEpoch);
    let stranger = commit(&mut client, "nobody", epoch, theirs, 1).await;
    assert_eq!(code(stranger), ErrorCode::UnknownMemberId);

    // The first one falls silent; the second gets all, and the first is a zombie.
    let begun = std::time::Instant::now();
    while second.partitions().len() < 4 {
        second.beat().await.unwrap();
        assert!(begun.elapsed() < PATIENCE, "{:?}", second.last);
    }
    let mine = kept[0];
    assert_eq!(code(first.commit(mine, 9).await), ErrorCode::UnknownMemberId);
    assert_eq!(code(first.beat().await), ErrorCode::UnknownMemberId);
    assert_eq!(second.commit(mine, 7).await, Ok(7));
    assert_eq!(second.commit(mine, 6).await, Ok(7), "a commit never goes back");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_restart_rebalances_nobody() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(1, "orders", 4, 3).await;
    cluster.produce(1, 0, 10).await;
    let mut first = Member::new(cluster.groups(1).await, "first", &["orders"]);
    first.join().await;
    let held = first.last.clone();
    assert_eq!(held.assignment.len(), 4);
    assert_eq!(first.commit(0, 4).await, Ok(4));

    for id in 1..=3 {
        cluster.stop(id).await;
        let by = id % 3 + 1;
        first.client = cluster.groups(by).await;
        assert_eq!(first.commit(0, 4 + i64::from(id)).await, Ok(4 + i64::from(id)));
        first.beat().await.unwrap();
        assert_eq!(first.last.revision, held.revision, "broker {id}");
        assert_eq!(first.last.member_epoch, held.member_epoch, "broker {id}");
        cluster.start_broker(id).await;
        cluster.ready().await;
        first.beat().await.unwrap();
        assert_eq!(first.last.revision, held.revision, "broker {id}");
    }
    let request = FetchOffsetsRequest { group_id: GROUP.to_owned(), partitions: Vec::new() };
    let offsets = first.client.fetch_offsets(request).await.unwrap().into_inner().offsets;
    assert_eq!(offsets.len(), 1);
    assert_eq!(offsets[0].committed.as_ref().unwrap().offset, 7);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_listed_sought_and_deleted() {
    let mut cluster = Cluster::start(3).await;
    let mut client = cluster.groups(2).await;
    assert_eq!(client.list_groups(ListGroupsRequest {}).await.unwrap().into_inner().groups, []);
    let named = DescribeGroupRequest { group_id: GROUP.to_owned() };
    let unknown = client.describe_group(named.clone()).await;
    assert_eq!(code(unknown.map_err(|status| typed(&status))), ErrorCode::GroupIdNotFound);
    let long = DescribeGroupRequest { group_id: "x".repeat(256) };
    let long = client.describe_group(long).await;
    assert_eq!(code(long.map_err(|status| typed(&status))), ErrorCode::InvalidGroupId);

    cluster.create_topic(1, "orders", 2, 3).await;
    cluster.produce(3, 1, 10).await;
    let mut first = Member::new(cluster.groups(1).await, "first", &["orders"]);
    first.join().await;
    first.commit(1, 8).await.unwrap();
    let listed = client.list_groups(ListGroupsRequest {}).await.unwrap().into_inner().groups;
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].group_id.as_str(), listed[0].members), (GROUP, 1));
    assert_eq!(listed[0].state(), GroupState::Stable);

    // A seek fences the member and takes it to the new place.
    let target = |partition, offset| SeekTarget { topic: "orders".to_owned(), partition, offset };
    let request = SeekGroupRequest {
        group_id: GROUP.to_owned(),
        targets: vec![target(1, 2), target(0, 1)],
        ..SeekGroupRequest::default()
    };
    let mut sought = client.seek_group(request).await.unwrap().into_inner().results;
    assert!(matches!(sought.pop().unwrap().result, Some(Sought::Error(error))
        if error.error_code() == Ok(ErrorCode::OffsetOutOfRange)));
    assert!(
        matches!(sought.pop().unwrap().result, Some(Sought::Before(before)) if before.offset == 8)
    );
    assert_eq!(code(first.commit(1, 9).await), ErrorCode::StaleMemberEpoch);
    let before = first.last.assignment.clone();
    first.beat().await.unwrap();
    let moved = first.last.assignment.iter().find(|a| a.partition == 1).unwrap();
    assert_eq!(moved.committed.as_ref().unwrap().offset, 2);
    assert!(moved.granted_epoch > before.iter().find(|a| a.partition == 1).unwrap().granted_epoch);
    assert_eq!(first.commit(1, 3).await, Ok(3));

    let delete = DeleteGroupRequest { group_id: GROUP.to_owned() };
    let refused = client.delete_group(delete.clone()).await;
    assert_eq!(code(refused.map_err(|status| typed(&status))), ErrorCode::NonEmptyGroup);
    let leave = LeaveGroupRequest { group_id: GROUP.to_owned(), member_id: "first".to_owned() };
    client.leave_group(leave.clone()).await.unwrap();
    client.leave_group(leave).await.unwrap();
    let described = client.describe_group(named).await.unwrap().into_inner();
    assert_eq!((described.state(), described.members.len()), (GroupState::Empty, 0));
    assert_eq!(described.offsets.len(), 1);
    client.delete_group(delete).await.unwrap();
    assert_eq!(client.list_groups(ListGroupsRequest {}).await.unwrap().into_inner().groups, []);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_of_a_pattern_are_taken_up_as_they_appear() {
    let mut cluster = Cluster::start(1).await;
    let mut first = Member::new(cluster.groups(1).await, "first", &[]);
    let subscription =
        Subscription { topic_pattern: "orders-.*".to_owned(), ..Subscription::default() };
    let request = HeartbeatRequest { subscription: Some(subscription), ..first.request() };
    first.send(request).await.unwrap();
    assert_eq!(first.last.assignment, []);
    cluster.create_topic(1, "orders-eu", 2, 1).await;
    cluster.create_topic(1, "stock", 2, 1).await;
    cluster.create_topic(1, "orders-us", 1, 1).await;
    let begun = std::time::Instant::now();
    while first.last.assignment.len() < 3 {
        first.beat().await.unwrap();
        assert!(begun.elapsed() < PATIENCE, "{:?}", first.last);
    }
    assert!(first.last.assignment.iter().all(|assigned| assigned.topic.starts_with("orders-")));
    let bad = Subscription { topic_pattern: "(".to_owned(), ..Subscription::default() };
    let request = HeartbeatRequest { subscription: Some(bad), ..first.request() };
    assert_eq!(code(first.send(request).await), ErrorCode::InvalidRegularExpression);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_group_survives_the_kill_of_its_coordinators_leader() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(1, "orders", 1, 3).await;
    cluster.produce(1, 0, 10).await;
    let mut first = Member::new(cluster.groups(1).await, "first", &["orders"]);
    first.join().await;
    first.commit(0, 1).await.unwrap();
    for offset in 2..=4 {
        let named = DescribeGroupRequest { group_id: GROUP.to_owned() };
        let described = first.client.describe_group(named).await.unwrap().into_inner();
        let leader = described.coordinator.unwrap().broker_id;
        cluster.seat(leader).broker.take().expect("it runs").abandon().await;
        first.client = cluster.groups(leader % 3 + 1).await;
        assert_eq!(first.commit(0, offset).await, Ok(offset));
        cluster.start_broker(leader).await;
        cluster.ready().await;
    }
    tokio::time::timeout(Duration::from_secs(20), cluster.stop_all()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_that_was_replaced_is_told_so_and_never_comes_back() {
    let mut cluster = Cluster::start(1).await;
    cluster.create_topic(1, "orders", 2, 1).await;
    let subscription = Subscription {
        topics: vec!["orders".to_owned()],
        instance_id: "till-1".to_owned(),
        ..Subscription::default()
    };
    let mut old = Member::new(cluster.groups(1).await, "old", &[]);
    let join = |member: &Member| HeartbeatRequest {
        subscription: Some(subscription.clone()),
        ..member.request()
    };
    old.send(join(&old)).await.unwrap();
    assert_eq!(old.partitions(), [0, 1]);
    let before = old.last.assignment.clone();
    let mut new = Member::new(cluster.groups(1).await, "new", &[]);
    new.send(join(&new)).await.unwrap();
    assert_eq!(new.partitions(), [0, 1], "it takes over at once");
    assert!(new.last.assignment[0].granted_epoch > before[0].granted_epoch);

    assert_eq!(code(old.beat().await), ErrorCode::FencedInstanceId);
    assert_eq!(code(old.send(join(&old)).await), ErrorCode::FencedInstanceId);
    assert_eq!(code(old.commit(0, 0).await), ErrorCode::UnknownMemberId);
    new.beat().await.unwrap();
    assert_eq!(new.partitions(), [0, 1]);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_forgotten_together_and_each_is_answered() {
    let mut cluster = Cluster::start(1).await;
    cluster.create_topic(1, "orders", 3, 1).await;
    let mut client = cluster.groups(1).await;
    for partition in 0..2 {
        cluster.produce(1, partition, 5).await;
        assert_eq!(commit(&mut client, "", 0, partition, 5).await, Ok(5));
    }
    let at = |topic: &str, partition| TopicPartition { topic: topic.to_owned(), partition };
    let request = DeleteOffsetsRequest {
        group_id: GROUP.to_owned(),
        partitions: vec![at("orders", 0), at("nothing", 0), at("orders", 1), at("orders", 2)],
    };
    let answer = client.delete_offsets(request.clone()).await.unwrap().into_inner();
    let codes: Vec<_> = answer.results.into_iter().map(|r| r.error.map(|e| e.code)).collect();
    let unknown = Some(ErrorCode::UnknownTopicOrPartition.number());
    assert_eq!(codes, [None, unknown, None, None]);
    let gone = client.delete_offsets(request).await.map_err(|status| typed(&status));
    assert_eq!(code(gone), ErrorCode::GroupIdNotFound, "nothing is left of the group");
    cluster.stop_all().await;
}
