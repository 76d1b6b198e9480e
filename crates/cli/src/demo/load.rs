//! Producers of order events that write every ack down: the demo's, and the end-to-end tests'.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tidelog_client::{Client, PartitionId, ProduceError, Producer, Record, RecordMetadata};
use tokio::task::JoinSet;

use super::Error;
use super::order::Orders;
use super::tide::Tide;
use crate::audit::file::AckWriter;
use crate::audit::{Ack, RecordId};

/// What to produce.
#[derive(Clone, Debug)]
pub struct LoadSetup {
    /// Brokers to begin with.
    pub bootstrap: Vec<String>,
    /// The topic; it exists.
    pub topic: String,
    /// Its number of partitions.
    pub partitions: u32,
    /// Producers, each with a client and connections of its own.
    pub producers: u32,
    /// Records of all producers together; `None` goes on until [`Load::finish`].
    pub records: Option<u64>,
    /// Records that one producer has sent and not got acked, at most.
    pub in_flight_max: usize,
    /// The pause of each producer after each send; zero to go as fast as acks come.
    pub pause: Duration,
    /// What the orders are made from.
    pub seed: u64,
    /// Where the ack files go.
    pub dir: PathBuf,
}

impl LoadSetup {
    /// The share of one producer.
    fn records_of(&self, producer: u32) -> u64 {
        let Some(records) = self.records else { return u64::MAX };
        let producers = u64::from(self.producers);
        records / producers + u64::from(u64::from(producer) < records % producers)
    }
}

/// Producers at work.
#[derive(Debug)]
pub struct Load {
    tide: Arc<Tide>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Result<(), Error>>,
}

impl Load {
    /// Starts the producers; each is connected before this returns.
    ///
    /// # Errors
    /// No connection, or an ack file that cannot be created.
    pub async fn start(setup: LoadSetup) -> Result<Self, Error> {
        let mut connected = Vec::new();
        for number in 0..setup.producers {
            let client = connect(&setup.bootstrap, &format!("orders-{number}")).await?;
            connected.push((number, client.producer().build().await?));
        }
        // Time begins when all are connected: neither is the first done before the last begins.
        let tide = Arc::new(Tide::new(setup.partitions));
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for (number, producer) in connected {
            let acks = AckWriter::create(&setup.dir, number, setup.seed).map_err(Error::acks)?;
            let source = Source {
                number,
                producer,
                acks,
                orders: Orders::new(setup.seed),
                topic: setup.topic.clone(),
                records: setup.records_of(number),
                in_flight_max: setup.in_flight_max,
                pause: setup.pause,
                tide: Arc::clone(&tide),
                stop: Arc::clone(&stop),
            };
            tasks.spawn(source.run());
        }
        Ok(Self { tide, stop, tasks })
    }

    /// How far it has come.
    #[must_use]
    pub fn tide(&self) -> &Arc<Tide> {
        &self.tide
    }

    /// Whether every producer has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.tide.ended_producers() == self.tasks.len() as u64
    }

    /// Ends the load: no new record is sent, and every ack still due is awaited.
    ///
    /// # Errors
    /// A producer that could not go on or not write its acks down.
    pub async fn finish(mut self) -> Result<(), Error> {
        self.stop.store(true, Ordering::Relaxed);
        self.join().await
    }

    /// Waits until a load with a number of records has sent them all and every ack is there.
    ///
    /// # Errors
    /// A producer that could not go on or not write its acks down.
    pub async fn join(&mut self) -> Result<(), Error> {
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a producer task neither panics nor is aborted")?;
        }
        Ok(())
    }
}

/// Connects a client of the demo's.
///
/// # Errors
/// No broker answers.
pub async fn connect(bootstrap: &[String], client_id: &str) -> Result<Client, Error> {
    Ok(Client::builder(bootstrap).client_id(client_id).connect().await?)
}

/// One producer and the file of its acks.
struct Source {
    number: u32,
    producer: Producer,
    acks: AckWriter,
    orders: Orders,
    topic: String,
    records: u64,
    in_flight_max: usize,
    pause: Duration,
    tide: Arc<Tide>,
    stop: Arc<AtomicBool>,
}

/// What is remembered of a record on its way.
struct Sent {
    id: RecordId,
    user: u32,
    hash: u64,
    bytes: u64,
    invoked_us: u64,
    /// Where it is counted as in flight: `None` until its user's partition is known.
    counted: Option<PartitionId>,
}

impl Source {
    async fn run(mut self) -> Result<(), Error> {
        let produced = self.produce().await;
        self.tide.end_producer();
        let sent = produced?;
        self.acks.finish(sent).map_err(Error::acks)
    }

    /// Sends and collects in one task: acks are taken as they come, whatever partition is behind.
    async fn produce(&mut self) -> Result<u64, Error> {
        let mut due = FuturesUnordered::new();
        let mut sequence = 0;
        loop {
            while let Some(Some(ended)) = due.next().now_or_never() {
                self.collect(ended)?;
            }
            if sequence == self.records || self.stop.load(Ordering::Relaxed) {
                break;
            }
            if due.len() >= self.in_flight_max {
                let ended = due.next().await.expect("something is in flight");
                self.collect(ended)?;
                continue;
            }
            let (record, sent) = self.next(RecordId { producer: self.number, sequence });
            sequence += 1;
            self.tide.send(sent.counted);
            match self.producer.enqueue(record).await {
                Ok(delivery) => due.push(async move { (sent, delivery.await) }),
                // Refused before it was sent: it counts as sent, and is never acked.
                Err(err) if !err.is_fatal() => self.tide.fail(sent.counted, &err),
                Err(err) => return Err(err.into()),
            }
            if !self.pause.is_zero() {
                tokio::time::sleep(self.pause).await;
            }
        }
        while let Some(ended) = due.next().await {
            self.collect(ended)?;
        }
        Ok(sequence)
    }

    fn next(&self, id: RecordId) -> (Record, Sent) {
        let order = self.orders.order(id);
        let sent = Sent {
            id,
            user: order.user,
            hash: order.fingerprint(),
            bytes: (order.key.len() + order.value.len()) as u64,
            invoked_us: self.tide.now_us(),
            counted: self.tide.home(order.user),
        };
        (Record::to(self.topic.as_str()).key(order.key).value(order.value), sent)
    }

    fn collect(
        &mut self,
        (sent, ended): (Sent, Result<RecordMetadata, ProduceError>),
    ) -> Result<(), Error> {
        let md = match ended {
            Ok(md) => md,
            Err(err) => {
                self.tide.fail(sent.counted, &err);
                return Ok(());
            }
        };
        let ack = Ack {
            id: sent.id,
            partition: md.partition,
            offset: md.offset,
            hash: sent.hash,
            invoked_us: sent.invoked_us,
            completed_us: self.tide.now_us(),
        };
        self.tide.ack(sent.user, md.partition, sent.counted, sent.bytes);
        // Written into the page cache: the file must survive brokers, not this machine.
        self.acks.append(&ack).map_err(Error::acks)
    }
}
