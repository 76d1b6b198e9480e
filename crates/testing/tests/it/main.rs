//! A cluster of the kit serves, survives a kill, and forgets nothing over a restart.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use tidelog_client::admin::NewTopic;
use tidelog_client::{Client, Position, Record, Until};
use tidelog_testing::Cluster;

async fn read_all(client: &Client) -> Vec<String> {
    let reader = client.reader().topic("orders", Position::Earliest).until(Until::End);
    let mut reader = reader.build().await.unwrap();
    let mut read = Vec::new();
    while let Some(record) = reader.recv().await.unwrap() {
        read.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
    }
    read.sort();
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_survive_the_kill_of_each_broker_in_turn() {
    let mut cluster = Cluster::start(3).await.unwrap();
    let client = Client::builder(cluster.bootstrap()).connect().await.unwrap();
    let topic = NewTopic::new("orders".parse().unwrap()).partitions(3);
    for (_, created) in client.admin().create_topics([topic]).await.unwrap() {
        created.unwrap();
    }
    let producer = client.producer().build().await.unwrap();
    let mut sent = Vec::new();
    for round in 1..=3 {
        for n in 0..10 {
            let value = format!("{round}-{n}");
            producer
                .send(Record::to("orders").key(value.clone()).value(value.clone()))
                .await
                .unwrap();
            sent.push(value);
        }
        cluster.kill(round);
        assert_eq!(cluster.running().len(), 2);
        let value = format!("{round}-without");
        producer.send(Record::to("orders").key(value.clone()).value(value.clone())).await.unwrap();
        sent.push(value);
        cluster.restart(round).await.unwrap();
    }
    sent.sort();
    assert_eq!(read_all(&client).await, sent);
    drop(producer);
    tokio::time::timeout(Duration::from_secs(30), cluster.stop()).await.unwrap();
}
