//! Starting, forming, stopping, and what is refused.

use std::time::Duration;

use tidelog_broker::config::HostPort;
use tidelog_broker::{Broker, Environment};
use tidelog_proto::v1::{ClusterHealthRequest, DescribeClusterRequest, HealthStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cluster::{Cluster, PATIENCE, start, until};

async fn get(address: &HostPort, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address.to_string()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_forms_once_all_are_there_and_survives_a_restart() {
    let mut cluster = Cluster::prepare(3).await;
    cluster.start_broker(3).await;
    cluster.start_broker(1).await;
    let http = cluster.seat(3).config.listener.http.bind.clone();
    assert_eq!(get(&http, "/healthz").await, (200, "ok\n".to_owned()));
    let begun = std::time::Instant::now();
    loop {
        let (status, text) = get(&http, "/readyz").await;
        assert_eq!(status, 503, "{text}");
        if text.contains("broker 2 at 127.0.0.1:") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The other broker finds out for itself, in its own time.
    let request = DescribeClusterRequest {};
    let begun = std::time::Instant::now();
    loop {
        let mut metadata = cluster.metadata(1).await;
        let described = metadata.describe_cluster(request).await.unwrap().into_inner();
        assert_eq!(described.cluster_id, "");
        if described.waiting_for.contains("broker 2") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", described.waiting_for);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    cluster.start_broker(2).await;
    cluster.ready().await;
    assert_eq!(get(&http, "/readyz").await, (200, "ready\n".to_owned()));
    let described = cluster.metadata(2).await.describe_cluster(request).await.unwrap().into_inner();
    let id = described.cluster_id;
    assert_eq!(id.len(), 36);
    assert_eq!(described.brokers.iter().map(|broker| broker.id).collect::<Vec<_>>(), [1, 2, 3]);
    let own = cluster.seat(2).config.listener.client.bind.to_string();
    assert!(described.brokers.iter().any(|broker| broker.address == own));

    cluster.stop_all().await;
    for id in 1..=3 {
        cluster.start_broker(id).await;
    }
    cluster.ready().await;
    let described = cluster.metadata(3).await.describe_cluster(request).await.unwrap().into_inner();
    assert_eq!(described.cluster_id, id, "a cluster forms once");
    let (status, metrics) = get(&http, "/metrics").await;
    assert_eq!(status, 200);
    for name in ["tidelog_fdatasync_calls_total ", "tidelog_ready 1", "tidelog_brokers_alive "] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    assert_eq!(get(&http, "/nothing").await.0, 404);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_disk_is_refused_with_the_reason() {
    let mut cluster = Cluster::start(3).await;
    cluster.stop(2).await;
    let data = cluster.data(2);
    std::fs::remove_dir_all(&data).unwrap();
    cluster.start_broker(2).await;
    let broker = cluster.seat(2).broker.take().unwrap();
    let end = timeout(PATIENCE, broker.wait()).await.expect("it gives up");
    let reason = end.unwrap_err().to_string();
    assert!(reason.contains("knows broker 2: its disk was wiped"), "{reason}");
    cluster.stop_all().await;
}

/// The broker that would form a cluster asks others that do not know yet what their cluster knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_disk_is_refused_when_all_start_together() {
    let mut cluster = Cluster::start(3).await;
    cluster.stop_all().await;
    std::fs::remove_dir_all(cluster.data(1)).unwrap();
    for id in [1, 2, 3] {
        cluster.start_broker(id).await;
    }
    let broker = cluster.seat(1).broker.take().unwrap();
    let end = timeout(PATIENCE, broker.wait()).await.expect("it gives up");
    let reason = end.unwrap_err().to_string();
    assert!(reason.contains("knows broker 1: its disk was wiped"), "{reason}");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_list_is_refused_with_the_reason() {
    let mut cluster = Cluster::prepare(3).await;
    cluster.start_broker(1).await;
    cluster.seat(3).config.initial_brokers.remove(1);
    let other = cluster.seat(3).config.initial_brokers[0].clone();
    let mut other =
        tidelog_broker::config::InitialBroker { id: tidelog_types::BrokerId(9), ..other };
    other.address.host = "127.0.0.2".to_owned();
    cluster.seat(3).config.initial_brokers.push(other);
    cluster.start_broker(3).await;
    let broker = cluster.seat(3).broker.take().unwrap();
    let end = timeout(PATIENCE, broker.wait()).await.expect("it gives up");
    let reason = end.unwrap_err().to_string();
    assert!(reason.contains("all must have the same list"), "{reason}");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start_says_why_in_one_line() {
    let mut cluster = Cluster::prepare(1).await;
    let first = cluster.seat(1).config.clone();
    let running = start(&first).await;
    let refused = async |config: &tidelog_broker::Config| {
        let env = Environment::system(config).unwrap();
        let line = Broker::start(config.clone(), env).await.unwrap_err().to_string();
        assert!(!line.contains('\n'), "{line}");
        line
    };
    let line = refused(&first).await;
    assert!(line.contains(&format!("is in use by pid {}", std::process::id())), "{line}");

    let elsewhere = tempfile::tempdir().unwrap();
    let mut config = first.clone();
    config.data_dir = elsewhere.path().join("a/b");
    let line = refused(&config).await;
    let port = format!("listener.client.bind = {}", first.listener.client.bind);
    assert!(line.contains(&port) && line.contains("in use"), "{line}");

    let file = elsewhere.path().join("file");
    std::fs::write(&file, "").unwrap();
    config.data_dir = file.join("data");
    let line = refused(&config).await;
    assert!(line.contains("data directory") && line.contains("cannot be used"), "{line}");

    until(|| running.not_ready().map_or(Ok(()), Err)).await;
    running.stop(Duration::from_secs(5)).await;
    let mut other = first.clone();
    other.broker_id = Some(2);
    other.initial_brokers[0].id = tidelog_types::BrokerId(2);
    let line = refused(&other).await;
    assert!(line.contains("belongs to broker 1, but broker_id is 2"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_tells_a_missing_broker_from_a_missing_quorum() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(1, "orders", 3, 3).await;
    let mut admin = cluster.admin(1).await;
    let mut expect = async |status: HealthStatus| {
        let begun = std::time::Instant::now();
        loop {
            let health = admin.cluster_health(ClusterHealthRequest {}).await.unwrap().into_inner();
            if health.status() == status {
                return health;
            }
            assert!(begun.elapsed() < PATIENCE, "{health:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    expect(HealthStatus::Healthy).await;
    cluster.stop(3).await;
    let health = expect(HealthStatus::Degraded).await;
    assert_eq!(health.dead_broker_ids, [3]);
    assert_eq!(health.under_replicated_count, 3);
    cluster.stop(2).await;
    expect(HealthStatus::Unavailable).await;
    cluster.stop_all().await;
}
