//! What the brokers share: topics with their logs, leaders, and planted faults.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tidelog_client::{Offset, Timestamp};
use tidelog_proto::v1::{Error, LeaderHint};
use tidelog_types::{BrokerId, ErrorCode, batch};
use tokio::sync::watch;

use super::Group;

/// What goes wrong with the next batch of a partition.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is answered with this error, and not appended.
    Refuse(Error),
    /// It is appended, and the stream breaks before the answer.
    LoseAnswer,
    /// The stream breaks before it is appended.
    LoseRequest,
    /// It is appended, and answered with `REQUEST_TIMED_OUT`.
    AnswerUnknown,
    /// The partition gets another leader first, which the error names or not.
    Move { to: u32, hint: bool },
    /// Nothing goes wrong: a place holder in a script.
    Pass,
}

#[derive(Default)]
pub(crate) struct World {
    state: Mutex<State>,
    /// Raised whenever anything changes.
    pub(crate) changed: watch::Sender<u64>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) addresses: BTreeMap<u32, String>,
    pub(crate) topics: BTreeMap<String, Topic>,
    pub(crate) topics_made: u64,
    /// Brokers that take requests and never answer.
    pub(crate) frozen: BTreeSet<u32>,
    /// Brokers that take batches and hold the answers back.
    pub(crate) holding: bool,
    pub(crate) unformed: bool,
    /// So many creations are carried out, and their answers lost.
    pub(crate) creations_unanswered: u32,
    /// How often the cluster was asked for, which is also how a client asks for a sign of life.
    pub(crate) described: u32,
    pub(crate) controller: u32,
    /// So many look-ups of offsets fail for now.
    pub(crate) lookups_refused: u32,
    pub(crate) producer_next: i64,
    pub(crate) epochs_taken: u32,
    /// After so many more descriptions of topics this partition moves.
    pub(crate) elect_after: Option<(u32, String, usize, u32)>,
    /// So many descriptions of topics leave the last partition out: it is news to that broker.
    pub(crate) descriptions_behind: u32,
    /// The most bytes that were in flight to a reader.
    pub(crate) fetched_ahead_max: u64,
}

pub(crate) struct Topic {
    pub(crate) id: String,
    pub(crate) created: i64,
    pub(crate) configs: BTreeMap<String, String>,
    pub(crate) partitions: Vec<Partition>,
}

#[derive(Default)]
pub(crate) struct Partition {
    pub(crate) leader: u32,
    pub(crate) epoch: i32,
    pub(crate) log_start: u64,
    pub(crate) next_offset: u64,
    /// Stamped batches, each with its base offset.
    pub(crate) log: Vec<(u64, Bytes)>,
    pub(crate) producers: HashMap<i64, Producer>,
    /// As soon as the next reader was told where it begins, records begin here.
    pub(crate) trim_on_fetch: Option<u64>,
    pub(crate) faults: VecDeque<Fault>,
}

/// As a partition remembers a producer.
#[derive(Default)]
pub(crate) struct Producer {
    pub(crate) epoch: i16,
    pub(crate) last: VecDeque<(i32, u32, u64)>,
}

/// What an append came to.
pub(crate) struct Appended {
    pub(crate) base_offset: u64,
    pub(crate) duplicate: bool,
}

impl World {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes the world and tells whoever watches it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let value = change(&mut self.state());
        self.changed.send_modify(|version| *version += 1);
        value
    }

    pub(crate) fn register(&self, broker: u32, address: String) {
        self.change(|state| {
            state.addresses.insert(broker, address);
            state.controller = 1;
        });
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.state().addresses.values().cloned().collect()
    }

    pub(crate) fn address(&self, broker: u32) -> String {
        self.state().addresses[&broker].clone()
    }

    /// Partitions are led by brokers 1, 2, 3 … in turn.
    pub(crate) fn create(&self, topic: &str, partitions: u32) {
        self.change(|state| state.create(topic, partitions));
    }

    pub(crate) fn plant(
        &self,
        topic: &str,
        partition: usize,
        faults: impl IntoIterator<Item = Fault>,
    ) {
        self.change(|state| state.partition(topic, partition).unwrap().faults.extend(faults));
    }

    pub(crate) fn move_leader(&self, topic: &str, partition: usize, to: u32) {
        self.change(|state| state.move_leader(topic, partition, to));
    }

    pub(crate) fn freeze(&self, broker: u32) {
        self.change(|state| state.frozen.insert(broker));
    }

    pub(crate) fn hold(&self, hold: bool) {
        self.change(|state| state.holding = hold);
    }

    /// The values of a partition, in the order of its log.
    pub(crate) fn values(&self, topic: &str, partition: usize) -> Vec<String> {
        let mut state = self.state();
        let log = state.partition(topic, partition).unwrap().log.clone();
        let batches = log.iter().map(|(_, batch)| batch);
        let records = batches.flat_map(|batch| batch::records(batch, 1 << 30).unwrap());
        let values = records.map(|record| record.unwrap().value.unwrap());
        values.map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
    }

    /// Never returns while the broker is frozen.
    pub(crate) async fn thaw(&self, broker: u32) {
        self.wait(|state| !state.frozen.contains(&broker)).await;
    }

    /// Waits until the world is as wanted.
    pub(crate) async fn wait(&self, wanted: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        while !wanted(&self.state()) {
            changed.changed().await.unwrap();
        }
    }
}

impl State {
    pub(crate) fn create(&mut self, topic: &str, partitions: u32) {
        self.topics_made += 1;
        let id = format!("00000000-0000-4000-8000-{:012x}", self.topics_made);
        let (created, configs) = (self.topics_made as i64, BTreeMap::new());
        let made = Topic { id, created, configs, partitions: Vec::new() };
        self.topics.insert(topic.to_owned(), made);
        self.add_partitions(topic, partitions);
    }

    pub(crate) fn add_partitions(&mut self, topic: &str, more: u32) {
        let brokers = self.addresses.len() as u32;
        let partitions = &mut self.topics.get_mut(topic).unwrap().partitions;
        for _ in 0..more {
            let leader = partitions.len() as u32 % brokers + 1;
            partitions.push(Partition { leader, epoch: 1, ..Partition::default() });
        }
    }

    pub(crate) fn partition(&mut self, topic: &str, partition: usize) -> Option<&mut Partition> {
        self.topics.get_mut(topic)?.partitions.get_mut(partition)
    }

    pub(crate) fn move_leader(&mut self, topic: &str, partition: usize, to: u32) {
        let partition = self.partition(topic, partition).unwrap();
        (partition.leader, partition.epoch) = (to, partition.epoch + 1);
    }

    /// The error of `broker` when it does not lead.
    pub(crate) fn check_leader(
        &mut self,
        broker: u32,
        topic: &str,
        topic_id: &str,
        partition: usize,
    ) -> Result<(), Error> {
        let addresses = self.addresses.clone();
        let unknown = |code| Err(Error::new(code, format!("no {topic}/{partition} here")));
        let Some(found) = self.topics.get_mut(topic) else {
            return unknown(ErrorCode::UnknownTopicOrPartition);
        };
        if !topic_id.is_empty() && topic_id != found.id {
            return unknown(ErrorCode::UnknownTopicId);
        }
        let Some(found) = found.partitions.get(partition) else {
            return unknown(ErrorCode::UnknownTopicOrPartition);
        };
        if found.leader == broker {
            return Ok(());
        }
        let error = Error::new(ErrorCode::NotLeader, format!("broker {broker} does not lead"));
        let address = addresses.get(&found.leader).cloned();
        Err(error.with_leader(Some(LeaderHint::new(BrokerId(found.leader), address, found.epoch))))
    }
}

impl Partition {
    /// Appends as a partition does: checked, in sequence, and once.
    pub(crate) fn append(&mut self, bytes: &Bytes) -> Result<Appended, Error> {
        let limits = batch::Limits { batch_bytes_max: 1 << 21 };
        let info = batch::check(bytes, &limits)
            .map_err(|error| Error::new(error.error_code(), error.to_string()))?;
        let refuse = |code| Err(Error::new(code, "by its sequence"));
        let (first, count) = (info.base_sequence, info.count);
        if info.has_producer() {
            let epoch = info.producer_epoch.0;
            let known = self.producers.get(&info.producer_id.0);
            match known {
                None if first != 0 => return refuse(ErrorCode::UnknownProducerId),
                Some(known) if epoch < known.epoch => {
                    return refuse(ErrorCode::InvalidProducerEpoch);
                }
                Some(known) if epoch > known.epoch && first != 0 => {
                    return refuse(ErrorCode::OutOfOrderSequence);
                }
                Some(known) if epoch == known.epoch => {
                    let again = known.last.iter().find(|last| (last.0, last.1) == (first, count));
                    if let Some((.., base_offset)) = again {
                        return Ok(Appended { base_offset: *base_offset, duplicate: true });
                    }
                    let (base, records, _) = *known.last.back().unwrap();
                    if base + records as i32 != first {
                        return refuse(ErrorCode::OutOfOrderSequence);
                    }
                }
                _ => {}
            }
            let known = self.producers.entry(info.producer_id.0).or_default();
            if known.epoch != epoch {
                known.last.clear();
            }
            known.epoch = epoch;
            known.last.push_back((first, count, self.next_offset));
            if known.last.len() > 5 {
                known.last.pop_front();
            }
        }
        let base_offset = self.next_offset;
        let mut stamped = bytes.to_vec();
        batch::stamp_in_place(&mut stamped, Offset(base_offset), self.epoch);
        self.log.push((base_offset, stamped.into()));
        self.next_offset += u64::from(count);
        Ok(Appended { base_offset, duplicate: false })
    }
}

/// Puts records straight into a partition, in one batch.
pub(crate) fn fill(world: &World, topic: &str, partition: usize, values: &[(&str, i64)]) {
    let mut builder = batch::Builder::new();
    for (value, time) in values {
        let value = Some(value.as_bytes());
        let record =
            batch::NewRecord { value, timestamp: Timestamp(*time), ..batch::NewRecord::default() };
        builder.push(&record).unwrap();
    }
    let bytes = builder.finish(batch::Codec::None, None).unwrap();
    world.change(|state| {
        state.partition(topic, partition).unwrap().append(&bytes).map(drop).unwrap()
    });
}

/// A wait that no test should need.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
