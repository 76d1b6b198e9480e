//! A steady load of numbered records, with every ack on record.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tidelog_checker::{Event, Produced};
use tidelog_client::{Client, PartitionId, Record};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::TOPIC;
use super::recorder::{Clock, Recorder};

/// Records are sent in small heaps: a timer per record would measure the timer.
const HEAPS_PER_SECOND: u64 = 50;

/// A producer at work.
pub(super) struct Producing {
    stop: watch::Sender<bool>,
    task: JoinHandle<(Recorder, BTreeMap<u32, u64>)>,
}

impl Producing {
    /// Sends `rate` records a second, round the partitions.
    pub(super) async fn start(client: &Client, clock: Clock, partitions: u32, rate: u64) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let producer = client.producer().build().await.unwrap();
        let task = tokio::spawn(async move {
            let mut recorder = Recorder::new("producer");
            let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
            let mut acks = FuturesUnordered::new();
            let mut heaps = interval(Duration::from_secs(1) / HEAPS_PER_SECOND as u32);
            heaps.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut id = 0;
            loop {
                tokio::select! {
                    biased;
                    _ = stopped.changed() => break,
                    Some((id, partition, invoke, acked)) = acks.next() => {
                        let acked: Result<tidelog_client::RecordMetadata, _> = acked;
                        note(&mut recorder, &mut ends, clock, id, partition, invoke, acked.unwrap());
                    }
                    _ = heaps.tick() => {
                        for _ in 0..rate / HEAPS_PER_SECOND {
                            let partition = (id % u64::from(partitions)) as u32;
                            let record = Record::to(TOPIC)
                                .value(id.to_string())
                                .partition(PartitionId(partition));
                            let invoke = clock.now();
                            let delivery = producer.enqueue(record).await.unwrap();
                            let sent = id;
                            acks.push(async move { (sent, partition, invoke, delivery.await) });
                            id += 1;
                        }
                    }
                }
            }
            while let Some((id, partition, invoke, acked)) = acks.next().await {
                note(&mut recorder, &mut ends, clock, id, partition, invoke, acked.unwrap());
            }
            (recorder, ends)
        });
        Self { stop, task }
    }

    /// Stops and waits for every ack; gives the ends of the partitions.
    pub(super) async fn finish(self) -> (Recorder, BTreeMap<u32, u64>) {
        self.stop.send_replace(true);
        self.task.await.unwrap()
    }
}

fn note(
    recorder: &mut Recorder,
    ends: &mut BTreeMap<u32, u64>,
    clock: Clock,
    id: u64,
    partition: u32,
    invoke: u64,
    acked: tidelog_client::RecordMetadata,
) {
    let offset = acked.offset.0;
    let end = ends.entry(partition).or_default();
    *end = (*end).max(offset + 1);
    let at = clock.since(invoke);
    recorder.record(&Event::Produced(Produced { at, topic: TOPIC.into(), partition, offset, id }));
}
