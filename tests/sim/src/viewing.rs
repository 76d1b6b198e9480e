//! A compacted topic: a client that writes the same keys again and again, and one that reads all of it
//! from the start, over and over.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tidelog_client::admin::NewTopic;
use tidelog_client::{Client, Position, Producer, ReadError, Record, TopicName, Until};
use tokio::time::{sleep, timeout};

use crate::cluster::REPLICAS;
use crate::dice::Dice;
use crate::invariants::views_hold_the_newest::{self as newest, Known, Seen};
use crate::workload::{DELIVERY, Failure, LOOK, Stage, now};

/// The compacted topic, of one partition.
pub(crate) const VIEW: &str = "views";

/// Keys that are written at a time.
const KEYS: u64 = 12;

/// After so many records a key is left behind for good: its newest record comes to lie where compaction
/// reaches, and must stay there.
const RECORDS_PER_KEY: u64 = 25;

/// How long a reader of all may take once everything is healed.
const READ_WITHIN: Duration = Duration::from_secs(20);

impl Stage {
    /// Writes keys, each at most once at a time, so that it is known which value is its newest.
    pub(crate) async fn write_views(self) -> Result<(), Failure> {
        self.opened().await;
        let client = self.client("view-writer").await;
        let mut dice = Dice::new(self.plan.seed, "view-writer");
        self.create_view(&client, &mut dice).await?;
        let (mut known, mut sent) = (Known::new(), BTreeSet::new());
        let mut number = 0;
        while now() < self.plan.end {
            let producer = client.producer().delivery_timeout(DELIVERY);
            let Ok(Ok(producer)) = timeout(DELIVERY, producer.build()).await else { continue };
            while now() < self.plan.end {
                let round = self.view_round(&producer, &mut number, &mut sent, &mut dice).await;
                let goes_on = round.iter().all(|(_, _, is_acked)| *is_acked);
                for (key, value, is_acked) in round {
                    newest::note(&mut known, key, value, is_acked);
                }
                if !goes_on {
                    break;
                }
                sleep(dice.ms(20..120)).await;
            }
        }
        let read = timeout(READ_WITHIN, read_view(&client)).await;
        match read {
            Ok(Ok(seen)) => {
                self.trace.line(format_args!("view-writer read {} of {number}", seen.len()));
                let mut history = self.history.lock();
                history.viewed = Some((number, seen.len() as u64));
                drop(history);
                let found = newest::check(&known, &sent, &seen);
                self.history.note("views_hold_the_newest", found);
            }
            Ok(Err(err)) => self.history.violated("views_are_readable", err.to_string()),
            Err(_) => self.history.violated("views_are_readable", "not in time".to_owned()),
        }
        Ok(())
    }

    async fn create_view(&self, client: &Client, dice: &mut Dice) -> Result<(), Failure> {
        let topic: TopicName = VIEW.parse()?;
        let ratio = dice.pick(&["0", "0.3", "0.5"]);
        let stay = dice.pick(&["0", "1000", "8000"]);
        let new = || {
            let new = NewTopic::new(topic.clone()).partitions(1).replication_factor(REPLICAS);
            let new = new.config("cleanup.policy", "compact").config("segment.bytes", "4096");
            let new = new.config("min.cleanable.dirty.ratio", ratio);
            new.config("delete.retention.ms", stay).config("segment.ms", "4000")
        };
        loop {
            let created = client.admin().create_topics([new()]).await;
            match created.map(|all| all.into_iter().next()) {
                Ok(Some((_, Ok(_)))) => return Ok(()),
                // An earlier try whose answer was lost.
                Ok(Some((_, Err(err)))) if err.to_string().contains("exists") => return Ok(()),
                other => self.trace.line(format_args!("view-writer not created: {other:?}")),
            }
            sleep(LOOK).await;
        }
    }

    /// Writes some keys at once: each with its value, and whether it was acked.
    async fn view_round(
        &self,
        producer: &Producer,
        number: &mut u64,
        sent: &mut BTreeSet<String>,
        dice: &mut Dice,
    ) -> Vec<(String, Option<String>, bool)> {
        let mut keys = BTreeSet::new();
        let first = *number / RECORDS_PER_KEY;
        for _ in 0..dice.within(1..6) {
            keys.insert(first + dice.within(0..KEYS));
        }
        let mut deliveries = FuturesUnordered::new();
        for key in keys {
            let key = format!("k{key}");
            let padding = dice.within(0..200) as usize;
            *number += 1;
            let value = dice.percent(75).then(|| format!("{number} {:.<padding$}|", ""));
            let record = Record::to(VIEW).key(key.clone());
            let record = match &value {
                Some(value) => {
                    sent.insert(value.clone());
                    record.value(value.clone())
                }
                None => record.tombstone(),
            };
            let delivery = producer.enqueue(record).await;
            deliveries.push(async move {
                let is_acked = match delivery {
                    Ok(delivery) => delivery.await.is_ok(),
                    Err(_) => false,
                };
                (key, value, is_acked)
            });
        }
        let mut round = Vec::new();
        while let Some(outcome) = deliveries.next().await {
            round.push(outcome);
        }
        round
    }

    /// Reads all of the view again and again, whatever happens to the cluster.
    pub(crate) async fn read_views(self) -> Result<(), Failure> {
        self.opened().await;
        let client = self.client("view-reader").await;
        while now() < self.plan.end {
            match timeout(READ_WITHIN, read_view(&client)).await {
                Ok(Ok(seen)) => {
                    let found = newest::check_order(&seen);
                    self.history.note("views_are_in_order", found);
                    self.trace.line(format_args!("view-reader read {}", seen.len()));
                }
                Ok(Err(err)) => match err.downcast::<ReadError>() {
                    Ok(err) => self.refused("view-reader", &err),
                    Err(err) => self.trace.line(format_args!("view-reader {err}")),
                },
                Err(_) => self.trace.line(format_args!("view-reader found no time")),
            }
            sleep(LOOK * 10).await;
        }
        Ok(())
    }
}

/// All of the view, from the start to the end that it has now.
async fn read_view(client: &Client) -> Result<Seen, Failure> {
    let reader = client.reader().topic(VIEW, Position::Earliest).until(Until::End);
    let mut reader = reader.build().await?;
    let mut seen = Seen::new();
    while let Some(record) = reader.recv().await? {
        let key = String::from_utf8(record.key.unwrap_or_default().to_vec())?;
        let value = record.value.map(|value| String::from_utf8(value.to_vec())).transpose()?;
        seen.push((record.offset.0, key, value));
    }
    Ok(seen)
}
