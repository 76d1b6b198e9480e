//! Administration of groups: one result per item.

use std::time::Duration;

use tidelog_client::admin::{GroupState, SeekTarget};
use tidelog_client::{
    Admin, Clock, Environment, ErrorCode, Offset, PartitionId, Position, StartPolicy, Timestamp,
    TopicName, TopicPartition,
};

use crate::fake::{Cluster, PATIENCE, fill};

const GROUP: &str = "billing";

fn place(topic: &str, partition: u32) -> TopicPartition {
    let topic = TopicName::new(topic).unwrap();
    TopicPartition { topic, partition: PartitionId(partition) }
}

/// A clock that stands at 10 s.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(10_000)
    }
}

/// Two partitions of four records, made at 1 s, 2 s, 3 s, 4 s.
async fn cluster() -> (Cluster, Admin) {
    let cluster = Cluster::start(3);
    cluster.world.create("orders", 2);
    for partition in 0..2 {
        let records = [("a", 1_000), ("b", 2_000), ("c", 3_000), ("d", 4_000)];
        fill(&cluster.world, "orders", partition, &records);
    }
    let clock = std::sync::Arc::new(Still);
    let environment = Environment { clock, ..Environment::default() };
    let admin = cluster.client().environment(environment).connect().await.unwrap().admin();
    (cluster, admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_is_told_in_records_and_in_time() {
    let (cluster, admin) = cluster().await;
    let offsets = [(place("orders", 0), Offset(1)), (place("orders", 1), Offset(4))];
    let committed = admin.commit_group_offsets(GROUP, offsets).await.unwrap();
    assert!(committed.iter().all(|(_, committed)| committed.is_ok()), "{committed:?}");
    let facts = admin.describe_group(GROUP).await.unwrap();
    assert_eq!((facts.state, facts.members.len()), (GroupState::Empty, 0));
    let lags = facts.partitions.iter().map(|p| *p.lag.as_ref().unwrap().as_ref().unwrap());
    let lags = lags.collect::<Vec<_>>();
    assert_eq!((lags[0].records, lags[0].time), (3, Some(Duration::from_secs(8))));
    assert_eq!((lags[1].records, lags[1].time), (0, Some(Duration::ZERO)));
    assert_eq!(lags[1].high_watermark, Offset(4));
    let error = admin.describe_group("nobody").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::GroupIdNotFound));
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_members_is_listed_described_and_not_deleted() {
    let (cluster, admin) = cluster().await;
    let client = cluster.client().client_id("desk").connect().await.unwrap();
    let consumer = client.consumer(GROUP).topics(["orders"]).start(StartPolicy::Earliest);
    let mut consumer = consumer.build().await.unwrap();
    tokio::time::timeout(PATIENCE, consumer.recv()).await.unwrap().unwrap();
    let listed = admin.list_groups().await.unwrap();
    assert_eq!((listed[0].group.as_str(), listed[0].members), (GROUP, 1));
    let facts = admin.describe_group(GROUP).await.unwrap();
    let member = &facts.members[0];
    assert_eq!((member.client_id.as_str(), member.holdings.len()), ("desk", 2));
    assert_eq!(member.session_timeout, Duration::from_secs(10));
    assert_eq!(facts.partitions[1].member.as_ref(), Some(&member.id));
    let error = admin.delete_group(GROUP).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NonEmptyGroup));
    let offsets = [(place("orders", 0), Offset(1))];
    let committed = admin.commit_group_offsets(GROUP, offsets).await.unwrap();
    assert_eq!(committed[0].1.as_ref().unwrap_err().code(), Some(ErrorCode::NonEmptyGroup));
    let deleted = admin.delete_group_offsets(GROUP, [place("orders", 0)]).await.unwrap();
    let error = deleted[0].1.as_ref().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::GroupSubscribedToTopic));
    consumer.close().await.unwrap();
    let deleted = admin.delete_group_offsets(GROUP, [place("orders", 0)]).await.unwrap();
    assert!(deleted[0].1.is_ok());
    assert_eq!(admin.describe_group(GROUP).await.unwrap().partitions.len(), 1);
    admin.delete_group(GROUP).await.unwrap();
    assert!(admin.list_groups().await.unwrap().is_empty());
    let error = admin.delete_group(GROUP).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::GroupIdNotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seek_takes_any_position_and_a_dry_run_changes_nothing() {
    let (cluster, admin) = cluster().await;
    let orders = SeekTarget::from(TopicName::new("orders").unwrap());
    let first = SeekTarget::from(place("orders", 0));
    let cases = [
        (orders.clone(), Position::Earliest, vec![Some(0), Some(0)]),
        (orders.clone(), Position::Latest, vec![Some(4), Some(4)]),
        (orders.clone(), Position::Timestamp(Timestamp(2_500)), vec![Some(2), Some(2)]),
        (first.clone(), Position::Offset(Offset(3)), vec![Some(3)]),
        (first, Position::Offset(Offset(5)), vec![None]),
        (SeekTarget::from(place("orders", 7)), Position::Earliest, vec![None]),
    ];
    for (target, position, expected) in cases {
        for dry_run in [true, false] {
            let before = cluster.world.state().group(GROUP).committed("orders", 0);
            let targets = [(target.clone(), position)];
            let sought = admin.seek_group(GROUP, targets, dry_run).await.unwrap();
            let offsets = sought.iter().map(|(_, s)| s.as_ref().ok().map(|s| s.offset.0));
            assert_eq!(offsets.collect::<Vec<_>>(), expected, "{target:?} {position:?}");
            if let Ok(first) = &sought[0].1 {
                assert_eq!(first.before.map(|offset| offset.0 as i64), before, "{position:?}");
            }
            let after = cluster.world.state().group(GROUP).committed("orders", 0);
            let moved = expected[0].map(|offset| offset as i64);
            assert_eq!(after, if dry_run { before } else { moved.or(before) });
        }
    }
    let nothing = SeekTarget::from(TopicName::new("nothing").unwrap());
    let error = admin.seek_group(GROUP, [(nothing, Position::Latest)], true).await.unwrap_err();
    assert_eq!(error.to_string(), "topic nothing does not exist");
    let error = admin.describe_group("").await.unwrap_err();
    assert_eq!(error.to_string(), "group.id=\"\": group id is empty");
}
