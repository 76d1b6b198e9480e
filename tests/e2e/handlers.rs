//! The handler runtime over real brokers: poison is put aside and nothing else, order per key is kept,
//! and a dependency that is down costs a few probes and no dead letter.
//!
//! `TIDELOG_E2E_OUTAGE_S=30`: how long the dependency is down, instead of 6 s.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidelog_client::admin::NewTopic;
use tidelog_client::{
    Client, DEAD_LETTER_ATTEMPTS, DEAD_LETTER_OFFSET, DEAD_LETTER_PARTITION, DEAD_LETTER_TOPIC,
    HandlerError, Position, ReadRecord, Record, Retry, StartPolicy, Until,
};
use tokio::time::sleep;

use crate::stage::{PATIENCE, Stage, until, within};

const PARTITIONS: u32 = 4;

async fn topic(client: &Client, name: &str) {
    let topic = NewTopic::new(name.parse().unwrap()).partitions(PARTITIONS);
    for (_, created) in client.admin().create_topics([topic]).await.unwrap() {
        created.unwrap();
    }
}

/// Numbered records of 50 keys.
fn records(topic: &'static str, numbers: std::ops::Range<u64>) -> impl Iterator<Item = Record> {
    numbers.map(move |n| Record::to(topic).key(format!("key-{}", n % 50)).value(n.to_string()))
}

fn number(record: &ReadRecord) -> u64 {
    std::str::from_utf8(record.value.as_ref().unwrap()).unwrap().parse().unwrap()
}

async fn read_all(client: &Client, topic: &str) -> Vec<ReadRecord> {
    let reader = client.reader().topic(topic, Position::Earliest).until(Until::End);
    let (mut reader, mut all) = (reader.build().await.unwrap(), Vec::new());
    while let Some(records) = reader.recv_batch(1_000, PATIENCE).await.unwrap() {
        all.extend(records);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn one_percent_of_poison_goes_aside_and_keys_keep_their_order() {
    const RECORDS: u64 = 10_000;
    let mut stage = Stage::new().await;
    stage.start_all().await;
    let client = stage.client().await;
    topic(&client, "payments").await;
    let producer = client.producer().build().await.unwrap();
    for acked in producer.send_all(records("payments", 0..RECORDS)).await {
        acked.unwrap();
    }
    let handled: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u64>>>> = Arc::default();
    let done = Arc::clone(&handled);
    let handler = move |record: ReadRecord| {
        let done = Arc::clone(&done);
        async move {
            let number = number(&record);
            if number % 100 == 99 {
                return Err(HandlerError::poison(format!("{number} is poison")));
            }
            let key = record.key.unwrap().to_vec();
            done.lock().unwrap().entry(key).or_default().push(number);
            Ok(())
        }
    };
    let runner = client.run("ledger", ["payments"], handler).start(StartPolicy::Earliest);
    let runner = runner.build().await.unwrap();
    let all = || {
        let stats = runner.stats();
        stats.handled + stats.dead_lettered >= RECORDS
    };
    until("every record is handled or put aside", async || all()).await;
    let stats = within("the runner stops", runner.stop()).await.unwrap();
    assert_eq!((stats.handled, stats.dead_lettered), (9_900, 100));

    let handled = std::mem::take(&mut *handled.lock().unwrap());
    assert_eq!(handled.values().map(Vec::len).sum::<usize>(), 9_900);
    for (key, numbers) in &handled {
        assert!(numbers.is_sorted_by(|a, b| a < b), "order of {key:?}");
    }
    let letters = read_all(&client, "payments.dlq").await;
    assert_eq!(letters.len(), 100);
    let origin: BTreeMap<_, _> = read_all(&client, "payments")
        .await
        .iter()
        .map(|record| (number(record), (record.partition, record.offset)))
        .collect();
    for letter in letters {
        let header = |name: &str| {
            let header = letter.headers.iter().find(|header| header.name.as_str() == name);
            String::from_utf8(header.unwrap().value.as_ref().unwrap().to_vec()).unwrap()
        };
        let (partition, offset) = origin[&number(&letter)];
        assert_eq!(number(&letter) % 100, 99);
        assert_eq!(header(DEAD_LETTER_TOPIC), "payments");
        assert_eq!(header(DEAD_LETTER_PARTITION), partition.to_string());
        assert_eq!(header(DEAD_LETTER_OFFSET), offset.to_string());
        assert_eq!(header(DEAD_LETTER_ATTEMPTS), "1");
    }
    stage.cluster.stop_all(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dependency_that_is_down_costs_probes_and_no_dead_letter() {
    let outage = std::env::var("TIDELOG_E2E_OUTAGE_S").ok();
    let outage =
        outage.map_or(6, |seconds| seconds.parse().expect("TIDELOG_E2E_OUTAGE_S is a number"));
    let mut stage = Stage::new().await;
    stage.start_all().await;
    let client = stage.client().await;
    topic(&client, "transfers").await;
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    let handler = move |_: ReadRecord| {
        let is_down = is_down.load(Ordering::Relaxed);
        async move {
            if is_down {
                return Err(HandlerError::unavailable("the bank is closed"));
            }
            Ok(())
        }
    };
    let runner = client.run("bank", ["transfers"], handler).start(StartPolicy::Earliest);
    let runner = runner.build().await.unwrap();
    let producer = client.producer().build().await.unwrap();
    let sent = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let (count, stopped) = (Arc::clone(&sent), Arc::clone(&stop));
    // About 1,000 records a second.
    let load = tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            let from = count.load(Ordering::Relaxed);
            for acked in producer.send_all(records("transfers", from..from + 50)).await {
                acked.unwrap();
            }
            count.store(from + 50, Ordering::Relaxed);
            sleep(Duration::from_millis(48)).await;
        }
    });
    until("records are handled", async || runner.stats().handled > 500).await;
    down.store(true, Ordering::Relaxed);
    until("the runner pauses", async || runner.is_paused()).await;
    let before = runner.stats();
    sleep(Duration::from_secs(outage)).await;
    let during = runner.stats();
    down.store(false, Ordering::Relaxed);
    let back = Instant::now();
    stop.store(true, Ordering::Relaxed);
    within("the load ends", load).await.unwrap();
    let sent = sent.load(Ordering::Relaxed);
    until("nothing is left to do", async || runner.stats().handled >= sent).await;
    println!(
        "{outage} s down: {} probes, {} calls; nothing left {:?} after it was back, {sent} records",
        during.probes - before.probes,
        during.calls - before.calls,
        back.elapsed(),
    );
    let stats = within("the runner stops", runner.stop()).await.unwrap();
    assert!(during.calls - before.calls <= 20, "{during:?} after {before:?}");
    assert_eq!((stats.handled, stats.dead_lettered), (sent, 0));
    let group = client.admin().describe_group("bank").await.unwrap();
    let committed: u64 =
        group.partitions.iter().filter_map(|p| Some(p.committed.as_ref()?.offset.0)).sum();
    assert_eq!(committed, sent, "everything is committed");
    stage.cluster.stop_all(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_between_tries_are_what_was_asked_for() {
    let mut stage = Stage::new().await;
    stage.start_all().await;
    let client = stage.client().await;
    topic(&client, "mails").await;
    let producer = client.producer().build().await.unwrap();
    producer.send(Record::to("mails").value("0")).await.unwrap();
    let calls: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let called = Arc::clone(&calls);
    let handler = move |_: ReadRecord| {
        called.lock().unwrap().push(Instant::now());
        async { Err::<(), _>(HandlerError::transient("no answer")) }
    };
    let runner = client.run("mailer", ["mails"], handler).start(StartPolicy::Earliest);
    let runner = runner.retry(Retry::new(Duration::from_secs(1), 3)).build().await.unwrap();
    until("it is put aside", async || runner.stats().dead_lettered == 1).await;
    within("the runner stops", runner.stop()).await.unwrap();
    let calls = calls.lock().unwrap();
    let gaps: Vec<f64> = calls.windows(2).map(|c| (c[1] - c[0]).as_secs_f64()).collect();
    println!("gaps between the calls: {gaps:.3?} s");
    assert_eq!(gaps.len(), 3);
    for (gap, asked) in gaps.iter().zip([1.0, 2.0, 4.0]) {
        // A pause is never cut short; how late a timer fires on a busy machine is not the runner's.
        assert!(*gap >= asked && *gap < asked * 2.0, "{gaps:?}");
    }
}
