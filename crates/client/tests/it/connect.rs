//! The first contact.

use std::time::{Duration, Instant};

use tidelog_client::{Client, Error};

use crate::fake::Cluster;

/// A port that nobody listens on.
fn closed_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn a_dead_bootstrap_names_every_address() {
    let addresses = [closed_port(), closed_port()];
    let began = Instant::now();
    let error = Client::builder(&addresses).connect().await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(2));
    let text = error.to_string();
    assert!(addresses.iter().all(|address| text.contains(address)), "{text}");
    assert!(text.to_lowercase().contains("connection refused"), "{text}");
    assert!(error.is_retriable());
}

#[tokio::test]
async fn a_silent_bootstrap_is_given_up_within_five_seconds() {
    // Connections are taken by the kernel, and nobody ever answers on them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [silent.local_addr().unwrap().to_string(), closed_port()];
    let began = Instant::now();
    let error = Client::builder(&addresses).connect().await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let text = error.to_string();
    assert!(addresses.iter().all(|address| text.contains(address)), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broker_that_answers_is_enough() {
    let cluster = Cluster::start(1);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let addresses = [silent, closed_port(), cluster.address(1)];
    let began = Instant::now();
    let client = Client::builder(addresses).connect().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(client.cluster_id(), "11111111-1111-4111-8111-111111111111");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_or_none_is_told() {
    let cluster = Cluster::start(1);
    let error = cluster.client().cluster("other").connect().await.unwrap_err();
    assert!(matches!(error, Error::OtherCluster { .. }), "{error}");
    cluster.world.change(|state| state.unformed = true);
    let error = cluster.client().connect().await.unwrap_err();
    assert_eq!(error.to_string(), "the cluster has not formed: waiting for broker 2");
}

#[tokio::test]
async fn addresses_and_settings_are_checked() {
    for address in ["nowhere", "a:b", ":1", "a:99999", ""] {
        let error = Client::builder([address]).connect().await.unwrap_err();
        assert!(matches!(error, Error::Setting { .. }), "{address}: {error}");
    }
    let error = Client::builder(Vec::<String>::new()).connect().await.unwrap_err();
    assert_eq!(error.to_string(), "bootstrap.servers=\"\": names no broker");
    let builder = Client::builder(["a:1"]).set("no.such", "1");
    let error = builder.connect().await.unwrap_err();
    assert_eq!(error.to_string(), "no.such=\"1\": is not a setting of a client");
}
