//! Sends records to all partitions in turn, as fast as acks come or when they are due.
//!
//! Without a rate each client sends as fast as its buffer empties. With a rate every record has a
//! moment at which it is due, and its latency counts from then on, so that a cluster that stalls is not
//! asked less (no coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tidelog_client::{Client, PartitionId, ProduceError, Producer, Record, RecordMetadata};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::options::share;
use super::pace::{Pace, TICK};
use super::topic::Topic;
use super::watched::Counter;
use crate::{Failure, chain};

/// What a client sends, and what becomes of it.
pub(super) trait Cargo: Send + 'static {
    /// The value of a record; they are numbered from zero, in the order of sending.
    fn value(&mut self, number: u64) -> Bytes;

    /// A record was acked. `from` is when it was due or, without a rate, sent.
    fn acked(&mut self, number: u64, from: Instant, at: &RecordMetadata);
}

/// When the records of one client are due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    begun: Instant,
    /// Records that are due with each heap; `None` as fast as acks come.
    per_heap: Option<f64>,
}

impl Schedule {
    /// The share of one of `clients` in `rate`, in records per second.
    pub(super) fn new(begun: Instant, rate: Option<u64>, clients: u32) -> Self {
        let per_heap = |rate| rate as f64 * TICK.as_secs_f64() / f64::from(clients);
        Self { begun, per_heap: rate.map(per_heap) }
    }

    /// When a record should be sent; `None` as soon as there is room for it.
    pub(super) fn due(&self, number: u64) -> Option<Instant> {
        let heaps = (number as f64 / self.per_heap?).floor();
        Some(self.begun + TICK.mul_f64(heaps))
    }
}

/// What all clients of a run send together.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) topic: Topic,
    /// Of all clients; `None` until [`Plan::stop`] is set.
    pub(super) records: Option<u64>,
    /// Records per second of all clients.
    pub(super) rate: Option<u64>,
    /// How long a producer waits for more records before it sends a batch; `None` as producers do.
    pub(super) linger: Option<Duration>,
    /// Is raised with every ack.
    pub(super) counter: Arc<Counter>,
    /// Ends it early: no new record is sent, and every ack still due is awaited.
    pub(super) stop: Arc<AtomicBool>,
}

impl Plan {
    pub(super) fn new(topic: &Topic) -> Self {
        Self {
            topic: topic.clone(),
            records: None,
            rate: None,
            linger: None,
            counter: Arc::default(),
            stop: Arc::default(),
        }
    }

    /// Starts a source for each client, with the cargo of its number.
    pub(super) async fn start<C: Cargo>(
        &self,
        clients: &[Client],
        mut cargo: impl FnMut(u32, Schedule) -> C,
    ) -> Result<Sources<C>, Failure> {
        let mut producers = Vec::new();
        for client in clients {
            let builder = client.producer();
            let builder = match self.linger {
                Some(linger) => builder.linger(linger),
                None => builder,
            };
            let producer = builder.build().await?;
            producer.warm_up(&self.topic.name).await.map_err(failed)?;
            producers.push(producer);
        }
        let of = producers.len() as u32;
        let schedule = Schedule::new(Instant::now(), self.rate, of);
        let pace = self.rate.map(|_| Pace::start(schedule.begun)).transpose()?;
        let mut sources = JoinSet::new();
        for (number, producer) in (0..).zip(producers) {
            let source = Source {
                number,
                producer,
                plan: self.clone(),
                records: self.records.map_or(u64::MAX, |records| share(records, of, number)),
                schedule,
                pace: pace.clone(),
                cargo: cargo(number, schedule),
            };
            sources.spawn(source.run());
        }
        Ok(Sources { sources, schedule })
    }
}

/// Sources at work; dropped they stop.
#[derive(Debug)]
pub(super) struct Sources<C> {
    sources: JoinSet<Result<C, Failure>>,
    schedule: Schedule,
}

impl<C: Cargo> Sources<C> {
    /// When each client's records are due.
    pub(super) fn schedule(&self) -> Schedule {
        self.schedule
    }

    /// Waits until every record is acked. Gives all cargo back, and how long it took.
    pub(super) async fn join(mut self) -> Result<(Vec<C>, Duration), Failure> {
        let mut all = Vec::new();
        while let Some(done) = self.sources.join_next().await {
            all.push(done.map_err(|err| Failure::new(format!("a producer panicked: {err}")))??);
        }
        Ok((all, self.schedule.begun.elapsed()))
    }
}

/// One producer's work.
struct Source<C> {
    number: u32,
    producer: Producer,
    plan: Plan,
    records: u64,
    schedule: Schedule,
    /// Where records have a time at which they are due.
    pace: Option<Pace>,
    cargo: C,
}

/// What is kept of a record on its way.
struct Sent {
    number: u64,
    from: Instant,
    bytes: u64,
}

type Outcome = (Sent, Result<RecordMetadata, ProduceError>);

impl<C: Cargo> Source<C> {
    async fn run(mut self) -> Result<C, Failure> {
        let mut acks = FuturesUnordered::new();
        let mut number = 0;
        while number < self.records && !self.plan.stop.load(Ordering::Relaxed) {
            let due = self.schedule.due(number);
            // Acks are taken while nothing is due: they must not wait for the next record.
            while let Some((due, pace)) = due.zip(self.pace.as_mut())
                && due > Instant::now()
            {
                tokio::select! {
                    biased;
                    Some(acked) = acks.next() => self.note(acked)?,
                    () = pace.until(due) => {}
                }
            }
            let (record, bytes) = self.record(number);
            let sent = Sent { number, from: due.unwrap_or_else(Instant::now), bytes };
            let delivery = loop {
                tokio::select! {
                    biased;
                    delivery = self.producer.enqueue(record.clone()) => break delivery.map_err(failed)?,
                    Some(acked) = acks.next() => self.note(acked)?,
                }
            };
            acks.push(async move { (sent, delivery.await) });
            number += 1;
        }
        while let Some(acked) = acks.next().await {
            self.note(acked)?;
        }
        Ok(self.cargo)
    }

    /// Clients begin with different partitions: at a rate they send at the same moments.
    fn record(&mut self, number: u64) -> (Record, u64) {
        let Topic { name, partitions } = &self.plan.topic;
        let partition = (number + u64::from(self.number)) % u64::from(*partitions);
        let value = self.cargo.value(number);
        let bytes = value.len() as u64;
        let record = Record::to(name.clone()).value(value).partition(PartitionId(partition as u32));
        (record, bytes)
    }

    fn note(&mut self, (sent, acked): Outcome) -> Result<(), Failure> {
        let at = acked.map_err(failed)?;
        self.plan.counter.add(1, sent.bytes);
        self.cargo.acked(sent.number, sent.from, &at);
        Ok(())
    }
}

/// What ends a measurement.
pub(super) fn failed(err: ProduceError) -> Failure {
    Failure::new(format!("a record was not written: {}", chain(&err)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_in_heaps_of_a_millisecond_and_at_the_rate() {
        let begun = Instant::now();
        let schedule = Schedule::new(begun, Some(4_000), 2);
        let due = |number| schedule.due(number).unwrap() - begun;
        assert_eq!([0, 1, 2, 3].map(|number| due(number).as_millis()), [0, 0, 1, 1]);
        assert_eq!(due(20_000), Duration::from_secs(10));
        let slow = Schedule::new(begun, Some(1), 1);
        assert_eq!(slow.due(3), Some(begun + Duration::from_secs(3)));
    }

    #[test]
    fn without_a_rate_nothing_is_due() {
        assert_eq!(Schedule::new(Instant::now(), None, 2).due(7), None);
    }
}
