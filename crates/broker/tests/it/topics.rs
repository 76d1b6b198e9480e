//! Topics: created, described, listed, configured, deleted, through any broker.

use tidelog_proto::v1::{
    AlterConfigsRequest, ConfigSource, ConfigValue, DeleteTopicsRequest,
    DescribePartitionRaftRequest, DescribeTopicsRequest, ListTopicsRequest, TopicConfigs,
    TopicPartition, describe_partition_raft_result, describe_topics_result,
};
use tidelog_types::ErrorCode;

use crate::cluster::{Cluster, PATIENCE, create_topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_changed_and_seen_through_any_broker() {
    let mut cluster = Cluster::start(3).await;
    for (by, name) in [(1, "a"), (2, "b"), (3, "c")] {
        cluster.create_topic(by, name, 2, 3).await;
        // Whoever was asked to create it shows it at once.
        let request =
            DescribeTopicsRequest { topics: vec![name.to_owned()], include_configs: true };
        let answer = cluster.metadata(by).await.describe_topics(request).await.unwrap();
        let result = answer.into_inner().results.remove(0).result;
        assert!(matches!(result, Some(describe_topics_result::Result::Topic(_))), "{result:?}");
    }
    let mut admin = cluster.admin(1).await;
    let cases = [
        ("a", 1, 1, ErrorCode::TopicAlreadyExists),
        ("a b", 1, 1, ErrorCode::InvalidTopic),
        ("d", 20_000, 1, ErrorCode::InvalidPartitions),
        ("d", 1, 4, ErrorCode::InvalidReplicationFactor),
    ];
    for (name, partitions, replicas, expected) in cases {
        let error = create_topic(&mut admin, name, partitions, replicas).await.unwrap_err();
        assert_eq!(error.error_code(), Ok(expected), "{error}");
    }

    let change = |value: Option<&str>| AlterConfigsRequest {
        topics: vec![TopicConfigs {
            topic: "b".to_owned(),
            configs: vec![ConfigValue {
                name: "retention.ms".to_owned(),
                value: value.map(ToOwned::to_owned),
            }],
        }],
        validate_only: false,
        timeout_ms: 0,
    };
    let altered = admin.alter_configs(change(Some("60000"))).await.unwrap().into_inner();
    assert_eq!(altered.results[0].error, None);
    let refused = admin.alter_configs(change(Some("-7"))).await.unwrap().into_inner();
    let error = refused.results[0].error.clone().unwrap();
    assert_eq!(error.error_code(), Ok(ErrorCode::InvalidConfig), "{error}");
    let request = DescribeTopicsRequest { topics: vec!["b".to_owned()], include_configs: true };
    let answer = cluster.metadata(1).await.describe_topics(request).await.unwrap().into_inner();
    let Some(describe_topics_result::Result::Topic(topic)) = &answer.results[0].result else {
        panic!("{answer:?}")
    };
    let retention = topic.configs.iter().find(|config| config.name == "retention.ms").unwrap();
    assert_eq!((retention.value.as_str(), retention.source()), ("60000", ConfigSource::Topic));
    assert!(topic.partitions.iter().all(|partition| partition.replicas.len() == 3));
    assert_eq!(answer.brokers.len(), 3);

    let page = ListTopicsRequest { after: "a".to_owned(), max_topics: 1 };
    let page = cluster.metadata(1).await.list_topics(page).await.unwrap().into_inner();
    assert_eq!((page.topics[0].name.as_str(), page.topics[0].partitions), ("b", 2));

    let leader = cluster.leader(1, "a", 1).await;
    let request = DescribePartitionRaftRequest {
        partitions: vec![TopicPartition { topic: "a".to_owned(), partition: 1 }],
    };
    let inside = cluster.admin(leader).await.describe_partition_raft(request).await.unwrap();
    match inside.into_inner().results.remove(0).result.unwrap() {
        describe_partition_raft_result::Result::Raft(raft) => {
            assert!(raft.leads && raft.replicas.len() == 3, "{raft:?}");
        }
        describe_partition_raft_result::Result::Error(error) => panic!("{error}"),
    }

    let id = topic.id.clone();
    let delete = DeleteTopicsRequest { topics: vec!["b".to_owned()], timeout_ms: 0 };
    let deleted = cluster.admin(3).await.delete_topics(delete.clone()).await.unwrap().into_inner();
    assert_eq!(deleted.results[0].error, None);
    let again = cluster.admin(3).await.delete_topics(delete).await.unwrap().into_inner();
    let error = again.results[0].error.clone().unwrap();
    assert_eq!(error.error_code(), Ok(ErrorCode::UnknownTopicOrPartition));
    let begun = std::time::Instant::now();
    for broker in 1..=3 {
        let left = || {
            std::fs::read_dir(cluster.data(broker))
                .unwrap()
                .any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with(&id))
        };
        while left() {
            assert!(begun.elapsed() < PATIENCE, "broker {broker} keeps a deleted topic");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    cluster.stop_all().await;
}

/// A broker that has no news says so: that a topic does not exist is said only by one that knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_without_news_calls_no_topic_unknown() {
    let mut cluster = Cluster::start(3).await;
    cluster.stop(3).await;
    cluster.create_topic(1, "news", 1, 3).await;
    cluster.stop(1).await;
    cluster.stop(2).await;
    cluster.start_broker(3).await;
    let begun = std::time::Instant::now();
    let error = loop {
        match described(&cluster, "news").await {
            Ok(result) => break refusal(result),
            Err(status) => assert!(begun.elapsed() < PATIENCE, "{status}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(error.error_code(), Ok(ErrorCode::RequestTimedOut), "{error}");

    cluster.start_broker(1).await;
    cluster.ready().await;
    let found = described(&cluster, "news").await.unwrap();
    assert!(matches!(found, describe_topics_result::Result::Topic(_)), "{found:?}");
    let error = refusal(described(&cluster, "olds").await.unwrap());
    assert_eq!(error.error_code(), Ok(ErrorCode::UnknownTopicOrPartition), "{error}");
    cluster.stop_all().await;
}

/// What broker 3 says about a topic.
async fn described(
    cluster: &Cluster,
    topic: &str,
) -> Result<describe_topics_result::Result, tonic::Status> {
    let request = DescribeTopicsRequest { topics: vec![topic.to_owned()], include_configs: false };
    let answer = cluster.metadata(3).await.describe_topics(request).await?;
    Ok(answer.into_inner().results.remove(0).result.unwrap())
}

fn refusal(result: describe_topics_result::Result) -> tidelog_proto::v1::Error {
    match result {
        describe_topics_result::Result::Error(error) => error,
        found @ describe_topics_result::Result::Topic(_) => panic!("{found:?}"),
    }
}
