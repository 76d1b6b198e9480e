//! What a consumer, its streams and its tasks share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use tidelog_types::{Offset, TopicPartition};
use tokio::sync::{Notify, mpsc, watch};

use super::builder::Config;
use super::event::{Announce, Event};
use super::membership::Target;
use super::reading::Reading;
use super::{ConsumeError, RebalanceListener};
use crate::cluster::{Cluster, locked};
use crate::fetch::{Credit, Fetcher, Source};
use crate::group::Calls;
use crate::{Error, Position};

/// What a consumer, its streams and its tasks share. Only the membership task changes what is held.
pub(super) struct Core {
    pub(super) cluster: Arc<Cluster>,
    pub(super) config: Config,
    pub(super) calls: Calls,
    pub(super) listener: Arc<dyn RebalanceListener>,
    source: Arc<Source>,
    credit: Credit,
    state: Mutex<State>,
    /// Counts the answers to heartbeats, for those who wait for news.
    pub(super) heard: watch::Sender<u64>,
    /// Asks for a heartbeat at once.
    pub(super) poke: Notify,
    /// Told when the application asks for records.
    pub(super) wanted: Notify,
}

struct State {
    member: Option<Member>,
    /// What is to be held, as last heard.
    target: Option<Arc<Target>>,
    held: BTreeMap<TopicPartition, Arc<Reading>>,
    /// What was committed for partitions that were given up, with the epoch of their grant: they may
    /// come back before that is known.
    given_up: BTreeMap<TopicPartition, (u32, Offset)>,
    events: mpsc::UnboundedSender<Event>,
    /// Whether each partition has a stream of its own.
    streamed: bool,
}

/// As whom the consumer commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) epoch: u32,
}

/// What an assignment changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The revision of the assignment.
    pub(super) revision: u64,
    /// To be given up; hands out nothing any more.
    pub(super) gone: Vec<Arc<Reading>>,
    /// Was granted anew, and has ended when that was heard.
    pub(super) moved: Vec<TopicPartition>,
    /// Whether some of that is not to be held any more either.
    pub(super) freed: bool,
}

impl Core {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        config: Config,
        calls: Calls,
        listener: Arc<dyn RebalanceListener>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let source = Arc::new(Source::new(Arc::clone(&cluster), config.fetch.clone()));
        let credit = Credit::share(config.buffer_bytes, 1);
        let state = State {
            member: None,
            target: None,
            held: BTreeMap::new(),
            given_up: BTreeMap::new(),
            events,
            streamed: false,
        };
        Self {
            cluster,
            config,
            calls,
            listener,
            source,
            credit,
            state: Mutex::new(state),
            heard: watch::Sender::new(0),
            poke: Notify::new(),
            wanted: Notify::new(),
        }
    }

    pub(super) fn member(&self) -> Option<Member> {
        locked(&self.state).member.clone()
    }

    /// Takes in as whom the consumer commits from now on, and what it is to hold as such.
    ///
    /// What was granted anew ends together with the old epoch, long before it is reconciled: marks of
    /// before a seek must not be committed under the epoch of after it. What the target does not name is
    /// being revoked, and may be committed until it is given up.
    pub(super) fn adopt(&self, member: Member, target: &Arc<Target>) {
        let mut state = locked(&self.state);
        (state.member, state.target) = (Some(member), Some(Arc::clone(target)));
        for (partition, reading) in &state.held {
            let grant = target.partitions.get(partition);
            if grant.is_some_and(|grant| grant.epoch != reading.granted_epoch) {
                reading.end();
            }
        }
    }

    pub(super) fn held(&self) -> Vec<Arc<Reading>> {
        locked(&self.state).held.values().cloned().collect()
    }

    pub(super) fn reading(&self, partition: &TopicPartition) -> Option<Arc<Reading>> {
        locked(&self.state).held.get(partition).cloned()
    }

    /// Whether `partition` is held under this grant, and what is marked of it counts.
    pub(super) fn is_granted(&self, partition: &TopicPartition, epoch: u32) -> bool {
        let reading = self.reading(partition);
        reading.is_some_and(|reading| reading.granted_epoch == epoch && reading.is_held())
    }

    /// A partition whose marks are not all known to be committed.
    pub(super) fn first_due(&self) -> Option<TopicPartition> {
        let held = self.held().into_iter().find(|reading| reading.due().is_some());
        held.map(|reading| reading.partition.clone())
    }

    /// Compares what is held with what is to be held, and stops what has to go.
    pub(super) fn part_with(&self) -> Changes {
        let mut state = locked(&self.state);
        let Some(target) = state.target.clone() else { return Changes::default() };
        let mut changes = Changes { revision: target.revision, ..Changes::default() };
        state.held.retain(|partition, reading| {
            if !reading.is_held() {
                changes.freed |= !target.partitions.contains_key(partition);
                changes.moved.push(partition.clone());
                return false;
            }
            if !target.partitions.contains_key(partition) {
                reading.stop();
                changes.gone.push(Arc::clone(reading));
            }
            true
        });
        changes
    }

    /// No longer holds partitions.
    pub(super) fn give_up(&self, readings: &[Arc<Reading>]) {
        let mut state = locked(&self.state);
        for reading in readings {
            state.held.remove(&reading.partition);
            if let Some(committed) = reading.committed() {
                let place = (reading.granted_epoch, committed);
                state.given_up.insert(reading.partition.clone(), place);
            }
            reading.end();
        }
        self.credit.divide(self.config.buffer_bytes, state.held.len());
    }

    /// Holds nothing, and is no member; gives what was held.
    pub(super) fn lose_all(&self) -> Vec<TopicPartition> {
        let mut state = locked(&self.state);
        (state.member, state.target) = (None, None);
        state.given_up.clear();
        let held = std::mem::take(&mut state.held);
        held.values().for_each(|reading| reading.end());
        held.into_keys().collect()
    }

    /// Holds what was granted and is not held yet. That is what was heard last: an older grant would be
    /// committed under the newer epoch.
    pub(super) fn take(&self) -> Vec<Arc<Reading>> {
        let mut state = locked(&self.state);
        let Some(target) = state.target.clone() else { return Vec::new() };
        let mut new = Vec::new();
        for (partition, grant) in &target.partitions {
            if state.held.contains_key(partition) {
                continue;
            }
            let before = state.given_up.remove(partition).filter(|place| place.0 == grant.epoch);
            let committed = grant.committed.max(before.map(|place| place.1));
            let announce = state.announce();
            let (name, id) = (partition.clone(), grant.topic_id.clone());
            let reading = Arc::new(Reading::new(name, id, grant.epoch, committed, announce));
            state.held.insert(partition.clone(), Arc::clone(&reading));
            new.push(reading);
        }
        self.credit.divide(self.config.buffer_bytes, state.held.len());
        new
    }

    /// Tells the application that a partition is new, when each has a stream.
    pub(super) fn present(&self, readings: &[Arc<Reading>]) {
        let state = locked(&self.state);
        if state.streamed {
            for reading in readings {
                // It fails when the streams are gone, and then nobody wants them.
                let _ = state.events.send(Event::Ready(Arc::clone(reading)));
            }
        }
    }

    /// Replaces the reading of a partition, after a seek; fails when it is not held as before.
    pub(super) fn restart(&self, old: &Arc<Reading>) -> Result<Arc<Reading>, Error> {
        let mut state = locked(&self.state);
        let held = state.held.get_mut(&old.partition).filter(|held| Arc::ptr_eq(held, old));
        let held = held.filter(|held| !held.is_stopped());
        let Some(held) = held else {
            return Err(Error::NotAssigned { partition: old.partition.clone() });
        };
        *held = Arc::new(old.again());
        let new = Arc::clone(held);
        if state.streamed {
            // It fails when the streams are gone, and then nobody wants them.
            let _ = state.events.send(Event::Ready(Arc::clone(&new)));
        }
        Ok(new)
    }

    /// Begins to hand out a partition's records from `start` on.
    pub(super) fn begin(&self, reading: &Arc<Reading>, start: Offset) {
        let (source, credit) = (Arc::clone(&self.source), self.credit.clone());
        let task = read(source, credit, Arc::clone(reading), start);
        reading.begin(start, || tokio::spawn(task).abort_handle());
    }

    /// Gives each partition a stream of its own from now on.
    pub(super) fn split(&self) -> mpsc::UnboundedReceiver<Event> {
        let (events, receiver) = mpsc::unbounded_channel();
        let mut state = locked(&self.state);
        (state.events, state.streamed) = (events, true);
        for reading in state.held.values() {
            reading.announce_by(Announce::Stream);
            // The receiver is here still.
            let _ = state.events.send(Event::Ready(Arc::clone(reading)));
        }
        receiver
    }

    /// Tells the application what is wrong.
    pub(super) fn tell(&self, error: ConsumeError) {
        self.send(Event::Failed(error));
    }

    /// Tells the application that there will be no more.
    pub(super) fn finish(&self) {
        self.send(Event::Ended);
    }

    pub(super) fn group_error(&self, error: Error) -> ConsumeError {
        ConsumeError::Group { group: self.calls.group().clone(), source: Box::new(error) }
    }

    /// Notes that the application asks for records.
    pub(super) fn want(&self) {
        if self.config.processing_deadline.is_some() {
            self.wanted.notify_one();
        }
    }

    fn send(&self, event: Event) {
        // It fails when the consumer is gone, and then nobody wants to know.
        let _ = locked(&self.state).events.send(event);
    }
}

impl State {
    fn announce(&self) -> Announce {
        if self.streamed {
            return Announce::Stream;
        }
        Announce::Consumer(self.events.clone())
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Reads a partition from `start` on, and again after what may pass.
async fn read(source: Arc<Source>, credit: Credit, reading: Arc<Reading>, start: Offset) {
    let mut next = Some(start);
    while let Some(start) = next {
        let (name, topic_id) = (reading.partition.clone(), reading.topic_id.clone());
        let (source, credit) = (Arc::clone(&source), credit.clone());
        let start = Position::Offset(start);
        let outlet = Arc::clone(&reading);
        Fetcher::new(source, name, topic_id, start, credit, outlet).run().await;
        next = reading.retry();
    }
}
