//! Producers: idempotent, with several batches on their way, and retries over whatever is cut.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tidelog_client::{ProduceError, ProduceFailure, Producer, Record, RecordMetadata};
use tokio::time::{sleep, timeout};

use crate::dice::Dice;
use crate::history::Ack;
use crate::invariants::acks_are_durable_at_a_majority as durable;
use crate::workload::{DELIVERY, Failure, Stage, TOPIC, now};

/// Records that a producer sends in a second, at most, over all of its time: after an outage it sends
/// faster until it has caught up. More of the same would cost time that other seeds make better use of.
const RECORDS_PER_SECOND_MAX: u64 = 80;

/// One ack in so many is looked up on the disks.
const ACKS_PER_LOOK_UP: u64 = 8;

impl Stage {
    /// A producer, that is made anew when it is of no more use.
    pub(crate) async fn produce(self, number: u32) -> Result<(), Failure> {
        self.opened().await;
        let name = format!("producer-{number}");
        let client = self.client(&name).await;
        let mut dice = Dice::new(self.plan.seed, &name);
        let begun = now();
        let mut sent = 0;
        let mut life = 0;
        while now() < self.plan.end {
            let producer = client.producer().delivery_timeout(DELIVERY);
            let producer = producer.batch_bytes(self.plan.batch_bytes).linger(self.plan.linger);
            let Ok(Ok(producer)) = timeout(DELIVERY, producer.build()).await else { continue };
            life += 1;
            let id = u64::from(number) << 32 | life;
            while now() < self.plan.end
                && self.round(&producer, id, number, &mut sent, &mut dice).await
            {
                sleep(dice.ms(1..self.plan.pause_ms_max) + self.plan.lull(now())).await;
                let due = begun + Duration::from_millis(sent * 1_000 / RECORDS_PER_SECOND_MAX);
                sleep(due.saturating_sub(now())).await;
            }
        }
        self.done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    /// Sends some records at once; whether the producer can go on.
    async fn round(
        &self,
        producer: &Producer,
        id: u64,
        number: u32,
        sent: &mut u64,
        dice: &mut Dice,
    ) -> bool {
        let count = dice.within(1..self.plan.round_max + 1);
        let mut deliveries = FuturesOrdered::new();
        for _ in 0..count {
            let padding = dice.within(0..self.plan.value_bytes_max) as usize;
            let value = format!("p{number}-{sent}-{:.<padding$}|", "");
            *sent += 1;
            self.history.lock().sent.insert(value.clone());
            let record = Record::to(TOPIC).value(value.clone());
            let record = record.key(value[..value.len().min(8)].to_owned());
            let invoked = now();
            let delivery = producer.enqueue(record).await;
            deliveries.push_back(async move {
                let outcome = match delivery {
                    Ok(delivery) => delivery.await,
                    Err(err) => Err(err),
                };
                (value, invoked, now(), outcome)
            });
        }
        let mut goes_on = true;
        // In the order of the sends, which is the order in which acks are noted.
        while let Some((value, invoked, completed, outcome)) = deliveries.next().await {
            match outcome {
                Ok(at) => {
                    let place = (at.partition, at.offset);
                    self.acked(number, &value, &at, dice);
                    let ack = Ack { value, producer: id, place, invoked, completed };
                    self.history.lock().ack(ack);
                }
                Err(err) => {
                    self.failed(number, &value, &err);
                    goes_on &= !err.is_fatal();
                }
            }
        }
        goes_on
    }

    fn acked(&self, number: u32, value: &str, at: &RecordMetadata, dice: &mut Dice) {
        let place = (at.partition, at.offset);
        self.trace.line(format_args!("producer-{number} acked {place:?}"));
        if dice.within(0..ACKS_PER_LOOK_UP) == 0
            && let Err(what) = durable::check(&self.disks_left(), at.partition, value)
        {
            self.history.violated("acks_are_durable_at_a_majority", what);
        }
    }

    /// A producer retries by itself: only time may end that, and a partition never forgets it.
    fn failed(&self, number: u32, value: &str, err: &ProduceError) {
        self.trace.line(format_args!("producer-{number} not acked: {err}"));
        if !matches!(err.failure(), ProduceFailure::TimedOut { .. }) {
            let what = format!(
                "{value:?} at {:?}: {err}",
                Duration::from_millis(now().as_millis() as u64)
            );
            self.history.violated("sends_fail_by_time_alone", what);
        }
    }
}
