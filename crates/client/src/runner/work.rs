//! One piece of work: records that go to the handler together.

use std::sync::Arc;

use tidelog_types::TopicPartition;

use super::RunError;
use super::attempts::{Death, Rules, Verdict};
use super::dead_letter::Morgue;
use super::flight::{Flight, Pass};
use super::handler::Call;
use crate::{Clock, ConsumerRecord};

/// Records of one partition that go to the handler together; at least one.
#[derive(Debug)]
pub(super) struct Work {
    records: Vec<ConsumerRecord>,
    bytes: usize,
}

impl Work {
    pub(super) fn new(records: Vec<ConsumerRecord>) -> Self {
        assert!(!records.is_empty(), "work without records");
        let bytes = records.iter().map(|record| {
            let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
            length(&record.key) + length(&record.value)
        });
        Self { bytes: bytes.sum(), records }
    }

    pub(super) fn partition(&self) -> TopicPartition {
        let first = &self.records[0];
        TopicPartition { topic: first.topic.clone(), partition: first.partition }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What all workers of a runner share.
pub(super) struct Shared {
    pub(super) rules: Rules,
    pub(super) flight: Flight,
    pub(super) call: Call,
    pub(super) morgue: Morgue,
    pub(super) clock: Arc<dyn Clock>,
}

impl Shared {
    /// Has records handled, or puts aside those that cannot be.
    pub(super) async fn work(&self, work: &Work) -> Result<(), RunError> {
        let death = match self.attempt(&work.records).await {
            Verdict::Dead(death) => death,
            Verdict::Done | Verdict::Dropped => return Ok(()),
        };
        if let [record] = &work.records[..] {
            return self.bury(record, &death).await;
        }
        // One of them is to blame: find out which.
        for record in &work.records {
            match self.attempt(std::slice::from_ref(record)).await {
                Verdict::Done => {}
                Verdict::Dropped => return Ok(()),
                Verdict::Dead(death) => self.bury(record, &death).await?,
            }
        }
        Ok(())
    }

    async fn attempt(&self, records: &[ConsumerRecord]) -> Verdict {
        let call = || async {
            let copies = records.iter().map(|record| ConsumerRecord::clone(record).into_record());
            self.call.call(copies.collect()).await?;
            // Before the leave ends: when that is waited for, the marks are there.
            records.iter().for_each(ConsumerRecord::mark);
            self.rules.tally.handled(records.len());
            Ok(())
        };
        self.rules.attempt(&*self.clock, || self.enter(&records[0]), call).await
    }

    async fn bury(&self, record: &ConsumerRecord, death: &Death) -> Result<(), RunError> {
        let Some(_pass) = self.enter(record) else { return Ok(()) };
        self.morgue.admit(record, death).await?;
        record.mark();
        self.rules.tally.dead_lettered();
        Ok(())
    }

    /// Leave to go on with a record, unless it is somebody else's.
    fn enter(&self, record: &ConsumerRecord) -> Option<Pass> {
        let (topic, partition) = (record.topic.clone(), record.partition);
        let pass = self.flight.enter(&TopicPartition { topic, partition })?;
        record.is_held().then_some(pass)
    }
}
