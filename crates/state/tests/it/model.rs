//! A random check of sequencer and machine against a log that refuses, loses and forgets.
//!
//! Producers send numbered batches, resend them when an answer is lost, and give up never. The log
//! refuses single writes, elects new leaders that keep any prefix of what was not committed, and
//! answers late and out of order. In the end each batch must stand in the log once, in the order in
//! which its producer sent it, where the answers said.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tidelog_state::partition::{
    Answer, BatchAnswer, Decision, Event, Machine, Outcome, Sequencer, Settlement, State, Ticket,
};
use tidelog_types::{
    ErrorCode, LogIndex, LogPosition, Offset, ProducerEpoch, ProducerId, Term, Timestamp, batch,
};

use crate::dice::{Dice, seeds};

/// A batch header with a producer's claim.
pub(crate) fn batch_info(
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: i32,
    count: u32,
) -> batch::Info {
    batch::Info {
        base_offset: Offset::ZERO,
        producer_id,
        producer_epoch,
        base_sequence,
        count,
        last_offset_delta: count as i32 - 1,
        base_timestamp: Timestamp(0),
        max_timestamp: Timestamp(0),
        crc: 0,
        bytes: 61,
        codec: batch::Codec::None,
    }
}

const PRODUCERS: usize = 4;
const BATCHES: usize = 25;
const WINDOW: usize = 5;
const STEPS_MAX: usize = 200_000;

/// A batch: producer and number.
type Name = (usize, usize);

#[derive(Clone)]
struct Entry {
    term: Term,
    ordinal: Option<u64>,
    append_time: Timestamp,
    batches: Vec<Name>,
}

struct Producer {
    /// First sequence and count of each batch.
    batches: Vec<(i32, u32)>,
    answered: BTreeMap<usize, Offset>,
}

impl Producer {
    /// The batches that it may send now.
    fn window(&self) -> impl Iterator<Item = usize> {
        let first = (0..BATCHES).find(|n| !self.answered.contains_key(n)).unwrap_or(BATCHES);
        let answered: BTreeSet<_> = self.answered.keys().copied().collect();
        (first..BATCHES.min(first + WINDOW)).filter(move |n| !answered.contains(n))
    }
}

struct World {
    dice: Dice,
    ordinals_checked: bool,
    now: Timestamp,
    producers: Vec<Producer>,
    /// Sends on their way, from one producer in any order.
    sends: Vec<Name>,
    log: Vec<Entry>,
    committed: usize,
    /// One applies at once, the other lags and goes through snapshots.
    machines: [Machine; 2],
    term: Term,
    sequencer: Option<Sequencer>,
    open: Vec<Name>,
    tickets: BTreeMap<Ticket, BTreeSet<Name>>,
    /// Answers of the log on their way to the present sequencer.
    settlements: Vec<(u64, Settlement)>,
    /// Batches to offer again after the restart.
    again: VecDeque<Name>,
    refusals: usize,
    voids: usize,
    duplicates: usize,
}

impl World {
    fn new(seed: u64, ordinals_checked: bool) -> Self {
        let mut dice = Dice(seed);
        let mut producer = || {
            let mut next = 0;
            let batches = (0..BATCHES).map(|_| {
                let count = 1 + dice.below(4) as u32;
                let base = next;
                next += count as i32;
                (base, count)
            });
            Producer { batches: batches.collect(), answered: BTreeMap::new() }
        };
        let producers = (0..PRODUCERS).map(|_| producer()).collect();
        let mut world = Self {
            dice,
            ordinals_checked,
            now: Timestamp(0),
            producers,
            sends: Vec::new(),
            log: Vec::new(),
            committed: 0,
            machines: [Machine::new(), Machine::new()],
            term: Term(0),
            sequencer: None,
            open: Vec::new(),
            tickets: BTreeMap::new(),
            settlements: Vec::new(),
            again: VecDeque::new(),
            refusals: 0,
            voids: 0,
            duplicates: 0,
        };
        world.elect();
        world
    }

    fn run(mut self) -> Self {
        for _ in 0..STEPS_MAX {
            if self.producers.iter().all(|producer| producer.answered.len() == BATCHES) {
                self.committed = self.log.len();
                self.apply(0, usize::MAX);
                self.apply(1, usize::MAX);
                self.check();
                return self;
            }
            self.step();
        }
        panic!("the producers never finish");
    }

    fn step(&mut self) {
        self.now.0 += self.dice.below(3) as i64;
        match self.dice.below(100) {
            0..25 => self.send(),
            25..55 => self.deliver(),
            55..68 => self.propose(),
            68..78 => self.commit(),
            78..86 => self.apply(0, 1),
            86..90 => self.apply(1, 3),
            90..98 => self.settle(),
            98 => self.snapshot(),
            _ if self.dice.one_in(4) => self.elect(),
            _ => self.restart(),
        }
    }

    /// A producer sends, or sends again, something out of its window.
    fn send(&mut self) {
        let producer = self.dice.below(PRODUCERS);
        let window: Vec<_> = self.producers[producer].window().collect();
        if !window.is_empty() && self.sends.len() < 50 {
            self.sends.push((producer, window[self.dice.below(window.len())]));
        }
    }

    /// Some send arrives, perhaps twice, perhaps never.
    fn deliver(&mut self) {
        if self.sends.is_empty() {
            return;
        }
        let n = self.dice.below(self.sends.len());
        let name = if self.dice.one_in(5) { self.sends[n] } else { self.sends.swap_remove(n) };
        if !self.dice.one_in(10) {
            self.offer(name);
        }
    }

    fn offer(&mut self, name: Name) {
        let info = self.info(name);
        let now = self.now;
        let Some(sequencer) = &mut self.sequencer else { return };
        match sequencer.offer(&info, now) {
            Decision::Append { ticket } => {
                self.open.push(name);
                self.tickets.entry(ticket).or_default().insert(name);
            }
            Decision::InFlight { ticket } => {
                self.duplicates += 1;
                assert!(self.tickets[&ticket].contains(&name), "waits for another batch");
            }
            Decision::Duplicate { base_offset, .. } => {
                self.duplicates += 1;
                self.answer(name, base_offset);
            }
            // The producer sends it again in its time.
            Decision::Hold => {}
            Decision::Reject(ErrorCode::OutOfOrderSequence | ErrorCode::UnknownProducerId) => {}
            // Only a send that the network held back so long that all later ones were answered.
            Decision::Reject(ErrorCode::DuplicateSequence) => {
                assert!(self.written(name), "{name:?} is taken for written");
            }
            Decision::Reject(code) => panic!("{name:?} is rejected: {code}"),
        }
    }

    fn propose(&mut self) {
        let now = self.now;
        let Some(sealed) = self.sequencer.as_mut().and_then(|sequencer| sequencer.seal(now)) else {
            return;
        };
        let batches = std::mem::take(&mut self.open);
        if self.dice.one_in(8) {
            self.refusals += 1;
            self.settlements.push((sealed.ordinal, Settlement::Refused));
            return;
        }
        let (term, append_time) = (self.term, sealed.append_time);
        self.log.push(Entry { term, ordinal: Some(sealed.ordinal), append_time, batches });
    }

    fn commit(&mut self) {
        let waiting = self.log.len() - self.committed;
        self.committed += self.dice.below(waiting + 1);
    }

    fn apply(&mut self, replica: usize, entries: usize) {
        for _ in 0..entries {
            let index = self.machines[replica].applied().map_or(0, |a| a.index.0 as usize + 1);
            if index >= self.committed {
                return;
            }
            let entry = self.log[index].clone();
            let outcome = self.apply_entry(replica, index, &entry);
            if replica == 0 && entry.term == self.term {
                self.note_applied(&entry, outcome);
            }
        }
    }

    fn apply_entry(&mut self, replica: usize, index: usize, entry: &Entry) -> Outcome {
        let infos: Vec<_> = entry.batches.iter().map(|name| self.info(*name)).collect();
        let machine = &mut self.machines[replica];
        let position = LogPosition { term: entry.term, index: LogIndex(index as u64) };
        let Some(ordinal) = entry.ordinal else { return machine.apply(position, Event::Blank) };
        let ordinal = if self.ordinals_checked { ordinal } else { machine.ordinal_next() };
        machine.apply(
            position,
            Event::Records {
                ordinal,
                base_offset: machine.high_watermark(),
                void: ordinal != machine.ordinal_next(),
                append_time: entry.append_time,
                batches: &infos,
            },
        )
    }

    fn note_applied(&mut self, entry: &Entry, outcome: Outcome) {
        match entry.ordinal {
            Some(ordinal) => {
                self.voids += usize::from(outcome == Outcome::Void);
                self.settlements.push((ordinal, Settlement::Applied(outcome)));
            }
            None => self.sequencer = Some(Sequencer::start(&self.machines[0], self.term).unwrap()),
        }
    }

    /// One of the log's answers arrives, in any order.
    fn settle(&mut self) {
        let Some(sequencer) = &mut self.sequencer else { return };
        if self.settlements.is_empty() {
            return;
        }
        let n = self.dice.below(self.settlements.len());
        let (ordinal, settlement) = self.settlements.swap_remove(n);
        let answers = sequencer.settled(ordinal, settlement);
        self.take(&answers);
    }

    fn take(&mut self, answers: &[BatchAnswer]) {
        for BatchAnswer { ticket, answer } in answers {
            let names = self.tickets.remove(ticket).expect("a ticket is answered once");
            for name in names {
                match answer {
                    // The reply gets lost at times.
                    Answer::Appended { base_offset, .. } if !self.dice.one_in(4) => {
                        self.answer(name, *base_offset);
                    }
                    Answer::Again => self.again.push_back(name),
                    Answer::Appended { .. } | Answer::Unknown => {}
                }
            }
        }
        if self.sequencer.as_ref().is_some_and(|s| s.state() != State::Running) {
            self.open.clear();
        }
    }

    fn restart(&mut self) {
        let Some(sequencer) = &mut self.sequencer else { return };
        if sequencer.state() == State::Drained {
            sequencer.restart(&self.machines[0]).unwrap();
            while let Some(name) = self.again.pop_front() {
                self.offer(name);
            }
        } else if self.dice.one_in(3) && sequencer.state() == State::Running {
            let answers = sequencer.halt();
            self.take(&answers);
        }
    }

    /// A leader that has any prefix of what is not committed.
    fn elect(&mut self) {
        let kept = self.dice.below(self.log.len() - self.committed + 1);
        self.log.truncate(self.committed + kept);
        self.term.0 += 1;
        self.settlements.clear();
        if let Some(mut sequencer) = self.sequencer.take() {
            let answers = sequencer.end();
            assert_eq!(sequencer.state(), State::Ended);
            self.take(&answers);
        }
        assert!(self.tickets.is_empty(), "the end answers everything");
        (self.open, self.again) = Default::default();
        let (term, append_time) = (self.term, self.now);
        self.log.push(Entry { term, ordinal: None, append_time, batches: Vec::new() });
    }

    fn snapshot(&mut self) {
        let replica = self.dice.below(2);
        let machine = &mut self.machines[replica];
        *machine = Machine::decode(&machine.encode()).unwrap();
    }

    fn answer(&mut self, (producer, number): Name, offset: Offset) {
        let before = self.producers[producer].answered.insert(number, offset);
        assert!(before.is_none_or(|before| before == offset), "two offsets for one batch");
    }

    fn info(&self, (producer, number): Name) -> batch::Info {
        let (base_sequence, count) = self.producers[producer].batches[number];
        batch_info(ProducerId(producer as i64), ProducerEpoch(0), base_sequence, count)
    }

    /// Where the committed log holds each batch, by a naive reading of it.
    fn places(&self) -> Vec<(Name, Offset)> {
        let mut places = Vec::new();
        let (mut term, mut ordinal_next, mut offset) = (Term(0), 0, Offset::ZERO);
        for entry in &self.log[..self.committed] {
            if entry.term > term {
                (term, ordinal_next) = (entry.term, 0);
            }
            let Some(ordinal) = entry.ordinal else { continue };
            if self.ordinals_checked && ordinal != ordinal_next {
                continue;
            }
            ordinal_next += 1;
            for name in &entry.batches {
                places.push((*name, offset));
                offset = offset.plus(u64::from(self.info(*name).count));
            }
        }
        places
    }

    fn written(&self, name: Name) -> bool {
        self.places().iter().any(|(place, _)| *place == name)
    }

    fn check(&self) {
        let places = self.places();
        for (number, producer) in self.producers.iter().enumerate() {
            let found: Vec<_> = places.iter().filter(|((p, _), _)| *p == number).collect();
            let numbers: Vec<_> = found.iter().map(|((_, n), _)| *n).collect();
            assert_eq!(numbers, (0..BATCHES).collect::<Vec<_>>(), "each batch once, in order");
            for ((_, n), offset) in found {
                assert_eq!(producer.answered[n], *offset, "the answer names the place");
            }
        }
        assert_eq!(self.machines[0], self.machines[1], "the replicas agree");
        assert_eq!(self.machines[0].encode(), self.machines[1].encode());
    }
}

#[test]
fn every_batch_is_appended_once_and_in_order() {
    let (mut refusals, mut voids, mut duplicates, mut terms) = (0, 0, 0, 0);
    for seed in seeds(400) {
        let run = catch_unwind(AssertUnwindSafe(|| World::new(seed, true).run()));
        let world = run.unwrap_or_else(|_| panic!("failed with SEED={seed}"));
        refusals += world.refusals;
        voids += world.voids;
        duplicates += world.duplicates;
        terms += world.term.0;
    }
    println!("{refusals} refusals, {voids} voids, {duplicates} duplicates, {terms} terms");
    if env::var("SEED").is_err() {
        assert!(refusals > 100 && voids > 100 && duplicates > 100 && terms > 400, "too tame");
    }
}

/// Hazard H13: were the ordinals not checked, this test would show it.
#[test]
fn without_ordinals_the_check_fails() {
    let fails = |seed| catch_unwind(AssertUnwindSafe(|| World::new(seed, false).run())).is_err();
    assert!((0..50).any(fails));
}
