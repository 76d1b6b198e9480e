//! The partitions of a topic, and which of them a record goes to.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tidelog_types::{PartitionId, TopicName, TopicPartition};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::accumulator::{Accumulator, Change};
use super::completion::{Completion, Delivery};
use super::partition::{Partition, Task};
use super::window::Identity;
use super::{Core, ProduceError, ProduceFailure, Record};
use crate::Error;
use crate::cluster::{TopicFacts, locked};

/// Why a record was not appended.
pub(super) enum Misfit {
    /// It never will be.
    Refused(ProduceError),
    /// The topic must be looked up first.
    UnknownTopic(TopicName, Box<Record>, OwnedSemaphorePermit),
    /// The record names a partition that the topic may have got by now.
    UnknownPartition(Error, Box<Record>, OwnedSemaphorePermit),
}

impl Misfit {
    pub(super) fn refused(reason: impl Into<ProduceFailure>) -> Self {
        Self::Refused(ProduceError::new(reason, false))
    }
}

/// A topic that records are written to.
pub(super) struct Topic {
    id: String,
    name: TopicName,
    identity: Identity,
    partitions: Vec<Arc<Partition>>,
    /// Where records without a key go for now.
    sticky: AtomicU32,
}

impl Topic {
    /// Starts a task for each partition.
    pub(super) fn start(
        core: &Arc<Core>,
        name: &TopicName,
        facts: &TopicFacts,
        identity: Identity,
    ) -> Self {
        let topic = Self {
            id: facts.id.clone(),
            name: name.clone(),
            identity,
            partitions: Vec::new(),
            sticky: AtomicU32::new(0),
        };
        topic.grown(core, facts)
    }

    /// The same topic with a task for each partition that it has got meanwhile.
    pub(super) fn grown(&self, core: &Arc<Core>, facts: &TopicFacts) -> Self {
        let (name, identity) = (&self.name, self.identity);
        let batch_bytes = core.config.batch_bytes;
        let batch_bytes = facts.batch_bytes_max.map_or(batch_bytes, |max| batch_bytes.min(max));
        let mut tasks = locked(&core.tasks);
        // Those of topics that are gone.
        while tasks.try_join_next().is_some() {}
        let present = self.partitions.len() as u32;
        let new = (present..facts.partitions).map(|partition| {
            let id = PartitionId(partition);
            let accumulator = Accumulator::new(name.clone(), id, batch_bytes);
            let (accumulator, changed) = (Mutex::new(accumulator), Notify::new());
            let partition = Arc::new(Partition { accumulator, changed });
            let name = TopicPartition { topic: name.clone(), partition: id };
            let (core, shared) = (Arc::clone(core), Arc::clone(&partition));
            tasks.spawn(Task::new(core, name, facts.id.clone(), shared, identity).run());
            partition
        });
        let partitions = self.partitions.iter().cloned().chain(new).collect();
        let topic = Self {
            id: self.id.clone(),
            name: self.name.clone(),
            identity,
            partitions,
            sticky: AtomicU32::new(0),
        };
        topic.move_on(core);
        topic
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn partitions(&self) -> u32 {
        self.partitions.len() as u32
    }

    pub(super) fn append(
        &self,
        core: &Core,
        record: &Record,
        room: OwnedSemaphorePermit,
    ) -> Result<Delivery, Misfit> {
        let partitions = self.partitions.len() as u32;
        let sticky = record.partition.is_none() && record.key.is_none();
        let chosen = match (record.partition, &record.key) {
            (Some(partition), _) => partition.0,
            (None, Some(_)) if partitions == 0 => 0,
            (None, Some(key)) => core.config.partitioner.partition(key, partitions),
            (None, None) => self.stick(core),
        };
        let Some(partition) = self.partitions.get(chosen as usize) else {
            let topic = self.name.clone();
            let partition = PartitionId(chosen);
            let error = Error::UnknownPartition { topic, partition, partitions };
            return Err(Misfit::UnknownPartition(error, Box::new(record.clone()), room));
        };
        let clock = &core.cluster.environment().clock;
        let appended = locked(&partition.accumulator).append(record, || clock.now(), room);
        let (delivery, change) = appended.map_err(Misfit::Refused)?;
        if change != Change::None {
            partition.changed.notify_one();
        }
        if sticky && change == Change::Closed {
            self.move_on(core);
        }
        Ok(delivery)
    }

    /// The partition for a record without a key: the same as long as its batch is open.
    fn stick(&self, core: &Core) -> u32 {
        let sticky = self.sticky.load(Ordering::Relaxed);
        let open = |partition: &Arc<Partition>| locked(&partition.accumulator).is_open();
        if self.partitions.get(sticky as usize).is_some_and(open) {
            return sticky;
        }
        self.move_on(core)
    }

    /// Chooses another sticky partition: of two at random the one that is less behind, so that a
    /// partition without a leader does not get everything.
    fn move_on(&self, core: &Core) -> u32 {
        let partitions = self.partitions.len() as u64;
        if partitions == 0 {
            return 0;
        }
        let random = core.cluster.environment().entropy.next();
        let (one, other) = (random % partitions, (random >> 32) % partitions);
        let backlog = |at: u64| {
            let partition = self.partitions.get(at as usize);
            partition.map_or(0, |partition| locked(&partition.accumulator).backlog())
        };
        let chosen = if backlog(other) < backlog(one) { other } else { one } as u32;
        self.sticky.store(chosen, Ordering::Relaxed);
        chosen
    }

    /// Closes the open batches; gives the outcomes that are still to come.
    pub(super) fn close_batches(&self) -> Vec<Arc<Completion>> {
        let partitions = self.partitions.iter();
        let pending = partitions.flat_map(|partition| {
            let mut accumulator = locked(&partition.accumulator);
            accumulator.close();
            partition.changed.notify_one();
            accumulator.pending()
        });
        pending.collect()
    }

    /// Gives up what has been collected.
    pub(super) fn end(&self) {
        for partition in &self.partitions {
            let closed = ProduceError::new(ProduceFailure::Closed, false);
            // Dropped, the batches tell their deliveries.
            drop(locked(&partition.accumulator).end(closed));
        }
    }
}
