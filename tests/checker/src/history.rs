//! A history in memory: events with their names turned into numbers.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::Hash;
use std::io::BufRead;

use crate::Error;
use crate::event::{Event, Outcome, Span};

/// A topic's partition, as a number.
pub(crate) type Log = u32;
/// A group's place in a topic's partition, as a number.
pub(crate) type Slot = u32;
/// A member of a group, as a number.
pub(crate) type Member = u32;

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    source: u32,
    line: u32,
}

/// An event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) at: Span,
    pub(crate) fact: Fact,
}

/// What an event says; the fields are those of [`Event`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fact {
    Produced { log: Log, offset: u64, id: u64 },
    Joined { member: Member },
    Ended { member: Member },
    Assigned { member: Member, epoch: u32, grants: Grants },
    Released { member: Member, grants: Grants },
    Delivered { member: Member, slot: Slot, offset: u64, id: u64, granted: Option<u32> },
    Repositioned { member: Member, slot: Slot, offset: u64 },
    Commit { member: Member, slot: Slot, epoch: u32, offset: u64, outcome: Outcome<u64> },
    Committed { slot: Slot, offset: Option<u64> },
    Seek { slot: Slot, offset: u64, outcome: Outcome<Option<u64>> },
}

/// The partitions of an event, kept by the history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grants {
    first: u32,
    end: u32,
}

/// A partition told to a member, or given up by it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Granted {
    pub(crate) slot: Slot,
    pub(crate) granted: u32,
    pub(crate) committed: Option<u64>,
}

/// Everything that was recorded.
///
/// The events of one member stand in the order in which it saw them; nothing else is told by the order
/// of lines, what came before what between members is told by time alone.
#[derive(Debug, Default)]
pub struct History {
    entries: Vec<Entry>,
    grants: Vec<Granted>,
    sources: Vec<String>,
    names: Names<String>,
    logs: Names<(u32, u32)>,
    slots: Names<(u32, Log)>,
    members: Names<(u32, u32)>,
}

impl History {
    /// Adds the lines of one recorder. `source_name` is for messages.
    ///
    /// # Errors
    /// A line is malformed: the history then is of no use.
    pub fn read(&mut self, source_name: &str, mut lines: impl BufRead) -> Result<(), Error> {
        let source = self.sources.len() as u32;
        self.sources.push(source_name.to_owned());
        let mut line = 0;
        let mut text = String::new();
        loop {
            text.clear();
            let read = lines.read_line(&mut text);
            let read =
                read.map_err(|source| Error::Read { source_name: source_name.to_owned(), source })?;
            if read == 0 {
                return Ok(());
            }
            line += 1;
            let event = serde_json::from_str(&text).map_err(|source| Error::NotAnEvent {
                source_name: source_name.to_owned(),
                line,
                source,
            })?;
            self.push(Place { source, line }, event)?;
        }
    }

    /// The number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn grants(&self, grants: Grants) -> &[Granted] {
        &self.grants[grants.first as usize..grants.end as usize]
    }

    pub(crate) fn log_of(&self, slot: Slot) -> Log {
        self.slots.get(slot).1
    }

    pub(crate) fn group_of(&self, slot: Slot) -> u32 {
        self.slots.get(slot).0
    }

    pub(crate) fn slot_count(&self) -> usize {
        self.slots.list.len()
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.list.len()
    }

    /// The file and line of an event, for people.
    pub(crate) fn place(&self, place: Place) -> String {
        format!("{}:{}", self.sources[place.source as usize], place.line)
    }

    pub(crate) fn log_name(&self, log: Log) -> String {
        let (topic, partition) = *self.logs.get(log);
        format!("{}/{partition}", self.names.get(topic))
    }

    /// Such as `billing orders/3`.
    pub(crate) fn slot_name(&self, slot: Slot) -> String {
        let (group, log) = *self.slots.get(slot);
        format!("{} {}", self.names.get(group), self.log_name(log))
    }

    pub(crate) fn member_name(&self, member: Member) -> &str {
        self.names.get(self.members.get(member).1)
    }

    pub(crate) fn impossible(&self, place: Place, what: &'static str) -> Error {
        let source_name = self.sources[place.source as usize].clone();
        Error::Impossible { source_name, line: place.line, what }
    }

    fn push(&mut self, place: Place, event: Event<'_>) -> Result<(), Error> {
        let (at, fact) = self.fact(event);
        if at.complete < at.invoke {
            return Err(self.impossible(place, "it was completed before it was invoked"));
        }
        self.entries.push(Entry { place, at, fact });
        Ok(())
    }

    fn fact(&mut self, event: Event<'_>) -> (Span, Fact) {
        match event {
            Event::Produced(e) => {
                let log = self.log(&e.topic, e.partition);
                (e.at, Fact::Produced { log, offset: e.offset, id: e.id })
            }
            Event::Joined(e) => (e.at, Fact::Joined { member: self.member(&e.group, &e.member) }),
            Event::Ended(e) => (e.at, Fact::Ended { member: self.member(&e.group, &e.member) }),
            Event::Assigned(e) => {
                let member = self.member(&e.group, &e.member);
                let told = e.partitions.iter();
                let told = told.map(|p| (&p.topic, p.partition, p.granted, p.committed));
                let grants = self.keep(&e.group, told);
                (e.at, Fact::Assigned { member, epoch: e.epoch, grants })
            }
            Event::Released(e) => {
                let member = self.member(&e.group, &e.member);
                let given = e.partitions.iter().map(|p| (&p.topic, p.partition, p.granted, None));
                let grants = self.keep(&e.group, given);
                (e.at, Fact::Released { member, grants })
            }
            Event::Delivered(e) => {
                let member = self.member(&e.group, &e.member);
                let slot = self.slot(&e.group, &e.topic, e.partition);
                let (offset, id, granted) = (e.offset, e.id, e.granted);
                (e.at, Fact::Delivered { member, slot, offset, id, granted })
            }
            Event::Repositioned(e) => {
                let member = self.member(&e.group, &e.member);
                let slot = self.slot(&e.group, &e.topic, e.partition);
                (e.at, Fact::Repositioned { member, slot, offset: e.offset })
            }
            Event::Commit(e) => {
                let member = self.member(&e.group, &e.member);
                let slot = self.slot(&e.group, &e.topic, e.partition);
                let (epoch, offset, outcome) = (e.epoch, e.offset, e.outcome);
                (e.at, Fact::Commit { member, slot, epoch, offset, outcome })
            }
            Event::Committed(e) => {
                let slot = self.slot(&e.group, &e.topic, e.partition);
                (e.at, Fact::Committed { slot, offset: e.offset })
            }
            Event::Seek(e) => {
                let slot = self.slot(&e.group, &e.topic, e.partition);
                (e.at, Fact::Seek { slot, offset: e.offset, outcome: e.outcome })
            }
        }
    }

    fn keep<'a>(
        &mut self,
        group: &str,
        partitions: impl Iterator<Item = (&'a Cow<'a, str>, u32, u32, Option<u64>)>,
    ) -> Grants {
        let first = self.grants.len() as u32;
        for (topic, partition, granted, committed) in partitions {
            let slot = self.slot(group, topic, partition);
            self.grants.push(Granted { slot, granted, committed });
        }
        Grants { first, end: self.grants.len() as u32 }
    }

    fn log(&mut self, topic: &str, partition: u32) -> Log {
        let topic = self.names.number_of_str(topic);
        self.logs.number((topic, partition))
    }

    fn slot(&mut self, group: &str, topic: &str, partition: u32) -> Slot {
        let log = self.log(topic, partition);
        let group = self.names.number_of_str(group);
        self.slots.number((group, log))
    }

    fn member(&mut self, group: &str, member: &str) -> Member {
        let group = self.names.number_of_str(group);
        let member = self.names.number_of_str(member);
        self.members.number((group, member))
    }
}

/// Numbers things from zero, in the order in which they come first.
#[derive(Debug)]
struct Names<T> {
    numbers: HashMap<T, u32>,
    list: Vec<T>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), list: Vec::new() }
    }
}

impl<T: Clone + Eq + Hash> Names<T> {
    fn number(&mut self, name: T) -> u32 {
        let Self { numbers, list } = self;
        *numbers.entry(name).or_insert_with_key(|name| {
            list.push(name.clone());
            list.len() as u32 - 1
        })
    }

    fn get(&self, number: u32) -> &T {
        &self.list[number as usize]
    }
}

impl Names<String> {
    fn number_of_str(&mut self, name: &str) -> u32 {
        match self.numbers.get(name) {
            Some(number) => *number,
            None => self.number(name.to_owned()),
        }
    }
}
