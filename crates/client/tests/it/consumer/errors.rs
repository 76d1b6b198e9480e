//! What is refused, by the builder and by the group.

use std::time::Duration;

use tidelog_client::{ErrorCode, StartPolicy};
use tokio::time::timeout;

use super::{GROUP, PATIENCE, TOPIC, builder, client, cluster};

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_checked_and_the_start_is_required() {
    let cluster = cluster(1, 1, 0);
    let client = client(&cluster).await;
    let whole = || client.consumer(GROUP).topics([TOPIC]).start(StartPolicy::Latest);
    let long = "x".repeat(256);
    let cases = [
        (client.consumer(GROUP).topics([TOPIC]), "auto.offset.reset=\"\": is required"),
        (client.consumer(GROUP).start(StartPolicy::Latest), "topics=\"\": name a topic"),
        (client.consumer("").topics([TOPIC]).start(StartPolicy::Latest), "group id is empty"),
        (whole().set("group.id", &long), "group id has 256 bytes"),
        (whole().topics(["no such/topic"]), "topic name"),
        (whole().instance_id(""), "instance id is empty"),
        (whole().session_timeout(Duration::from_millis(999)), "must be 1000 to 1800000"),
        (whole().set("rebalance.timeout.ms", "0"), "must be 1000 to 1800000"),
        (whole().set("auto.commit.interval.ms", "0"), "must be above 0"),
        (whole().set("max.poll.interval.ms", "x"), "is not a whole number"),
        (whole().set("enable.auto.commit", "maybe"), "must be true or false"),
        (whole().set("auto.offset.reset", "middle"), "must be earliest, latest or none"),
        (whole().set("linger.ms", "5"), "is not a setting of a consumer"),
    ];
    for (builder, expected) in cases {
        let error = builder.build().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
    let consumer = client.consumer("x").topics([TOPIC]).set("group.id", GROUP);
    let consumer = consumer.set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    consumer.build().await.unwrap().close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_refuses_is_fatal() {
    let codes = [ErrorCode::InvalidRegularExpression, ErrorCode::GroupMaxSizeReached];
    for code in codes.into_iter().chain([ErrorCode::FencedInstanceId]) {
        let cluster = cluster(1, 1, 3);
        cluster.world.change(|state| state.group(GROUP).refuse_join = Some(code));
        let mut consumer = builder(&cluster).await.build().await.unwrap();
        let error = timeout(PATIENCE, consumer.recv()).await.unwrap().unwrap_err();
        assert!(error.is_fatal() && !error.is_retriable(), "{error}");
        assert_eq!(error.code(), Some(code));
        assert_eq!(error.to_string(), "group billing is not available");
        assert!(timeout(PATIENCE, consumer.recv()).await.unwrap().unwrap().is_none());
        consumer.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_cannot_be_reached_is_told_and_waited_for() {
    let cluster = cluster(2, 1, 3);
    let consumer = builder(&cluster).await.unavailable_timeout(Duration::from_millis(200));
    cluster.world.change(|state| state.frozen.extend([1, 2]));
    let mut consumer = consumer.session_timeout(Duration::from_secs(1)).build().await.unwrap();
    let error = timeout(PATIENCE, consumer.recv()).await.unwrap().unwrap_err();
    assert!(error.is_retriable() && !error.is_fatal(), "{error}");
    cluster.world.change(|state| state.frozen.clear());
    let record = loop {
        match timeout(PATIENCE, consumer.recv()).await.unwrap() {
            Ok(record) => break record.unwrap(),
            Err(error) => assert!(error.is_retriable(), "{error}"),
        }
    };
    assert_eq!(record.offset.0, 0);
}
