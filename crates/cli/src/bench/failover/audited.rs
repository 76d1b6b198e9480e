//! Records that are known again, and the audit of all of them at the end.

use std::sync::Arc;

use bytes::Bytes;
use tidelog_client::{Client, PartitionId, Position, ReadRecord, RecordMetadata, Until};
use tokio::time::Instant;

use super::pulse::Pulse;
use crate::Failure;
use crate::audit::{Ack, Ledger, Read, RecordId, Verdict, fingerprint};
use crate::bench::payload::{Payloads, Stamp};
use crate::bench::source::Cargo;
use crate::bench::topic::Topic;
use crate::bench::verify::next_batch;

/// The partition whose leader is lost.
const VICTIM: PartitionId = PartitionId(0);

/// What makes the records of this run.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) id: u64,
    pub(super) payloads: Payloads,
}

impl Run {
    /// What one client sends.
    pub(super) fn cargo(&self, client: u32, pulse: &Arc<Pulse>) -> Audited {
        let pulse = Arc::clone(pulse);
        Audited { client, run: self.clone(), pulse, sent: 0, acks: Vec::new() }
    }

    /// Reads the whole topic and compares.
    pub(super) async fn audit(
        &self,
        client: &Client,
        topic: &Topic,
        mut cargo: Vec<Audited>,
    ) -> Result<Verdict, Failure> {
        cargo.sort_by_key(|cargo| cargo.client);
        let mut ledger = Ledger::default();
        for cargo in cargo {
            ledger.sent.push(cargo.sent);
            ledger.acks.extend(cargo.acks);
        }
        let reader = client.reader().topic(topic.name.clone(), Position::Earliest);
        let mut reader = reader.until(Until::End).build().await?;
        while let Some(records) = next_batch(&mut reader).await? {
            ledger.reads.extend(records.iter().map(|record| self.reduce(record)));
        }
        Ok(ledger.check(|id| hash(&self.value(id))))
    }

    fn value(&self, id: RecordId) -> Bytes {
        let stamp = Stamp { run: self.id, client: id.producer, number: id.sequence };
        stamp.on(&self.payloads)
    }

    fn reduce(&self, record: &ReadRecord) -> Read {
        let value = record.value.as_deref().unwrap_or_default();
        let stamp = Stamp::read(value).filter(|stamp| stamp.run == self.id);
        let id = stamp
            .map(|Stamp { client, number, .. }| RecordId { producer: client, sequence: number });
        let (partition, offset) = (record.partition, record.offset);
        // The records have no keys: all of a partition count as of one.
        Read { partition, offset, id, key: u64::from(partition.0), hash: hash(value) }
    }
}

fn hash(value: &[u8]) -> u64 {
    fingerprint(&[value])
}

/// One client's records, and every ack of them.
#[derive(Debug)]
pub(super) struct Audited {
    client: u32,
    run: Run,
    pulse: Arc<Pulse>,
    sent: u64,
    acks: Vec<Ack>,
}

impl Cargo for Audited {
    fn value(&mut self, number: u64) -> Bytes {
        self.sent = number + 1;
        self.run.value(RecordId { producer: self.client, sequence: number })
    }

    fn acked(&mut self, number: u64, from: Instant, at: &RecordMetadata) {
        let id = RecordId { producer: self.client, sequence: number };
        let completed_us = self.pulse.now_us();
        if at.partition == VICTIM {
            self.pulse.ack(completed_us);
        }
        self.acks.push(Ack {
            id,
            partition: at.partition,
            offset: at.offset,
            hash: hash(&self.run.value(id)),
            invoked_us: self.pulse.us_of(from.into_std()),
            completed_us,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_known_again_and_foreign_ones_are_not() {
        let run = Run { id: 9, payloads: Payloads::random(64) };
        let id = RecordId { producer: 1, sequence: 70 };
        let stamp = Stamp::read(&run.value(id)).unwrap();
        assert_eq!((stamp.run, stamp.client, stamp.number), (9, 1, 70));
        assert_eq!(run.value(id), run.value(id));
        assert_ne!(hash(&run.value(id)), hash(&run.value(RecordId { sequence: 71, ..id })));
    }
}
