//! How fast the client is by itself, against brokers that only check and keep what they get. Measured,
//! never asserted: `cargo test -p tidelog-client --release -- --ignored --nocapture measure`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tidelog_client::{Position, Record, StartPolicy, TopicName, Until};

use crate::fake::Cluster;

const RECORDS: usize = 400_000;
const RECORD_BYTES: usize = 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_records_per_second() {
    let cluster = Cluster::start(3);
    cluster.world.create("t", 8);
    let client = cluster.client().connect().await.unwrap();
    let began = Instant::now();
    let producers = (0..2).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            let producer = client.producer().build().await.unwrap();
            let topic = TopicName::new("t").unwrap();
            let value = Bytes::from(vec![b'x'; RECORD_BYTES]);
            for n in 0..RECORDS / 2 {
                let record = Record::to(&topic).key(n.to_be_bytes().to_vec()).value(value.clone());
                drop(producer.enqueue(record).await.unwrap());
            }
            producer.close(Duration::from_secs(60)).await.unwrap();
        })
    });
    for producer in producers.collect::<Vec<_>>() {
        producer.await.unwrap();
    }
    report("produced", RECORDS, began);
    let began = Instant::now();
    let reader = client.reader().topic("t", Position::Earliest).until(Until::End);
    let mut reader = reader.build().await.unwrap();
    let mut count = 0;
    while let Some(records) = reader.recv_batch(1_000, Duration::from_secs(60)).await.unwrap() {
        count += records.len();
    }
    assert_eq!(count, RECORDS);
    report("read", RECORDS, began);
    let began = Instant::now();
    let consumer = client.consumer("g").topics(["t"]).start(StartPolicy::Earliest);
    let mut consumer = consumer.build().await.unwrap();
    let mut count = 0;
    while count < RECORDS {
        let records = consumer.recv_batch(1_000, Duration::from_secs(60)).await.unwrap().unwrap();
        records.iter().for_each(|record| consumer.mark(record));
        count += records.len();
    }
    consumer.close().await.unwrap();
    report("consumed and marked", RECORDS, began);
}

fn report(what: &str, records: usize, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    let rate = records as f64 / seconds;
    eprintln!("{what} {records} records of {RECORD_BYTES} bytes in {seconds:.2} s, {rate:.0}/s");
}
