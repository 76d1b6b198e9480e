//! Each limit crossed: a typed answer, and the broker goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use tidelog_broker::config::ByteSize;
use tidelog_broker::{Environment, MemoryMaps, limits};
use tidelog_log::sim::{Action, Fault, SimDisk};
use tidelog_proto::v1::group_service_client::GroupServiceClient;
use tidelog_proto::v1::{
    AlterConfigsRequest, ClusterHealthRequest, CommitOffsetsRequest, DeleteTopicsRequest,
    DescribePartitionRaftRequest, DescribeTopicsRequest, Error, FetchOffsetsRequest,
    FetchRecordsRequest, HeartbeatRequest, ListGroupsRequest, ListOffsetsItem, ListOffsetsRequest,
    ListTopicsRequest, NewTopic, OffsetBound, OffsetCommit, ProduceRecordsRequest, Record,
    SeekGroupRequest, SeekTarget, SetLogLevelRequest, Subscription, TopicConfigs, TopicPartition,
    TransferLeaderItem, TransferLeaderRequest,
};
use tidelog_types::ErrorCode;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tonic::{Code, Status};

use crate::cluster::{Cluster, PATIENCE, create_topic};
use crate::records::{Produce, all, batch, fetch, from};

fn code(status: &Status) -> ErrorCode {
    Error::from_status(status).expect("a typed error").error_code().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_a_limit_get_a_typed_error_and_harm_nobody() {
    let mut cluster = Cluster::prepare(1).await;
    cluster.seat(1).config.limits.fetch_streams = 2;
    cluster.start_broker(1).await;
    cluster.ready().await;
    cluster.create_topic(1, "orders", 1, 1).await;
    let (mut log, mut metadata) = (cluster.log(1).await, cluster.metadata(1).await);
    let mut admin = cluster.admin(1).await;
    let topic = || "orders".to_owned();

    let mut answers: Vec<(&str, Status)> = Vec::new();
    let topics = vec![topic(); 1_001];
    let request = DescribeTopicsRequest { topics, include_configs: false };
    answers.push(("topics described", metadata.describe_topics(request).await.unwrap_err()));
    let request = ListTopicsRequest { after: String::new(), max_topics: 10_001 };
    answers.push(("topics listed", metadata.list_topics(request).await.unwrap_err()));
    let spec = Some(OffsetBound::Latest.into());
    let item = ListOffsetsItem { topic: topic(), partition: 0, spec };
    let request = ListOffsetsRequest { items: vec![item; 10_001] };
    answers.push(("offsets listed", log.list_offsets(request).await.unwrap_err()));
    let records = |count| ProduceRecordsRequest {
        topic: topic(),
        partition: Some(0),
        records: vec![Record { value: Some(Bytes::from_static(b"x")), ..Record::default() }; count],
        timeout_ms: 0,
    };
    answers.push(("no records", log.produce_records(records(0)).await.unwrap_err()));
    answers.push(("records", log.produce_records(records(10_001)).await.unwrap_err()));
    let request = ProduceRecordsRequest { timeout_ms: 300_001, ..records(1) };
    answers.push(("deadline", log.produce_records(request).await.unwrap_err()));
    let read = |max_records, max_bytes, max_wait_ms| FetchRecordsRequest {
        topic: topic(),
        start: Some(OffsetBound::Earliest.into()),
        max_records,
        max_bytes,
        max_wait_ms,
        ..FetchRecordsRequest::default()
    };
    for request in [read(10_001, 0, 0), read(0, 8 << 20 | 1, 0), read(0, 0, 60_001)] {
        answers.push(("records fetched", log.fetch_records(request).await.unwrap_err()));
    }
    let request = TransferLeaderRequest { items: Vec::new(), timeout_ms: 60_001 };
    answers.push(("transfer deadline", admin.transfer_leader(request).await.unwrap_err()));
    let new = NewTopic { name: topic(), ..NewTopic::default() };
    let request = tidelog_proto::v1::CreateTopicsRequest {
        topics: vec![new; 101],
        ..tidelog_proto::v1::CreateTopicsRequest::default()
    };
    answers.push(("topics created", admin.create_topics(request).await.unwrap_err()));
    let opens = [(8 << 20 | 1, 0, 0), (0, 1 << 20 | 1, 0), (0, 0, 60_001)];
    for (max_bytes, min_bytes, max_wait_ms) in opens {
        let mut open = all("orders", 0);
        (open.max_bytes, open.min_bytes, open.max_wait_ms) = (max_bytes, min_bytes, max_wait_ms);
        answers.push(("fetch", fetch(log.clone(), open).await.unwrap_err()));
    }
    for (what, status) in &answers {
        assert_eq!(code(status), ErrorCode::InvalidRequest, "{what}: {status}");
    }

    // A message that is too large ends its stream, not the broker.
    let mut produce = Produce::open(log.clone()).await;
    produce.send("orders", 0, vec![0; 18 << 20].into()).await;
    let status = produce.answers.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");

    let first = fetch(log.clone(), from("orders", 0, 0, 0)).await.unwrap();
    let second = fetch(log.clone(), from("orders", 0, 0, 0)).await.unwrap();
    let third = fetch(log.clone(), from("orders", 0, 0, 0)).await.unwrap_err();
    assert_eq!(code(&third), ErrorCode::ResourceExhausted);
    assert!(Error::from_status(&third).unwrap().retry_after().is_some());
    drop((first, second));
    let begun = Instant::now();
    while fetch(log.clone(), from("orders", 0, 0, 0)).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "a place is given back");
    }

    let mut produce = Produce::open(log).await;
    assert_eq!(produce.put("orders", 0, batch(&["x"], None)).await.unwrap().base_offset, 0);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_about_too_much_get_a_typed_error_and_change_nothing() {
    let mut cluster = Cluster::start(1).await;
    cluster.create_topic(1, "orders", 1, 1).await;
    let mut admin = cluster.admin(1).await;
    let mut groups = GroupServiceClient::new(cluster.channel(1).await);
    let topic = || "orders".to_owned();
    let partition = || TopicPartition { topic: topic(), partition: 0 };
    let group_id = || "billing".to_owned();

    let mut answers: Vec<(&str, Status)> = Vec::new();
    let request = DeleteTopicsRequest { topics: vec![topic(); 101], timeout_ms: 0 };
    answers.push(("topics deleted", admin.delete_topics(request).await.unwrap_err()));
    let configs = TopicConfigs { topic: topic(), configs: Vec::new() };
    let request =
        AlterConfigsRequest { topics: vec![configs; 101], ..AlterConfigsRequest::default() };
    answers.push(("configs altered", admin.alter_configs(request).await.unwrap_err()));
    let item = TransferLeaderItem { topic: topic(), ..TransferLeaderItem::default() };
    let request = TransferLeaderRequest { items: vec![item; 1_001], timeout_ms: 0 };
    answers.push(("leaders moved", admin.transfer_leader(request).await.unwrap_err()));
    let request = DescribePartitionRaftRequest { partitions: vec![partition(); 1_001] };
    answers.push(("insides", admin.describe_partition_raft(request).await.unwrap_err()));
    let request = SetLogLevelRequest { filter: "x".repeat(1_025) };
    answers.push(("log filter", admin.set_log_level(request).await.unwrap_err()));

    let commit = OffsetCommit { topic: topic(), ..OffsetCommit::default() };
    let request = CommitOffsetsRequest {
        group_id: group_id(),
        offsets: vec![commit; 10_001],
        ..CommitOffsetsRequest::default()
    };
    answers.push(("offsets committed", groups.commit_offsets(request).await.unwrap_err()));
    let request =
        FetchOffsetsRequest { group_id: group_id(), partitions: vec![partition(); 10_001] };
    answers.push(("offsets fetched", groups.fetch_offsets(request).await.unwrap_err()));
    let target = SeekTarget { topic: topic(), ..SeekTarget::default() };
    let request = SeekGroupRequest {
        group_id: group_id(),
        targets: vec![target; 10_001],
        ..SeekGroupRequest::default()
    };
    answers.push(("offsets sought", groups.seek_group(request).await.unwrap_err()));
    let heartbeat = |topics, max_wait_ms| HeartbeatRequest {
        group_id: group_id(),
        member_id: "m".to_owned(),
        subscription: Some(Subscription { topics, ..Subscription::default() }),
        max_wait_ms,
        ..HeartbeatRequest::default()
    };
    let many = (0..1_001).map(|n| format!("topic-{n}")).collect();
    answers.push(("topics named", groups.heartbeat(heartbeat(many, 0)).await.unwrap_err()));
    let request = heartbeat(vec![topic()], 60_001);
    answers.push(("heartbeat's wait", groups.heartbeat(request).await.unwrap_err()));
    for (what, status) in &answers {
        assert_eq!(code(status), ErrorCode::InvalidRequest, "{what}: {status}");
    }
    let mut bad = heartbeat(vec![topic()], 0);
    bad.subscription.as_mut().unwrap().session_timeout_ms = 999;
    let refused = groups.heartbeat(bad).await.unwrap_err();
    assert_eq!(code(&refused), ErrorCode::InvalidSessionTimeout, "{refused}");

    let listed = groups.list_groups(ListGroupsRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.groups, [], "no group was made on the way");
    let mut produce = Produce::open(cluster.log(1).await).await;
    assert_eq!(produce.put("orders", 0, batch(&["x"], None)).await.unwrap().base_offset, 0);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_without_quorum_blocks_neither_the_others_nor_their_budget() {
    let mut cluster = Cluster::prepare(3).await;
    for seat in &mut cluster.seats {
        seat.config.limits.in_flight_bytes = ByteSize::mib(17);
    }
    for id in 1..=3 {
        cluster.start_broker(id).await;
    }
    cluster.ready().await;
    cluster.create_topic(1, "blocked", 1, 3).await;
    // One replica each, so that at least one lies where the blocked partition is led.
    cluster.create_topic(1, "free", 3, 1).await;
    let leader = cluster.leader(1, "blocked", 0).await;
    let mut free = None;
    for partition in 0..3 {
        if cluster.leader(1, "free", partition).await == leader {
            free = Some(partition);
        }
    }
    let free = free.expect("one of the partitions is led there");
    let mut produce = Produce::open(cluster.log(leader).await).await;
    produce.put("free", free, batch(&["x"], None)).await.unwrap();

    // The others stop at once, so the leader stays what it is until it notices.
    let others: Vec<_> = (1..=3).filter(|id| *id != leader).collect();
    for id in &others {
        drop(cluster.seat(*id).broker.take());
    }
    let value = "x".repeat(1 << 20);
    let large = batch(&[&value], None);
    let mut sent = Vec::new();
    for _ in 0..20 {
        sent.push(produce.send("blocked", 0, large.clone()).await);
    }
    for n in 0..20 {
        produce.send("free", free, batch(&[&format!("v{n}")], None)).await;
    }
    let (mut offsets, mut blocked) = (Vec::new(), Vec::new());
    while offsets.len() + blocked.len() < 40 {
        let (id, answer) = produce.answer().await;
        match answer {
            Ok(appended) if !sent.contains(&id) => offsets.push(appended.base_offset),
            Ok(_) => blocked.push((id, ErrorCode::UnknownServerError)),
            Err(error) => {
                assert!(sent.contains(&id), "{error}");
                blocked.push((id, error.error_code().unwrap()));
            }
        }
    }
    assert_eq!(offsets, (1..=20).collect::<Vec<_>>());
    let order: Vec<_> = blocked.iter().map(|(id, _)| *id).collect();
    assert_eq!(order, sent, "answers of one partition come in order");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_counts_every_partition_that_is_unwell_and_names_no_more_than_the_limit() {
    const PARTITIONS: u32 = limits::HEALTH_NAMED_MAX as u32 + 1;
    let mut cluster = Cluster::prepare(1).await;
    let mut env = Environment::system(&cluster.seat(1).config).unwrap();
    let disk = SimDisk::new();
    env.node.disk = Arc::new(disk.clone());
    env.maps = Arc::new(MemoryMaps);
    env.lock_data_dir = false;
    cluster.start_broker_in(1, env).await;
    cluster.ready().await;
    // From here on no replica can be made: each steps out.
    let path = cluster.data(1).to_str().unwrap().to_owned();
    disk.fail(Fault { action: Action::Open, path, after: 0, times: u64::MAX });
    create_topic(&mut cluster.admin(1).await, "orders", PARTITIONS, 1).await.unwrap();

    let mut admin = cluster.admin(1).await;
    let begun = Instant::now();
    let health = loop {
        let health = admin.cluster_health(ClusterHealthRequest {}).await.unwrap().into_inner();
        if health.under_replicated_count == PARTITIONS {
            break health;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", health.summary);
    };
    assert_eq!(health.leaderless_count, PARTITIONS);
    let named = [&health.leaderless, &health.under_replicated].map(Vec::len);
    assert_eq!(named, [limits::HEALTH_NAMED_MAX; 2]);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_on_a_port_harms_nobody() {
    let mut cluster = Cluster::start(1).await;
    let address = cluster.seat(1).config.listener.client.bind.to_string();
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64][..]] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, nonsense).await.unwrap();
        let mut rest = Vec::new();
        // An error is as good an end as a close.
        let _ = stream.read_to_end(&mut rest).await;
    }
    cluster.create_topic(1, "orders", 1, 1).await;
    cluster.stop_all().await;
}
