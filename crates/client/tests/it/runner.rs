//! The runner: order by key, retries, dead letters, and a dependency that goes down.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidelog_client::{
    Client, DEAD_LETTER_ATTEMPTS, DEAD_LETTER_ERROR, DEAD_LETTER_FIRST_FAILURE, DEAD_LETTER_OFFSET,
    DEAD_LETTER_PARTITION, DEAD_LETTER_TOPIC, DeadLetters, ErrorCode, HandlerError, Position,
    ReadRecord, Record, Retry, RunError, Runner, RunnerBuilder, StartPolicy, Until,
};
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};

use crate::fake::{Cluster, PATIENCE};

const TOPIC: &str = "orders";
const GROUP: &str = "billing";

async fn client(cluster: &Cluster) -> Client {
    cluster.client().connect().await.unwrap()
}

/// Records "0", "1", "2" … under keys in turn.
async fn produce(client: &Client, records: usize, keys: usize) {
    let producer = client.producer().build().await.unwrap();
    let records = (0..records).map(|n| {
        let record = Record::to(TOPIC).key(format!("k{}", n % keys)).value(n.to_string());
        record.header("trace", format!("t{n}"))
    });
    for written in producer.send_all(records).await {
        written.unwrap();
    }
}

fn number(record: &ReadRecord) -> usize {
    std::str::from_utf8(record.value.as_ref().unwrap()).unwrap().parse().unwrap()
}

fn fast(builder: RunnerBuilder) -> RunnerBuilder {
    let builder = builder.start(StartPolicy::Earliest);
    builder
        .retry(Retry::new(Duration::from_millis(5), 3))
        .probe(Retry::new(Duration::from_millis(100), 0).max(Duration::from_millis(400)))
}

async fn done(runner: &Runner, records: u64) {
    let done = async {
        while runner.stats().handled + runner.stats().dead_lettered < records {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, done).await.unwrap_or_else(|_| panic!("{:?}", runner.stats()));
}

/// Everything in the dead-letter topic.
async fn dead_letters(client: &Client, topic: &str) -> Vec<ReadRecord> {
    let reader = client.reader().topic(topic, Position::Earliest).until(Until::End);
    let mut reader = reader.build().await.unwrap();
    let mut letters = Vec::new();
    while let Some(letter) = timeout(PATIENCE, reader.recv()).await.unwrap().unwrap() {
        letters.push(letter);
    }
    letters
}

fn headers(letter: &ReadRecord) -> BTreeMap<String, String> {
    let text =
        |value: &Option<bytes::Bytes>| String::from_utf8(value.as_ref().unwrap().to_vec()).unwrap();
    letter.headers.iter().map(|h| (h.name.as_str().to_owned(), text(&h.value))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_handled_in_order_and_side_by_side() {
    const KEYS: usize = 7;
    let cluster = Cluster::start(2);
    cluster.world.create(TOPIC, 2);
    let client = client(&cluster).await;
    produce(&client, 700, KEYS).await;
    let seen = Arc::new(Mutex::new(HashMap::<usize, Vec<usize>>::new()));
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let busy = Arc::new(Mutex::new(BTreeSet::new()));
    let handler = {
        let (seen, running, most) = (Arc::clone(&seen), Arc::clone(&running), Arc::clone(&most));
        move |record: ReadRecord| {
            let (seen, running, most) =
                (Arc::clone(&seen), Arc::clone(&running), Arc::clone(&most));
            let busy = Arc::clone(&busy);
            async move {
                let n = number(&record);
                assert!(busy.lock().unwrap().insert(n % KEYS), "two calls for one key");
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                sleep(Duration::from_millis(1)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                seen.lock().unwrap().entry(n % KEYS).or_default().push(n);
                busy.lock().unwrap().remove(&(n % KEYS));
                Ok(())
            }
        }
    };
    let runner = fast(client.run(GROUP, [TOPIC], handler)).concurrency_max(4);
    let runner = runner.build().await.unwrap();
    done(&runner, 700).await;
    let stats = runner.stop().await.unwrap();
    assert_eq!((stats.handled, stats.dead_lettered, stats.calls), (700, 0, 700));
    for (key, seen) in seen.lock().unwrap().iter() {
        assert_eq!(*seen, (*key..700).step_by(KEYS).collect::<Vec<_>>());
    }
    assert!((2..=4).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    // Everything is committed, and the member has left.
    let mut state = cluster.world.state();
    let ends = (0..2).map(|at| state.partition(TOPIC, at).unwrap().next_offset as i64);
    let ends = ends.collect::<Vec<_>>();
    let group = state.group(GROUP);
    assert!(group.members.is_empty());
    let committed = (0..2).map(|at| group.committed(TOPIC, at).unwrap()).collect::<Vec<_>>();
    assert_eq!(committed, ends);
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_and_what_fails_too_often_are_put_aside_with_their_story() {
    let cluster = Cluster::start(2);
    cluster.world.create(TOPIC, 1);
    let client = client(&cluster).await;
    produce(&client, 1_000, 20).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let handler = {
        let seen = Arc::clone(&seen);
        move |record: ReadRecord| {
            let seen = Arc::clone(&seen);
            async move {
                let n = number(&record);
                match n {
                    500 => return Err(HandlerError::transient("not now")),
                    501 => panic!("never"),
                    _ if n % 100 == 7 => return Err(HandlerError::poison("bad record")),
                    _ => {}
                }
                seen.lock().unwrap().push(n);
                Ok(())
            }
        }
    };
    let runner = fast(client.run(GROUP, [TOPIC], handler)).build().await.unwrap();
    done(&runner, 1_000).await;
    let stats = runner.stop().await.unwrap();
    assert_eq!((stats.handled, stats.dead_lettered), (988, 12));
    for key in 0..20 {
        let seen = seen.lock().unwrap();
        assert!(seen.iter().filter(|n| **n % 20 == key).is_sorted(), "key {key} out of order");
    }
    let letters = dead_letters(&client, "orders.dlq").await;
    let numbers = letters.iter().map(number).collect::<BTreeSet<_>>();
    let poison = (0..10).map(|n| n * 100 + 7);
    assert_eq!(numbers, poison.chain([500, 501]).collect::<BTreeSet<_>>());
    assert_eq!(letters.len(), 12);
    for letter in &letters {
        let (n, headers) = (number(letter), headers(letter));
        assert_eq!(letter.key.as_ref().unwrap(), &format!("k{}", n % 20));
        let (attempts, error) = match n {
            500 => ("4", "not now"),
            501 => ("1", "the handler panicked"),
            _ => ("1", "bad record"),
        };
        let first: i64 = headers[DEAD_LETTER_FIRST_FAILURE].parse().unwrap();
        assert!(first > 1_600_000_000_000, "{first}");
        let story = [
            ("trace", format!("t{n}")),
            (DEAD_LETTER_TOPIC, TOPIC.to_owned()),
            (DEAD_LETTER_PARTITION, "0".to_owned()),
            (DEAD_LETTER_OFFSET, n.to_string()),
            (DEAD_LETTER_ERROR, error.to_owned()),
            (DEAD_LETTER_ATTEMPTS, attempts.to_owned()),
        ];
        for (name, value) in story {
            assert_eq!(headers[name], value, "{name} of {n}");
        }
        assert_eq!(headers.len(), 7);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_dependency_is_down_few_calls_are_made_and_none_dies() {
    let cluster = Cluster::start(2);
    cluster.world.create(TOPIC, 2);
    let client = client(&cluster).await;
    produce(&client, 500, 50).await;
    let (down, failed) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let handler = {
        let (down, failed) = (Arc::clone(&down), Arc::clone(&failed));
        move |_: ReadRecord| {
            let (down, failed) = (Arc::clone(&down), Arc::clone(&failed));
            async move {
                if down.load(Ordering::SeqCst) {
                    failed.fetch_add(1, Ordering::SeqCst);
                    return Err(HandlerError::unavailable("connection refused"));
                }
                Ok(())
            }
        }
    };
    let runner = fast(client.run(GROUP, [TOPIC], handler)).build().await.unwrap();
    // As 30 s by the default pauses, ten times as fast.
    sleep(Duration::from_secs(3)).await;
    assert!(runner.is_paused());
    down.store(false, Ordering::SeqCst);
    let back = Instant::now();
    done(&runner, 500).await;
    assert!(back.elapsed() < Duration::from_secs(3), "{:?}", back.elapsed());
    let failed = failed.load(Ordering::SeqCst);
    assert!((5..=20).contains(&failed), "{failed} calls while it was down");
    let stats = runner.stop().await.unwrap();
    assert_eq!((stats.handled, stats.dead_lettered), (500, 0));
    assert!(dead_letters(&client, "orders.dlq").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_of_one_partition_and_only_the_guilty_is_put_aside() {
    let cluster = Cluster::start(2);
    cluster.world.create(TOPIC, 2);
    let client = client(&cluster).await;
    produce(&client, 200, 10).await;
    let seen = Arc::new(Mutex::new(Vec::<(u32, u64)>::new()));
    let handler = {
        let seen = Arc::clone(&seen);
        move |records: Vec<ReadRecord>| {
            let seen = Arc::clone(&seen);
            async move {
                assert!((1..=30).contains(&records.len()));
                assert!(records.iter().all(|record| record.partition == records[0].partition));
                if records.iter().any(|record| number(record) == 123) {
                    return Err(HandlerError::poison("one of them"));
                }
                let places = records.iter().map(|record| (record.partition.0, record.offset.0));
                seen.lock().unwrap().extend(places);
                Ok(())
            }
        }
    };
    let runner = fast(client.run_batches(GROUP, [TOPIC], handler)).batch_records_max(30);
    let runner = runner.build().await.unwrap();
    done(&runner, 200).await;
    let stats = runner.stop().await.unwrap();
    assert_eq!((stats.handled, stats.dead_lettered), (199, 1));
    for partition in 0..2 {
        let seen = seen.lock().unwrap();
        assert!(seen.iter().filter(|place| place.0 == partition).is_sorted());
    }
    let letters = dead_letters(&client, "orders.dlq").await;
    assert_eq!(letters.iter().map(number).collect::<Vec<_>>(), [123]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_calls_in_progress_and_for_no_others() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    let client = client(&cluster).await;
    produce(&client, 10, 10).await;
    let (called, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (called, go_on) = (Arc::clone(&called), Arc::clone(&go_on));
        move |record: ReadRecord| {
            let (called, go_on) = (Arc::clone(&called), Arc::clone(&go_on));
            async move {
                match number(&record) {
                    0 => {
                        called.notify_one();
                        go_on.notified().await;
                        Ok(())
                    }
                    // Waits for its next try for longer than anybody will.
                    1 => Err(HandlerError::transient("later")),
                    _ => Ok(()),
                }
            }
        }
    };
    let runner = fast(client.run(GROUP, [TOPIC], handler));
    let runner = runner.retry(Retry::new(Duration::from_secs(1_000), 3));
    let (stop, stopped) = oneshot::channel::<()>();
    let runner = runner.until(async { drop(stopped.await) }).build().await.unwrap();
    timeout(PATIENCE, called.notified()).await.unwrap();
    done(&runner, 8).await;
    stop.send(()).unwrap();
    let waiting = tokio::spawn(runner.wait());
    go_on.notify_one();
    let stats = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!((stats.handled, stats.dead_lettered), (9, 0));
    let mut state = cluster.world.state();
    assert_eq!(state.group(GROUP).committed(TOPIC, 0), Some(1));
    assert!(state.group(GROUP).members.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_partition_is_given_up_when_its_calls_are_done() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 2);
    let client = client(&cluster).await;
    produce(&client, 40, 40).await;
    let (called, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (called, go_on) = (Arc::clone(&called), Arc::clone(&go_on));
        move |record: ReadRecord| {
            let (called, go_on) = (Arc::clone(&called), Arc::clone(&go_on));
            async move {
                if (record.partition.0, record.offset.0) == (1, 0) {
                    called.notify_one();
                    go_on.notified().await;
                }
                Ok(())
            }
        }
    };
    let runner = fast(client.run(GROUP, [TOPIC], handler)).build().await.unwrap();
    timeout(PATIENCE, called.notified()).await.unwrap();
    done(&runner, 39).await;
    let other = client.consumer(GROUP).topics([TOPIC]).start(StartPolicy::Error);
    let mut other = other.build().await.unwrap();
    let asked = cluster
        .world
        .wait(|state| state.groups[GROUP].position("revoking=true orders/1").is_some());
    timeout(PATIENCE, asked).await.unwrap();
    assert!(cluster.world.state().group(GROUP).position("free 1").is_none());
    go_on.notify_one();
    // Nothing is left of it for the other: all of it was handled, and is committed.
    let freed =
        cluster.world.wait(|state| state.groups[GROUP].position("grant orders/1 to 1").is_some());
    timeout(PATIENCE, freed).await.unwrap();
    {
        let mut state = cluster.world.state();
        let end = state.partition(TOPIC, 1).unwrap().next_offset as i64;
        assert_eq!(state.group(GROUP).committed(TOPIC, 1), Some(end));
    }
    let records = other.recv_batch(1, Duration::from_millis(50)).await.unwrap().unwrap();
    assert!(records.is_empty());
    runner.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_need_a_place() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    let client = client(&cluster).await;
    produce(&client, 3, 1).await;
    let handler = |record: ReadRecord| async move {
        match number(&record) {
            1 => Err(HandlerError::poison("bad")),
            _ => Ok(()),
        }
    };
    let runner = || fast(client.run(GROUP, [TOPIC], handler));
    let error = client.run(GROUP, [TOPIC], handler).build().await.unwrap_err();
    assert!(error.to_string().contains("auto.offset.reset"), "{error}");
    let missing = runner().dead_letters(DeadLetters::suffix(".dead").must_exist());
    let error = missing.build().await.unwrap_err();
    assert_eq!(error.to_string(), "topic orders.dead does not exist");
    let strict = runner().dead_letters(DeadLetters::nowhere()).build().await.unwrap();
    let error = timeout(PATIENCE, strict.wait()).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "cannot handle orders/0 at offset 1: bad");
    assert!(matches!(error, RunError::Dead { .. }));
    // What was handled before is committed; what was not is not.
    assert_eq!(cluster.world.state().group(GROUP).committed(TOPIC, 0), Some(1));
    let made = DeadLetters::suffix(".dead").partitions(3);
    let runner = runner().dead_letters(made).build().await.unwrap();
    done(&runner, 2).await;
    runner.stop().await.unwrap();
    assert_eq!(cluster.world.state().topics["orders.dead"].partitions.len(), 3);
    assert_eq!(dead_letters(&client, "orders.dead").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_refuses_stops_the_runner() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    let client = client(&cluster).await;
    cluster.world.change(|state| {
        state.group(GROUP).refuse_join = Some(ErrorCode::GroupMaxSizeReached);
    });
    let runner = fast(client.run(GROUP, [TOPIC], |_: ReadRecord| async { Ok(()) }));
    let runner = runner.build().await.unwrap();
    let error = timeout(PATIENCE, runner.wait()).await.unwrap().unwrap_err();
    assert!(matches!(error, RunError::Consume(_)), "{error}");
}
