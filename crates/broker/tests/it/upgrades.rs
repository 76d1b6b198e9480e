//! Feature levels: brokers of several ranges in one cluster, and who is refused.

use std::time::Duration;

use tidelog_broker::config::HostPort;
use tidelog_broker::{Broker, Config, Environment, Software};
use tidelog_proto::v1::{
    DescribeClusterRequest, DescribeClusterResponse, Error, FinalizeUpgradeRequest,
    FinalizeUpgradeResponse,
};
use tidelog_types::{ErrorCode, FeatureLevel, FeatureLevels};
use tokio::time::timeout;

use crate::cluster::{Cluster, PATIENCE, free_ports};

/// A build that supports these levels.
fn build(config: &Config, min: u32, max: u32) -> Environment {
    let levels = FeatureLevels { min: FeatureLevel(min), max: FeatureLevel(max) };
    let software = Software::new(&format!("0.{max}.0"), "4f2a", levels);
    Environment { software, ..Environment::system(config).unwrap() }
}

async fn start(cluster: &mut Cluster, id: u32, (min, max): (u32, u32)) {
    let env = build(&cluster.seat(id).config, min, max);
    cluster.start_broker_in(id, env).await;
}

/// A cluster of brokers with these ranges.
async fn formed(ranges: [(u32, u32); 3]) -> Cluster {
    let mut cluster = Cluster::prepare(3).await;
    for (id, range) in (1..).zip(ranges) {
        start(&mut cluster, id, range).await;
    }
    cluster.ready().await;
    cluster
}

/// Stops a broker and starts it as another build.
async fn roll(cluster: &mut Cluster, id: u32, range: (u32, u32)) {
    cluster.stop(id).await;
    start(cluster, id, range).await;
    cluster.ready().await;
}

async fn described(cluster: &Cluster, by: u32) -> DescribeClusterResponse {
    cluster
        .metadata(by)
        .await
        .describe_cluster(DescribeClusterRequest {})
        .await
        .unwrap()
        .into_inner()
}

/// Waits until broker `by` shows this level.
async fn shows(cluster: &Cluster, by: u32, level: u32) {
    let begun = std::time::Instant::now();
    while described(cluster, by).await.feature_level != level {
        assert!(begun.elapsed() < PATIENCE, "broker {by} does not show level {level}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn finalize(
    cluster: &Cluster,
    level: u32,
    validate_only: bool,
) -> Result<FinalizeUpgradeResponse, Error> {
    let request = FinalizeUpgradeRequest { level, validate_only, timeout_ms: 0 };
    let answer = cluster.admin(2).await.finalize_upgrade(request).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| Error::from_status(&status).expect("a typed error"))
}

/// What a broker says that does not stay.
async fn reason(broker: &Broker) -> String {
    let end = timeout(PATIENCE, broker.wait()).await.expect("it gives up");
    let reason = end.unwrap_err().to_string();
    assert!(!reason.contains('\n'), "{reason}");
    reason
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_level_is_raised_once_every_broker_supports_it_and_not_before() {
    let mut cluster = formed([(1, 1), (1, 2), (1, 1)]).await;
    assert_eq!(described(&cluster, 1).await.feature_level, 1, "the lowest of the founders");
    roll(&mut cluster, 1, (1, 2)).await;
    let refused = finalize(&cluster, 2, false).await.unwrap_err();
    assert_eq!(refused.error_code(), Ok(ErrorCode::FeatureUpdateFailed));
    let named = "not supported by broker 3 (tidelog 0.1.0 (4f2a): 1)";
    assert!(refused.message.contains(named), "{}", refused.message);
    // Without a level it stays where it is, and nothing is proposed.
    let newest = finalize(&cluster, 0, false).await.unwrap();
    assert_eq!((newest.previous_level, newest.level), (1, 1));

    roll(&mut cluster, 3, (1, 2)).await;
    // One goes back, and the others know.
    roll(&mut cluster, 1, (1, 1)).await;
    let refused = finalize(&cluster, 2, true).await.unwrap_err();
    assert!(refused.message.contains("broker 1 (tidelog 0.1.0"), "{}", refused.message);
    roll(&mut cluster, 1, (1, 2)).await;

    let would = finalize(&cluster, 0, true).await.unwrap();
    assert_eq!((would.previous_level, would.level), (1, 2));
    assert_eq!(would.features.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["compaction"]);
    assert_eq!(described(&cluster, 2).await.feature_level, 1, "that was a rehearsal");
    let raised = finalize(&cluster, 0, false).await.unwrap();
    assert_eq!((raised.previous_level, raised.level), (1, 2));
    for by in 1..=3 {
        shows(&cluster, by, 2).await;
    }
    let software = described(&cluster, 2).await.brokers.remove(0).software.unwrap();
    assert_eq!((software.version.as_str(), software.commit.as_str()), ("0.2.0", "4f2a"));
    assert_eq!((software.feature_level_min, software.feature_level_max), (1, 2));

    let refused = finalize(&cluster, 1, false).await.unwrap_err();
    assert!(refused.message.contains("never goes back"), "{}", refused.message);
    cluster.stop_all().await;
    for id in 1..=3 {
        start(&mut cluster, id, (1, 2)).await;
    }
    cluster.ready().await;
    assert_eq!(described(&cluster, 3).await.feature_level, 2, "it outlives a restart of all");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_went_back_behind_the_level_is_refused_and_serves_nothing() {
    let mut cluster = formed([(1, 2), (1, 2), (1, 2)]).await;
    assert_eq!(described(&cluster, 1).await.feature_level, 2, "the newest of all founders");
    for (range, expected) in [
        (
            (1, 1),
            "the cluster is at feature level 2, but broker 3 supports 1: start it with a newer",
        ),
        (
            (3, 4),
            "the cluster is at feature level 2, but broker 3 supports 3 to 4: start it with the",
        ),
    ] {
        cluster.stop(3).await;
        start(&mut cluster, 3, range).await;
        let broker = cluster.seat(3).broker.take().unwrap();
        // It finds out by itself, or is told as it registers, whichever is first.
        let said = reason(&broker).await;
        assert!(said.contains(expected), "{said}");
        assert!(broker.not_ready().is_some(), "it serves nothing");
    }
    // Nobody is there to ask: its own metadata tell.
    cluster.stop_all().await;
    start(&mut cluster, 3, (1, 1)).await;
    let broker = cluster.seat(3).broker.take().unwrap();
    let said = reason(&broker).await;
    assert!(said.contains("at feature level 2, but broker 3 supports 1"), "{said}");
    drop(broker);
    for id in 1..=3 {
        start(&mut cluster, id, (1, 2)).await;
    }
    cluster.ready().await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_does_not_support_the_level_cannot_join() {
    let mut cluster = formed([(1, 2), (1, 2), (1, 2)]).await;
    let (ports, data) = (free_ports(3).await, tempfile::tempdir().unwrap());
    let at = |port: u16| HostPort { host: "127.0.0.1".to_owned(), port };
    let seed = cluster.seat(1).config.listener.internal.bind.clone();
    let mut config = cluster.seat(1).config.clone();
    config.broker_id = Some(4);
    config.data_dir = data.path().to_owned();
    config.initial_brokers.clear();
    config.seeds = vec![seed];
    config.listener.client.bind = at(ports[0]);
    config.listener.internal.bind = at(ports[1]);
    config.listener.http.bind = at(ports[2]);
    let broker = Broker::start(config.clone(), build(&config, 1, 1)).await.unwrap();
    let said = reason(&broker).await;
    assert!(said.contains("at feature level 2, but broker 4 supports 1"), "{said}");
    broker.stop(Duration::from_secs(5)).await;
    // Ids are given above that level.
    config.broker_id = None;
    let said = Broker::start(config.clone(), build(&config, 1, 3)).await.unwrap_err().to_string();
    assert!(said.contains("joining without a broker_id needs feature level 3"), "{said}");
    assert_eq!(described(&cluster, 1).await.brokers.len(), 3, "it was given no incarnation");
    cluster.stop_all().await;
}
