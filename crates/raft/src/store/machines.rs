//! The three machines that groups run, as the applier drives them.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use openraft::EntryPayload;
use tidelog_state::{group, metadata, partition};
use tidelog_types::{LogPosition, Offset, Term};
use tokio::sync::watch;

use super::applier::Machine;
use crate::config::{Entry, Outcome, Proposal};

/// What a partition's replica has applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last applied entry.
    pub applied: Option<LogPosition>,
    /// End of the last applied entry: the first offset that no consumer may see.
    pub high_watermark: Offset,
    /// First offset that may be read.
    pub log_start: Offset,
    /// How far the log is to be compacted.
    pub compaction: partition::Compaction,
}

impl Progress {
    /// The term of the last applied entry.
    #[must_use]
    pub fn term(&self) -> Option<Term> {
        self.applied.map(|applied| applied.term)
    }
}

/// A partition's machine, with its progress made visible.
#[derive(Debug)]
pub(crate) struct PartitionMachine {
    pub(crate) state: partition::Machine,
    progress: watch::Sender<Progress>,
}

impl PartitionMachine {
    pub(crate) fn new(progress: watch::Sender<Progress>) -> Self {
        Self { state: partition::Machine::new(), progress }
    }
}

impl Machine for PartitionMachine {
    fn apply(&mut self, entry: &Entry) -> io::Result<Outcome> {
        let event = match &entry.payload {
            EntryPayload::Blank => partition::Event::Blank,
            EntryPayload::Membership(_) => partition::Event::Membership,
            EntryPayload::Normal(Proposal::Command { append_time, body }) => {
                partition::Event::Command {
                    append_time: *append_time,
                    command: partition::Command::decode(body).map_err(io::Error::other)?,
                }
            }
            EntryPayload::Normal(Proposal::Records(records)) => {
                let header = entry.header.as_ref().expect("an applied entry came out of the log");
                partition::Event::Records {
                    ordinal: header.ordinal,
                    base_offset: header.base_offset,
                    void: header.void,
                    append_time: header.append_time,
                    batches: &records.batches,
                }
            }
        };
        Ok(Outcome::Partition(self.state.apply(entry.position(), event)))
    }

    fn encode(&self) -> Vec<u8> {
        self.state.encode()
    }

    fn restore(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.state = partition::Machine::decode(bytes).map_err(io::Error::other)?;
        Ok(())
    }

    fn publish(&mut self) {
        let progress = Progress {
            applied: self.state.applied(),
            high_watermark: self.state.high_watermark(),
            log_start: self.state.log_start(),
            compaction: self.state.compaction(),
        };
        self.progress.send_replace(progress);
    }

    fn retained_from(&self) -> Option<Offset> {
        Some(self.state.log_start())
    }
}

/// The metadata group's machine; every run of entries publishes a copy of it.
#[derive(Debug)]
pub(crate) struct MetadataMachine {
    state: metadata::Machine,
    changed: bool,
    published: watch::Sender<Arc<metadata::Machine>>,
    progress: watch::Sender<Progress>,
}

impl MetadataMachine {
    pub(crate) fn new(
        published: watch::Sender<Arc<metadata::Machine>>,
        progress: watch::Sender<Progress>,
    ) -> Self {
        Self { state: metadata::Machine::new(), changed: true, published, progress }
    }
}

impl Machine for MetadataMachine {
    fn apply(&mut self, entry: &Entry) -> io::Result<Outcome> {
        let EntryPayload::Normal(Proposal::Command { append_time, body }) = &entry.payload else {
            self.state.pass(entry.position());
            return Ok(Outcome::None);
        };
        let command = metadata::Command::decode(body).map_err(io::Error::other)?;
        let applied = self.state.apply(entry.position(), &command, *append_time);
        self.changed |= !applied.changes.is_empty() || applied.reply.is_ok();
        Ok(Outcome::Metadata(applied.reply))
    }

    fn encode(&self) -> Vec<u8> {
        self.state.encode()
    }

    fn restore(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.state = metadata::Machine::decode(bytes).map_err(io::Error::other)?;
        self.changed = true;
        Ok(())
    }

    fn publish(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.published.send_replace(Arc::new(self.state.clone()));
        }
        self.progress
            .send_replace(Progress { applied: self.state.applied(), ..Progress::default() });
    }

    fn retained_from(&self) -> Option<Offset> {
        None
    }
}

/// A coordinator's machine. It is shared rather than copied: it may hold many offsets, and its readers
/// look at one member or one group.
#[derive(Debug)]
pub(crate) struct CoordinatorMachine {
    state: Arc<RwLock<group::Machine>>,
    changed: bool,
    changes: watch::Sender<u64>,
    progress: watch::Sender<Progress>,
}

impl CoordinatorMachine {
    pub(crate) fn new(
        state: Arc<RwLock<group::Machine>>,
        changes: watch::Sender<u64>,
        progress: watch::Sender<Progress>,
    ) -> Self {
        Self { state, changed: true, changes, progress }
    }
}

impl Machine for CoordinatorMachine {
    fn apply(&mut self, entry: &Entry) -> io::Result<Outcome> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let EntryPayload::Normal(Proposal::Command { append_time, body }) = &entry.payload else {
            state.pass(entry.position());
            return Ok(Outcome::None);
        };
        let command = group::Command::decode(body).map_err(io::Error::other)?;
        let applied = state.apply(entry.position(), &command, *append_time);
        self.changed |= applied.changed && !matches!(command, group::Command::Commit { .. });
        Ok(Outcome::Group(applied.reply))
    }

    fn encode(&self) -> Vec<u8> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).encode()
    }

    fn restore(&mut self, bytes: &[u8]) -> io::Result<()> {
        let machine = group::Machine::decode(bytes).map_err(io::Error::other)?;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = machine;
        self.changed = true;
        Ok(())
    }

    fn publish(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.changes.send_modify(|count| *count += 1);
        }
        let applied = self.state.read().unwrap_or_else(PoisonError::into_inner).applied();
        self.progress.send_replace(Progress { applied, ..Progress::default() });
    }

    fn retained_from(&self) -> Option<Offset> {
        None
    }
}

#[cfg(test)]
mod tests {
    use tidelog_types::LogIndex;

    use super::*;
    use crate::config::Payload;

    /// Who waits for an entry must wait for the progress: the machine may never show that very entry.
    #[test]
    fn progress_tells_of_entries_that_change_nothing_and_the_published_machine_does_not() {
        let (published, machine) = watch::channel(Arc::default());
        let (progress, applied) = watch::channel(Progress::default());
        let mut driven = MetadataMachine::new(published, progress);
        let at = |index| LogPosition { term: Term(1), index: LogIndex(index) };
        for index in 0..2 {
            driven.apply(&Entry::at(at(index), Payload::Blank)).unwrap();
            driven.publish();
        }
        assert_eq!(machine.borrow().applied(), Some(at(0)));
        assert_eq!(applied.borrow().applied, Some(at(1)));
    }
}
