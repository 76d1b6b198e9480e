//! Administration: one result per item, and the right broker found.

use std::time::Duration;

use tidelog_client::admin::{HealthStatus, NewTopic, OffsetAt};
use tidelog_client::{
    Admin, BrokerId, ErrorCode, Offset, PartitionId, Timestamp, TopicName, TopicPartition,
};

use crate::fake::{Cluster, PATIENCE, fill};

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn partition(name: &str, partition: u32) -> TopicPartition {
    TopicPartition { topic: topic(name), partition: PartitionId(partition) }
}

async fn admin(cluster: &Cluster) -> Admin {
    cluster.client().connect().await.unwrap().admin()
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_listed_described_and_deleted() {
    let cluster = Cluster::start(3);
    cluster.world.change(|state| state.controller = 2);
    let admin = admin(&cluster).await;
    let wanted = ["a", "b", "a", "c"].map(|name| NewTopic::new(topic(name)).partitions(2));
    let wanted = wanted.map(|topic| topic.config("retention.ms", "1000"));
    // Spawned, since a call that cannot move between threads is of little use.
    let created = tokio::spawn({
        let admin = admin.clone();
        async move { admin.create_topics(wanted).await }
    });
    let created = created.await.unwrap().unwrap();
    let outcomes = created.iter().map(|(_, outcome)| outcome.is_ok()).collect::<Vec<_>>();
    assert_eq!(outcomes, [true, true, false, true]);
    let error = created[2].1.as_ref().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TopicAlreadyExists));
    admin.wait_for_leaders(&topic("a"), PATIENCE).await.unwrap();
    let listed = admin.list_topics().await.unwrap();
    let names = listed.iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>();
    assert_eq!(names, ["a", "b", "c"]);
    let facts = admin.describe_topic(&topic("b")).await.unwrap();
    assert_eq!((facts.partitions.len(), facts.configs.len()), (2, 1));
    assert_eq!(facts.partitions[1].leader.as_ref().unwrap().broker, BrokerId(2));
    let deleted = admin.delete_topics([topic("b"), topic("x")]).await.unwrap();
    assert!(deleted[0].1.is_ok() && deleted[1].1.is_err());
    let error = admin.describe_topic(&topic("b")).await.unwrap_err();
    assert_eq!(error.to_string(), "topic b does not exist");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_whose_answer_was_lost_counts() {
    let cluster = Cluster::start(1);
    cluster.world.change(|state| state.creations_unanswered = 1);
    let admin = admin(&cluster).await;
    let wanted = NewTopic::new(topic("t")).partitions(4);
    let created = admin.create_topics([wanted.clone()]).await.unwrap();
    assert_eq!(created[0].1.as_ref().unwrap().partitions, 4);
    let again = admin.create_topics([wanted]).await.unwrap();
    let error = again[0].1.as_ref().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TopicAlreadyExists));
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_looked_up_at_each_leader() {
    let cluster = Cluster::start(3);
    cluster.world.create("t", 3);
    let admin = admin(&cluster).await;
    for at in 0..3 {
        fill(&cluster.world, "t", at, &[("x", 100), ("y", 200)]);
    }
    // What the client knows of leaders is old by then.
    admin.wait_for_leaders(&topic("t"), Duration::ZERO).await.unwrap();
    cluster.world.move_leader("t", 1, 3);
    let asked = [
        (partition("t", 0), OffsetAt::Earliest),
        (partition("t", 1), OffsetAt::Latest),
        (partition("t", 2), OffsetAt::Timestamp(Timestamp(150))),
        (partition("t", 0), OffsetAt::Timestamp(Timestamp(999))),
        (partition("t", 9), OffsetAt::Latest),
    ];
    let listed = admin.list_offsets(asked).await;
    let found = listed.iter().map(|(_, found)| found.as_ref().ok().map(|found| found.offset));
    let expected = [Some(Offset(0)), Some(Offset(2)), Some(Offset(1)), Some(Offset(2)), None];
    assert_eq!(found.collect::<Vec<_>>(), expected);
    assert_eq!(listed[2].1.as_ref().unwrap().timestamp, Some(Timestamp(200)));
    assert_eq!(listed[3].1.as_ref().unwrap().timestamp, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_are_transferred_and_rafts_described_by_the_leader() {
    let cluster = Cluster::start(3);
    cluster.world.create("t", 2);
    let admin = admin(&cluster).await;
    let items = [(partition("t", 0), Some(BrokerId(3))), (partition("t", 1), None)];
    let moved = admin.transfer_leaders(items).await;
    assert_eq!(moved[0].1.as_ref().unwrap().broker, BrokerId(3));
    assert_eq!(moved[1].1.as_ref().unwrap().broker, BrokerId(1));
    let rafts = admin.describe_rafts([partition("t", 0), partition("t", 1)]).await;
    let brokers = rafts.iter().map(|(_, raft)| raft.as_ref().unwrap().answered_by);
    assert_eq!(brokers.collect::<Vec<_>>(), [BrokerId(3), BrokerId(1)]);
    let at = admin.describe_rafts_at(&cluster.address(2), [partition("t", 0)]).await.unwrap();
    assert_eq!(at[0].1.as_ref().unwrap_err().code(), Some(ErrorCode::NotLeader));
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_and_health_come_from_any_broker_that_answers() {
    let mut cluster = Cluster::start(3);
    let admin = admin(&cluster).await;
    cluster.kill(1);
    cluster.world.freeze(2);
    for _ in 0..5 {
        let facts = admin.cluster().await.unwrap();
        assert_eq!((facts.brokers.len(), facts.answered_by), (3, BrokerId(3)));
    }
    let health = admin.health().await.unwrap();
    assert_eq!((health.status, health.dead_brokers), (HealthStatus::Degraded, vec![BrokerId(3)]));
}
