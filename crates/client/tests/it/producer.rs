//! The producer, in order and once, whatever the brokers do.

use std::time::{Duration, Instant};

use tidelog_client::{
    Compression, ErrorCode, Offset, PartitionId, ProduceFailure, Producer, Record, TopicName,
    TryEnqueueError,
};
use tidelog_proto::v1::Error;
use tokio::time::timeout;

use crate::fake::{Cluster, Fault, PATIENCE};

const TOPIC: &str = "orders";

fn record(n: usize) -> Record {
    Record::to(TOPIC).value(n.to_string()).partition(PartitionId(0))
}

fn values(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// A producer of small batches, one record each unless it is faster than they are sent.
async fn producer(cluster: &Cluster) -> Producer {
    let client = cluster.client().connect().await.unwrap();
    let producer = client.producer().linger(Duration::ZERO).batch_bytes(100);
    producer.build().await.unwrap()
}

/// Enqueues records and waits for all of them; they must have followed each other.
async fn write(producer: &Producer, range: std::ops::Range<usize>) {
    let mut deliveries = Vec::new();
    for n in range {
        deliveries.push(producer.enqueue(record(n)).await.unwrap());
    }
    let mut next = None;
    for delivery in deliveries {
        let written = timeout(PATIENCE, delivery).await.unwrap().unwrap();
        assert!(next.is_none_or(|next| written.offset == next), "{written:?} after {next:?}");
        next = Some(written.offset.next());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_written_in_order_and_told_their_offsets() {
    let cluster = Cluster::start(3);
    cluster.world.create(TOPIC, 3);
    let producer = producer(&cluster).await;
    write(&producer, 0..2_000).await;
    assert_eq!(cluster.world.values(TOPIC, 0), values(0..2_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_choose_the_partition_and_headers_survive() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 4);
    let client = cluster.client().connect().await.unwrap();
    let producer = client.producer().compression(Compression::Lz4).build().await.unwrap();
    let keyed = || Record::to(TOPIC).key("k").value("v").header("h", "1").null_header("h");
    let outcomes = producer.send_all((0..50).map(|_| keyed())).await;
    let partitions = outcomes.into_iter().map(|outcome| outcome.unwrap().partition);
    let partition = PartitionId(tidelog_client::murmur2(b"k") % (1 << 31) % 4);
    assert!(partitions.into_iter().all(|at| at == partition));
    assert_eq!(cluster.world.values(TOPIC, partition.0 as usize).len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_without_a_key_spread_over_partitions() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 4);
    let producer = producer(&cluster).await;
    let outcomes =
        producer.send_all((0..500).map(|n| Record::to(TOPIC).value(n.to_string()))).await;
    assert!(outcomes.iter().all(Result::is_ok));
    for partition in 0..4 {
        assert!(!cluster.world.values(TOPIC, partition).is_empty(), "{partition}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn order_holds_when_leaders_move_in_mid_stream() {
    for hint in [true, false] {
        let cluster = Cluster::start(3);
        cluster.world.create(TOPIC, 1);
        let moves = (0..12).flat_map(|n| {
            let moved = Fault::Move { to: n % 3 + 1, hint };
            vec![Fault::Pass; 7].into_iter().chain([moved])
        });
        cluster.world.plant(TOPIC, 0, moves);
        let producer = producer(&cluster).await;
        write(&producer, 0..1_000).await;
        assert_eq!(cluster.world.values(TOPIC, 0), values(0..1_000), "hint={hint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_makes_no_duplicate() {
    let faults = [Fault::LoseAnswer, Fault::LoseRequest, Fault::AnswerUnknown];
    for fault in faults {
        let cluster = Cluster::start(2);
        cluster.world.create(TOPIC, 1);
        let script =
            (0..10).flat_map(|n| vec![Fault::Pass; n % 4].into_iter().chain([fault.clone()]));
        cluster.world.plant(TOPIC, 0, script);
        let producer = producer(&cluster).await;
        write(&producer, 0..500).await;
        assert_eq!(cluster.world.values(TOPIC, 0), values(0..500), "{fault:?}");
        assert_eq!(cluster.world.state().epochs_taken, 0, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_now_is_retried_after_the_pause_asked_for() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    let full = Error::new(ErrorCode::ResourceExhausted, "budget is used up");
    let full = full.with_retry_after(Duration::from_millis(150));
    cluster.world.plant(TOPIC, 0, [Fault::Refuse(full)]);
    let producer = producer(&cluster).await;
    let began = Instant::now();
    write(&producer, 0..20).await;
    assert!(began.elapsed() >= Duration::from_millis(150));
    assert_eq!(cluster.world.values(TOPIC, 0), values(0..20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_left_as_soon_as_there_is_another() {
    let mut cluster = Cluster::start(3);
    cluster.world.create(TOPIC, 1);
    let producer = producer(&cluster).await;
    write(&producer, 0..10).await;
    cluster.world.change(|state| state.elect_after = Some((10, TOPIC.to_owned(), 0, 2)));
    cluster.kill(1);
    let began = Instant::now();
    write(&producer, 10..300).await;
    assert_eq!(cluster.world.values(TOPIC, 0), values(0..300));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_leader_is_left_within_two_seconds() {
    let cluster = Cluster::start(3);
    cluster.world.create(TOPIC, 1);
    let producer = producer(&cluster).await;
    write(&producer, 0..10).await;
    cluster.world.freeze(1);
    let delivery = producer.enqueue(record(10)).await.unwrap();
    cluster.world.move_leader(TOPIC, 0, 3);
    let began = Instant::now();
    timeout(PATIENCE, delivery).await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(cluster.world.values(TOPIC, 0), values(0..11));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_leader_that_lives_is_waited_for() {
    let cluster = Cluster::start(2);
    cluster.world.create(TOPIC, 1);
    let producer = producer(&cluster).await;
    cluster.world.hold(true);
    let delivery = producer.enqueue(record(0)).await.unwrap();
    let delivery = tokio::spawn(delivery);
    // Until its life was doubted, and it was asked.
    let described = cluster.world.state().described;
    let asked = cluster.world.wait(|state| state.described > described + 1);
    timeout(PATIENCE, asked).await.unwrap();
    assert!(!delivery.is_finished());
    cluster.world.hold(false);
    timeout(PATIENCE, delivery).await.unwrap().unwrap().unwrap();
    assert_eq!(cluster.world.values(TOPIC, 0), values(0..1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_buffer_gives_records_back_or_makes_them_wait() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    let client = cluster.client().connect().await.unwrap();
    let producer = client.producer().linger(Duration::ZERO).record_bytes_max(1_000);
    let producer = producer.buffer_bytes(1_000).build().await.unwrap();
    let topic = TopicName::new(TOPIC).unwrap();
    assert!(matches!(producer.try_enqueue(record(0)), Err(TryEnqueueError::NotReady(_))));
    producer.warm_up(&topic).await.unwrap();
    cluster.world.hold(true);
    let mut taken = 0;
    let full = loop {
        match producer.try_enqueue(record(taken)) {
            Ok(_) => taken += 1,
            Err(full) => break full,
        }
    };
    assert!((20..40).contains(&taken), "{taken}");
    let TryEnqueueError::Full(back) = full else { panic!("{full}") };
    let waiting = tokio::spawn({
        let producer = producer.clone();
        async move { producer.send(*back).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    cluster.world.hold(false);
    let written = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(written.offset, Offset(taken as u64));
    assert_eq!(cluster.world.values(TOPIC, 0), values(0..taken + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_buffer_is_an_error_in_the_end() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    let client = cluster.client().connect().await.unwrap();
    let producer = client.producer().record_bytes_max(100).buffer_bytes(100);
    let producer = producer.buffer_timeout(Duration::from_millis(50)).build().await.unwrap();
    cluster.world.hold(true);
    let delivery = producer.enqueue(record(0).value(vec![0; 50])).await.unwrap();
    let error = producer.enqueue(record(1).value(vec![0; 50])).await.unwrap_err();
    assert!(matches!(error.failure(), ProduceFailure::BufferFull { .. }), "{error}");
    assert!(!error.maybe_written() && error.is_retriable());
    let error = producer.enqueue(record(1).value(vec![0; 90])).await.unwrap_err();
    assert!(matches!(error.failure(), ProduceFailure::TooLarge { .. }), "{error}");
    cluster.world.hold(false);
    timeout(PATIENCE, delivery).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_times_out_and_tells_what_may_be_written() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    let client = cluster.client().connect().await.unwrap();
    let producer = client.producer().linger(Duration::ZERO).in_flight_max(1);
    let producer = producer.delivery_timeout(Duration::from_millis(400)).build().await.unwrap();
    write(&producer, 0..1).await;
    cluster.world.hold(true);
    let sent = producer.enqueue(record(1)).await.unwrap();
    cluster.world.wait(|state| state.topics[TOPIC].partitions[0].next_offset == 2).await;
    let unsent = producer.enqueue(record(2)).await.unwrap();
    let sent = timeout(PATIENCE, sent).await.unwrap().unwrap_err();
    let unsent = timeout(PATIENCE, unsent).await.unwrap().unwrap_err();
    assert!(matches!(sent.failure(), ProduceFailure::TimedOut { .. }), "{sent}");
    assert!(sent.maybe_written() && sent.is_retriable() && !sent.is_fatal());
    assert!(matches!(unsent.failure(), ProduceFailure::TimedOut { .. }), "{unsent}");
    assert!(!unsent.maybe_written());
    cluster.world.hold(false);
    write(&producer, 3..5).await;
    assert_eq!(cluster.world.values(TOPIC, 0), ["0", "1", "3", "4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_a_leader_times_out_as_not_written() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    cluster.world.change(|state| state.partition(TOPIC, 0).unwrap().leader = 0);
    let client = cluster.client().connect().await.unwrap();
    let producer = client.producer().delivery_timeout(Duration::from_millis(300));
    let error = producer.build().await.unwrap().send(record(0)).await.unwrap_err();
    assert!(matches!(error.failure(), ProduceFailure::TimedOut { .. }), "{error}");
    assert!(!error.maybe_written());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_fails_alone() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    let client = cluster.client().connect().await.unwrap();
    // One record a batch, all of them on their way before the first is refused.
    let producer = client.producer().linger(Duration::from_millis(50)).batch_bytes(1);
    let producer = producer.build().await.unwrap();
    write(&producer, 0..1).await;
    let refused = Error::new(ErrorCode::InvalidRecord, "not this one");
    cluster.world.plant(TOPIC, 0, [Fault::Pass, Fault::Refuse(refused)]);
    let outcomes = producer.send_all((1..10).map(record)).await;
    let error = outcomes[1].as_ref().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidRecord));
    assert!(!error.maybe_written() && !error.is_retriable());
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1, "{outcomes:?}");
    let expected = ["0", "1", "3", "4", "5", "6", "7", "8", "9"];
    assert_eq!(cluster.world.values(TOPIC, 0), expected);
    assert_eq!(cluster.world.state().epochs_taken, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_producer_takes_a_new_epoch() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    let producer = producer(&cluster).await;
    write(&producer, 0..10).await;
    cluster.world.change(|state| state.partition(TOPIC, 0).unwrap().producers.clear());
    write(&producer, 10..20).await;
    assert_eq!(cluster.world.values(TOPIC, 0), values(0..20));
    assert_eq!(cluster.world.state().epochs_taken, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_producer_does_not_guess_about_what_may_be_written() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    let producer = producer(&cluster).await;
    write(&producer, 0..1).await;
    cluster.world.hold(true);
    let delivery = producer.enqueue(record(1)).await.unwrap();
    cluster.world.wait(|state| state.topics[TOPIC].partitions[0].next_offset == 2).await;
    let unknown = Error::new(ErrorCode::UnknownProducerId, "who is that");
    cluster.world.change(|state| {
        let partition = state.partition(TOPIC, 0).unwrap();
        partition.faults.extend([Fault::Refuse(unknown)]);
        partition.leader = 1;
        state.frozen.insert(1);
    });
    // The answer is lost for good: the broker comes back and knows nothing of the stream.
    cluster.world.change(|state| {
        state.partition(TOPIC, 0).unwrap().epoch += 1;
        state.holding = false;
        state.frozen.clear();
    });
    // Whichever way it went, it was written once.
    let outcome = timeout(PATIENCE, delivery).await.unwrap();
    assert!(outcome.map_or_else(|error| error.maybe_written(), |_| true));
    write(&producer, 2..4).await;
    assert_eq!(cluster.world.values(TOPIC, 0), values(0..4));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_or_partition_is_told_at_once() {
    let cluster = Cluster::start(3);
    cluster.world.create(TOPIC, 1);
    let producer = producer(&cluster).await;
    let began = Instant::now();
    let error = producer.send(Record::to("nothing")).await.unwrap_err();
    assert_eq!(error.to_string(), "topic nothing does not exist");
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
    assert!(began.elapsed() < Duration::from_secs(2));
    let error = producer.send(record(0).partition(PartitionId(7))).await.unwrap_err();
    assert_eq!(error.to_string(), "topic orders has 1 partitions, none of them is 7");
    let error = producer.send(Record::to("no/topic")).await.unwrap_err();
    assert!(error.to_string().contains("only a-z"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_created_anew_is_another_topic() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    let producer = producer(&cluster).await;
    write(&producer, 0..3).await;
    cluster.world.create(TOPIC, 2);
    let error = producer.send(record(3)).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition), "{error}");
    write(&producer, 4..6).await;
    assert_eq!(cluster.world.values(TOPIC, 0), values(4..6));
}

/// What is begun again begins at sequence 0: under the old identity it would pass for a duplicate of
/// what was written first.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_seemed_gone_is_written_under_a_new_identity() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    let producer = producer(&cluster).await;
    write(&producer, 0..1).await;
    let topic = cluster.world.change(|state| state.topics.remove(TOPIC).unwrap());
    let error = timeout(PATIENCE, producer.send(record(1))).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition), "{error}");
    assert!(!error.maybe_written());
    cluster.world.change(|state| state.topics.insert(TOPIC.to_owned(), topic));
    write(&producer, 2..5).await;
    assert_eq!(cluster.world.values(TOPIC, 0), ["0", "2", "3", "4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_keep_below_the_topics_limit() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    cluster.world.change(|state| {
        let topic = state.topics.get_mut(TOPIC).unwrap();
        topic.configs.insert("max.message.bytes".to_owned(), "300".to_owned());
    });
    let client = cluster.client().connect().await.unwrap();
    let producer = client.producer().build().await.unwrap();
    write(&producer, 0..200).await;
    let mut state = cluster.world.state();
    let log = &state.partition(TOPIC, 0).unwrap().log;
    assert!(log.len() > 5 && log.iter().all(|(_, batch)| batch.len() <= 300));
}

#[tokio::test(flavor = "multi_thread")]
async fn close_flushes_and_takes_no_more() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    let client = cluster.client().connect().await.unwrap();
    // Nothing would go for a minute, but for the flush.
    let producer = client.producer().linger(Duration::from_secs(60)).build().await.unwrap();
    let delivery = producer.enqueue(record(0)).await.unwrap();
    timeout(PATIENCE, producer.flush()).await.unwrap().unwrap();
    assert!(delivery.outcome().is_some());
    let other = producer.clone();
    let delivery = producer.enqueue(record(1)).await.unwrap();
    timeout(PATIENCE, producer.close(PATIENCE)).await.unwrap().unwrap();
    delivery.await.unwrap();
    let error = other.send(record(2)).await.unwrap_err();
    assert!(matches!(error.failure(), ProduceFailure::Closed) && error.is_fatal());
    assert_eq!(cluster.world.values(TOPIC, 0), values(0..2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_that_runs_out_of_time_tells_what_may_be_written() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    let client = cluster.client().connect().await.unwrap();
    let producer = client.producer().linger(Duration::ZERO).in_flight_max(1);
    let producer = producer.build().await.unwrap();
    cluster.world.hold(true);
    let sent = producer.enqueue(record(0)).await.unwrap();
    cluster.world.wait(|state| state.topics[TOPIC].partitions[0].next_offset == 1).await;
    let unsent = producer.enqueue(record(1)).await.unwrap();
    let error = producer.close(Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error.failure(), ProduceFailure::Closed), "{error}");
    let sent = timeout(PATIENCE, sent).await.unwrap().unwrap_err();
    let unsent = timeout(PATIENCE, unsent).await.unwrap().unwrap_err();
    assert!(sent.maybe_written() && !unsent.maybe_written());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_producer_leaves_no_delivery_waiting() {
    let cluster = Cluster::start(1);
    cluster.world.create(TOPIC, 1);
    let producer = producer(&cluster).await;
    cluster.world.hold(true);
    let delivery = producer.enqueue(record(0)).await.unwrap();
    drop(producer);
    let error = timeout(PATIENCE, delivery).await.unwrap().unwrap_err();
    assert!(matches!(error.failure(), ProduceFailure::Closed), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_go_by_kafkas_names() {
    let cluster = Cluster::start(1);
    let client = cluster.client().connect().await.unwrap();
    let built = client.producer().set("linger.ms", "7").set("compression.type", "zstd").build();
    assert!(built.await.is_ok());
    let refused = [
        ("linger.ms", "soon", "linger.ms=\"soon\": is not a whole number from 0"),
        ("acks", "1", "acks=\"1\": must be all: an ack means a quorum"),
        ("batch.size", "0", "batch.size=\"0\": must be 1 to 1048576"),
        ("no.such", "1", "no.such=\"1\": is not a setting of a producer"),
    ];
    for (key, value, message) in refused {
        let error = client.producer().set(key, value).build().await.unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}
