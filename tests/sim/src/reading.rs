//! Readers: one follows the topic, one comes and asks for what has just been acked.

use std::time::Duration;

use tidelog_client::{Client, PartitionId, Position, ReadError, Until};
use tokio::time::{sleep, timeout};

use crate::dice::Dice;
use crate::history::Place;
use crate::invariants::{one_value_per_offset, readers_skip_nothing, reads_are_fresh};
use crate::workload::{DELIVERY, Failure, LOOK, Stage, TOPIC, now};

/// How long a reader that wants one record waits for it. A cluster in trouble may take longer; then
/// the next one asks.
const GLANCE: Duration = Duration::from_secs(10);

impl Stage {
    /// A reader that follows the topic, and begins anew when it is told that it cannot go on.
    pub(crate) async fn read(self) -> Result<(), Failure> {
        self.opened().await;
        let client = self.client("reader").await;
        while now() < self.plan.end {
            let reader = client.reader().topic(TOPIC, Position::Earliest).build();
            let Ok(Ok(mut reader)) = timeout(DELIVERY, reader).await else { continue };
            let mut next = readers_skip_nothing::Next::default();
            while now() < self.plan.end {
                match timeout(LOOK * 20, reader.recv()).await {
                    Ok(Ok(Some(record))) => {
                        let value = record.value.unwrap_or_default();
                        let value = String::from_utf8(value.to_vec())?;
                        let place = (record.partition, record.offset);
                        self.history.note("readers_skip_nothing", next.check(place));
                        self.was_read(place, value);
                    }
                    Ok(Ok(None)) => return Err("a reader without end has ended".into()),
                    Ok(Err(err)) => {
                        self.refused("reader", &err);
                        break;
                    }
                    Err(_) => {}
                }
            }
        }
        Ok(())
    }

    /// A reader that comes back again and again, and asks for the end of a partition: what had been
    /// acked before must be there, whoever answers.
    pub(crate) async fn glance(self) -> Result<(), Failure> {
        self.opened().await;
        let client = self.client("glancer").await;
        let mut dice = Dice::new(self.plan.seed, "glancer");
        while now() < self.plan.end {
            sleep(dice.ms(20..1_000)).await;
            let partition = PartitionId(dice.within(0..u64::from(self.plan.partitions)) as u32);
            let acked = self.history.lock().acked_last.get(&partition).cloned();
            let Some((place, value)) = acked else { continue };
            match timeout(GLANCE, self.look_for(&client, place)).await {
                Ok(Ok(found)) => {
                    let fresh = reads_are_fresh::check(place, &value, found.as_deref());
                    self.history.note("reads_are_fresh", fresh);
                }
                Ok(Err(err)) => self.trace.line(format_args!("glancer {err}")),
                Err(_) => self.trace.line(format_args!("glancer found no time for {place:?}")),
            }
        }
        Ok(())
    }

    /// The record at `place`; `None` when the partition ends before it.
    async fn look_for(&self, client: &Client, place: Place) -> Result<Option<String>, Failure> {
        let (partition, offset) = place;
        let reader = client.reader().partition(TOPIC, partition, Position::Offset(offset));
        let mut reader = reader.until(Until::End).build().await?;
        match reader.recv().await {
            Ok(Some(record)) if record.offset == offset => {
                Ok(Some(String::from_utf8(record.value.unwrap_or_default().to_vec())?))
            }
            Ok(Some(record)) => Ok(Some(format!("offset {}", record.offset))),
            Ok(None) => Ok(None),
            Err(err) => {
                self.refused("glancer", &err);
                Err(err.into())
            }
        }
    }

    /// Nothing is ever trimmed here, so no offset that was read or acked is out of range; and a client
    /// checks what it is sent.
    pub(crate) fn refused(&self, reader: &str, err: &ReadError) {
        self.trace.line(format_args!("{reader} {err}"));
        let broken = match err {
            ReadError::OffsetOutOfRange { .. } => "reads_are_fresh",
            ReadError::Gap { .. } => "readers_skip_nothing",
            ReadError::Corrupt { .. } => "nothing_corrupt_is_served",
            _ => return,
        };
        self.history.violated(broken, format!("{reader}: {err}"));
    }

    pub(crate) fn was_read(&self, place: Place, value: String) {
        let outcome = one_value_per_offset::check(&mut self.history.lock().read, place, value);
        self.history.note("one_value_per_offset", outcome);
    }
}
