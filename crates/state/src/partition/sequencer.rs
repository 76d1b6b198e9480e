//! Decides on the leader which batches enter the log, and in which order.
//!
//! ```text
//!            restart                                    settled: all
//! ┌────────────────────────── Drained <───────────────────────────┐
//! v                                                               │
//! Running ── settled: refused or void, or halt ──────────────> Draining
//!    │                                                            │
//!    └──────────── settled: lost, or end ──────> Ended <──────────┘
//! ```
//!
//! Why it stops: the consensus layer may refuse one write and take the next. The ordinals make the
//! next one void, so nothing is out of order in the log; but the overlay believed that both would
//! land. So the sequencer takes nothing more, lets what is on its way end, drops its overlay and
//! starts again from what was applied.

use std::collections::BTreeMap;

use smallvec::SmallVec;
use tidelog_types::{ErrorCode, Offset, Term, Timestamp, batch, canary};

use super::overlay::Overlay;
use super::producers::{Claim, PRODUCER_KEPT_MS_MIN, ProducerTable, Remembered, Verdict, judge};
use super::time_guard::TimeGuard;
use super::{
    Answer, BatchAnswer, ClockJump, Decision, Machine, Outcome, Sealed, Settlement, StartError,
    State, Ticket,
};

/// A batch that was let in.
#[derive(Clone, Copy, Debug)]
struct Pending {
    ticket: Ticket,
    claim: Option<Claim>,
}

/// An entry on its way, with its settlement if an earlier entry is still without one.
#[derive(Debug)]
struct Entry {
    batches: Vec<Pending>,
    settlement: Option<Settlement>,
}

/// The one source of record entries of a partition in a term.
///
/// Invariants:
/// - Two sequencers never have entries on their way in one term; every entry is settled once.
/// - `producers` is the machine's table after the settled entries.
/// - An entry takes effect only if every entry sealed before it did: its ordinal says so.
/// - Answers come out by ascending ticket.
#[derive(Debug)]
pub struct Sequencer {
    term: Term,
    state: State,
    producers: ProducerTable,
    overlay: Overlay,
    open: Vec<Pending>,
    in_flight: BTreeMap<u64, Entry>,
    ordinal_next: u64,
    ordinals_applied: u64,
    ticket_next: u64,
    append_time: Timestamp,
    guard: TimeGuard,
}

impl Sequencer {
    /// The sequencer of the leader of `term`, which starts when `machine` has applied the leader's
    /// blank entry.
    ///
    /// Should one end while its term goes on, the next may start once an entry has been applied
    /// that was proposed after all of the first one's: then nothing of them is on its way.
    ///
    /// # Errors
    /// When the last applied entry is of another term.
    pub fn start(machine: &Machine, term: Term) -> Result<Self, StartError> {
        check_term(machine, term)?;
        let producers = if canary!(ProducersReset) {
            ProducerTable::new(machine.producers.limits())
        } else {
            machine.producers.clone()
        };
        Ok(Self {
            term,
            state: State::Running,
            producers,
            overlay: Overlay::default(),
            open: Vec::new(),
            in_flight: BTreeMap::new(),
            ordinal_next: machine.ordinal_next(),
            ordinals_applied: machine.ordinal_next(),
            ticket_next: 0,
            append_time: machine.append_time(),
            guard: TimeGuard::new(machine.append_time()),
        })
    }

    /// The term whose entries it seals.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.term
    }

    /// Whether it takes batches.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// How many entries are sealed and not settled.
    #[must_use]
    pub fn entries_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// How many batches wait for the next seal.
    #[must_use]
    pub fn batches_open(&self) -> usize {
        self.open.len()
    }

    /// Decides about a valid batch that arrived at `now`.
    pub fn offer(&mut self, batch: &batch::Info, now: Timestamp) -> Decision {
        if self.state != State::Running {
            return Decision::Hold;
        }
        let claim = Claim::of(batch);
        match claim.map_or(Ok(()), |claim| self.check(&claim, now)) {
            Ok(()) => Decision::Append { ticket: self.let_in(claim) },
            Err(decision) => decision,
        }
    }

    /// Closes the open entry; `None` when it is empty or the sequencer does not run.
    ///
    /// The entry must be proposed before the next one and settled by its ordinal.
    pub fn seal(&mut self, now: Timestamp) -> Option<Sealed> {
        if self.open.is_empty() || self.state != State::Running {
            return None;
        }
        let ordinal = self.ordinal_next;
        let batches = std::mem::take(&mut self.open);
        let sealed = Sealed { ordinal, append_time: self.stamp(now), batches: batches.len() };
        self.ordinal_next += 1;
        self.in_flight.insert(ordinal, Entry { batches, settlement: None });
        Some(sealed)
    }

    /// Takes the end of a sealed entry, in any order, and gives the answers that are now due.
    ///
    /// # Panics
    /// When the entry is not on its way, or took effect although an earlier one did not: both break
    /// what the log promises.
    pub fn settled(&mut self, ordinal: u64, settlement: Settlement) -> Vec<BatchAnswer> {
        match self.in_flight.get_mut(&ordinal).filter(|entry| entry.settlement.is_none()) {
            Some(entry) => entry.settlement = Some(settlement.clone()),
            // Whoever ended the sequencer has answered for all that was on its way.
            None if self.state == State::Ended => return Vec::new(),
            None => panic!("entry {ordinal} is settled twice or was never sealed"),
        }
        match settlement {
            Settlement::Applied(Outcome::Appended { .. }) => {}
            Settlement::Applied(_) | Settlement::Refused => self.drain(),
            Settlement::Lost => self.state = State::Ended,
        }
        self.answer_due()
    }

    /// Stops taking batches, as before a transfer of leadership. What is open is not written; what
    /// is on its way ends as usual.
    pub fn halt(&mut self) -> Vec<BatchAnswer> {
        self.drain();
        self.answer_due()
    }

    /// Ends the sequencer without waiting: what is on its way is unknown.
    pub fn end(&mut self) -> Vec<BatchAnswer> {
        self.state = State::Ended;
        for entry in self.in_flight.values_mut() {
            entry.settlement.get_or_insert(Settlement::Lost);
        }
        self.answer_due()
    }

    /// Starts again from applied state once it is drained.
    ///
    /// # Errors
    /// When entries are still on their way, or `machine` says that the term or the log went on
    /// without this sequencer; in the latter cases it has ended.
    pub fn restart(&mut self, machine: &Machine) -> Result<(), StartError> {
        if self.state != State::Drained {
            return Err(StartError::NotDrained);
        }
        self.check_restart(machine).inspect_err(|_| self.state = State::Ended)?;
        self.producers = machine.producers.clone();
        self.overlay.clear();
        self.ordinal_next = self.ordinals_applied;
        self.append_time = self.append_time.max(machine.append_time());
        self.state = State::Running;
        Ok(())
    }

    /// The append time for a command of the leader: `now`, but never before an earlier one.
    pub fn stamp(&mut self, now: Timestamp) -> Timestamp {
        self.append_time = self.append_time.max(now);
        self.append_time
    }

    /// Asks whether retention may trim by the clock `now`.
    ///
    /// # Errors
    /// When the clock is more than [`CLOCK_STEP_MS_MAX`](super::CLOCK_STEP_MS_MAX) ahead of the
    /// last look; ask again at the next round of retention.
    pub fn admit_retention(&mut self, now: Timestamp) -> Result<(), ClockJump> {
        self.guard.admit(now, self.append_time)
    }

    /// Kafka's rules, against applied state and what is on its way.
    fn check(&self, claim: &Claim, now: Timestamp) -> Result<(), Decision> {
        let applied = self.producers.find(claim.producer);
        let newest = self
            .overlay
            .newest(claim.producer)
            .or_else(|| applied.map(|producer| (producer.epoch, producer.sequence_next())));
        match judge(claim, newest) {
            Verdict::Follows if newest.is_none() && !self.has_room(now) => {
                Err(Decision::Reject(ErrorCode::ResourceExhausted))
            }
            Verdict::Follows => Ok(()),
            Verdict::Refused(code) => Err(Decision::Reject(code)),
            Verdict::Known => Err(self.find_first_send(claim)),
        }
    }

    fn find_first_send(&self, claim: &Claim) -> Decision {
        if let Some(ticket) = self.overlay.find(claim) {
            return Decision::InFlight { ticket };
        }
        let applied =
            self.producers.find(claim.producer).filter(|known| known.epoch == claim.epoch);
        if let Some(&Remembered { base_offset, append_time, .. }) =
            applied.and_then(|producer| producer.find(claim))
        {
            return Decision::Duplicate { base_offset, append_time };
        }
        // Only a batch that lies wholly before what is remembered was appended for sure: a client
        // takes this code as "written". One that overlaps was cut differently and is refused.
        let oldest = applied.and_then(|producer| producer.batches.front());
        Decision::Reject(match oldest {
            Some(oldest) if claim.lies_before(oldest.base_sequence) => ErrorCode::DuplicateSequence,
            _ => ErrorCode::OutOfOrderSequence,
        })
    }

    /// Whether one more producer fits without pushing out one that may still retry.
    fn has_room(&self, now: Timestamp) -> bool {
        let max = self.producers.limits().producers_max as usize;
        let unknown = |id: &_| self.producers.find(*id).is_none();
        let arriving = self.overlay.producers().filter(unknown).count() + 1;
        let Some(excess) = (self.producers.len() + arriving).checked_sub(max + 1) else {
            return true;
        };
        // Those on their way are about to be the youngest, so they are pushed out last.
        let mut silent = self.producers.by_age().filter(|(_, id)| !self.overlay.contains(*id));
        let now = self.append_time.max(now);
        silent.nth(excess).is_some_and(|(last, _)| now.0 - last.0 >= PRODUCER_KEPT_MS_MIN)
    }

    fn let_in(&mut self, claim: Option<Claim>) -> Ticket {
        let ticket = Ticket(self.ticket_next);
        self.ticket_next += 1;
        if let Some(claim) = claim {
            self.overlay.push(ticket, claim);
        }
        self.open.push(Pending { ticket, claim });
        ticket
    }

    fn drain(&mut self) {
        if self.state == State::Running {
            self.state = State::Draining;
        }
    }

    /// Answers the settled entries at the front, and the open batches when nothing is left.
    fn answer_due(&mut self) -> Vec<BatchAnswer> {
        let mut answers = Vec::new();
        while let Some(first) = self.in_flight.first_entry() {
            if first.get().settlement.is_none() {
                break;
            }
            let (ordinal, entry) = first.remove_entry();
            self.answer_entry(ordinal, entry, &mut answers);
        }
        if self.state != State::Running && self.in_flight.is_empty() {
            answers.extend(self.open.drain(..).map(|batch| again(&batch)));
            if self.state == State::Draining {
                self.state = State::Drained;
            }
        }
        answers
    }

    fn answer_entry(&mut self, ordinal: u64, entry: Entry, answers: &mut Vec<BatchAnswer>) {
        match entry.settlement {
            Some(Settlement::Applied(Outcome::Appended { base_offsets, append_time })) => {
                self.fold(ordinal, &entry.batches, &base_offsets, append_time);
                answers.extend(entry.batches.iter().zip(base_offsets).map(
                    |(batch, base_offset)| {
                        let answer = Answer::Appended { base_offset, append_time };
                        BatchAnswer { ticket: batch.ticket, answer }
                    },
                ));
            }
            Some(Settlement::Applied(Outcome::Void) | Settlement::Refused) => {
                answers.extend(entry.batches.iter().map(again));
            }
            Some(Settlement::Lost) => {
                answers.extend(
                    entry
                        .batches
                        .iter()
                        .map(|batch| BatchAnswer { ticket: batch.ticket, answer: Answer::Unknown }),
                );
            }
            Some(Settlement::Applied(outcome)) => {
                panic!("entry {ordinal} holds records and was applied as {outcome:?}")
            }
            None => unreachable!("only settled entries are answered"),
        }
    }

    /// Moves an applied entry from the overlay to the table.
    fn fold(
        &mut self,
        ordinal: u64,
        batches: &[Pending],
        base_offsets: &SmallVec<[Offset; 1]>,
        append_time: Timestamp,
    ) {
        assert_eq!(batches.len(), base_offsets.len(), "entry {ordinal} has one offset per batch");
        // After a lost entry nobody knows how many took effect; the sequencer is over anyway.
        if self.state != State::Ended {
            assert_eq!(ordinal, self.ordinals_applied, "entry took effect out of turn");
        }
        self.ordinals_applied = ordinal + 1;
        self.append_time = self.append_time.max(append_time);
        for (batch, base_offset) in batches.iter().zip(base_offsets) {
            if let Some(claim) = batch.claim {
                self.producers.append(claim, *base_offset, append_time);
                self.overlay.settle(&claim);
            }
        }
    }

    fn check_restart(&self, machine: &Machine) -> Result<(), StartError> {
        check_term(machine, self.term)?;
        let (expected, applied) = (self.ordinals_applied, machine.ordinal_next());
        if expected == applied {
            Ok(())
        } else {
            Err(StartError::OtherOrdinal { expected, applied })
        }
    }
}

fn again(batch: &Pending) -> BatchAnswer {
    BatchAnswer { ticket: batch.ticket, answer: Answer::Again }
}

fn check_term(machine: &Machine, term: Term) -> Result<(), StartError> {
    match machine.applied() {
        Some(applied) if applied.term == term => Ok(()),
        applied => Err(StartError::OtherTerm { term, applied }),
    }
}
