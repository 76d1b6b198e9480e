//! Scripts of a partition: a log, the machine that follows it, and the leader's sequencer.
//!
//! A batch is written `p7/e0/s3x2`: producer 7, epoch 0, sequences from 3, 2 records; `x2` has no
//! producer. `apply` commits a sealed entry and applies it, by the rule of ordinals; `settle` tells
//! the sequencer, as do `refuse` and `lose`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tidelog_state::partition::{
    Answer, BatchAnswer, Command, Decision, Event, Machine, Outcome, Sequencer, Settlement,
};
use tidelog_types::{
    LogIndex, LogPosition, Offset, ProducerEpoch, ProducerId, Term, Timestamp, batch,
};

use crate::golden::{arg, run_all};
use crate::model::batch_info;

#[derive(Default)]
struct Runner {
    machine: Machine,
    sequencer: Option<Sequencer>,
    open: Vec<batch::Info>,
    sealed: BTreeMap<u64, (Timestamp, Vec<batch::Info>)>,
    outcomes: BTreeMap<u64, Outcome>,
}

#[test]
fn scripts() {
    run_all("partition", Runner::default, Runner::run);
}

impl Runner {
    fn run(&mut self, words: &[&str]) -> String {
        let now = Timestamp(arg(words, "now", self.machine.append_time().0));
        let number = || words[1].parse::<u64>().unwrap();
        match words[0] {
            "blank" => {
                let term = Term(arg(words, "term", self.term().0));
                self.apply_event(term, Event::Blank)
            }
            "membership" => self.apply_event(self.term(), Event::Membership),
            "trim" => {
                let command = Command::Trim { to: Offset(arg(words, "to", 0)) };
                self.apply_event(self.term(), Event::Command { append_time: now, command })
            }
            "append" => {
                let batches: Vec<_> = words[1..].iter().filter_map(|word| parse(word)).collect();
                self.apply_event(
                    self.term(),
                    Event::Records {
                        ordinal: self.machine.ordinal_next(),
                        base_offset: self.machine.high_watermark(),
                        void: false,
                        append_time: now,
                        batches: &batches,
                    },
                )
            }
            "epoch-of" => match self.machine.epoch_of(Offset(number())) {
                Some(term) => format!("{term}"),
                None => "unknown".into(),
            },
            "epoch-end" => match self.machine.epoch_end(Term(number())) {
                Some((term, end)) => format!("epoch {term} ends at {end}"),
                None => "unknown".into(),
            },
            "show" => self.show(),
            "snapshot" => {
                let bytes = self.machine.encode();
                assert_eq!(Machine::decode(&bytes).as_ref(), Ok(&self.machine));
                self.machine = Machine::decode(&bytes).unwrap();
                format!("{} bytes, the same machine", bytes.len())
            }
            "lead" => {
                match Sequencer::start(&self.machine, Term(arg(words, "term", self.term().0))) {
                    Ok(sequencer) => {
                        self.sequencer = Some(sequencer);
                        (self.open, self.sealed, self.outcomes) = Default::default();
                        "leads".into()
                    }
                    Err(err) => err.to_string(),
                }
            }
            "offer" => {
                let batch = parse(words[1]).unwrap();
                let decision = self.sequencer().offer(&batch, now);
                if matches!(decision, Decision::Append { .. }) {
                    self.open.push(batch);
                }
                show_decision(decision)
            }
            "seal" => match self.sequencer().seal(now) {
                Some(sealed) => {
                    let batches = std::mem::take(&mut self.open);
                    assert_eq!(batches.len(), sealed.batches);
                    self.sealed.insert(sealed.ordinal, (sealed.append_time, batches));
                    let (ordinal, time) = (sealed.ordinal, sealed.append_time);
                    format!("entry {ordinal}, append time {time}, {} batches", sealed.batches)
                }
                None => "nothing".into(),
            },
            "apply" => self.apply_sealed(number()),
            "settle" => {
                let outcome = self.outcomes.remove(&number()).unwrap();
                let answers = self.sequencer().settled(number(), Settlement::Applied(outcome));
                self.show_answers(&answers)
            }
            "refuse" => {
                self.sealed.remove(&number());
                let answers = self.sequencer().settled(number(), Settlement::Refused);
                self.show_answers(&answers)
            }
            "lose" => {
                let answers = self.sequencer().settled(number(), Settlement::Lost);
                self.show_answers(&answers)
            }
            "halt" => {
                let answers = self.sequencer().halt();
                self.show_answers(&answers)
            }
            "end" => {
                let answers = self.sequencer().end();
                self.show_answers(&answers)
            }
            "restart" => {
                let restarted = self.sequencer.as_mut().unwrap().restart(&self.machine);
                self.open.clear();
                match restarted {
                    Ok(()) => "Running".into(),
                    Err(err) => format!("{err}; {:?}", self.sequencer().state()),
                }
            }
            "retention" => match self.sequencer().admit_retention(now) {
                Ok(()) => "admitted".into(),
                Err(jump) => jump.to_string(),
            },
            other => panic!("unknown command {other}"),
        }
    }

    fn sequencer(&mut self) -> &mut Sequencer {
        self.sequencer.as_mut().expect("the script leads first")
    }

    fn term(&self) -> Term {
        self.machine.applied().map_or(Term(0), |applied| applied.term)
    }

    fn apply_event(&mut self, term: Term, event: Event<'_>) -> String {
        let index = self.machine.applied().map_or(LogIndex(0), |applied| applied.index.next());
        show_outcome(&self.machine.apply(LogPosition { term, index }, event))
    }

    fn apply_sealed(&mut self, ordinal: u64) -> String {
        let (append_time, batches) = self.sealed.remove(&ordinal).unwrap();
        let applied = self.machine.applied().unwrap();
        let position = LogPosition { index: applied.index.next(), ..applied };
        let outcome = self.machine.apply(
            position,
            Event::Records {
                ordinal,
                base_offset: self.machine.high_watermark(),
                void: ordinal != self.machine.ordinal_next(),
                append_time,
                batches: &batches,
            },
        );
        let shown = show_outcome(&outcome);
        self.outcomes.insert(ordinal, outcome);
        shown
    }

    fn show(&self) -> String {
        let machine = &self.machine;
        format!(
            "log start {}, high watermark {}, append time {}, next ordinal {}, {} producers",
            machine.log_start(),
            machine.high_watermark(),
            machine.append_time(),
            machine.ordinal_next(),
            machine.producers()
        )
    }

    fn show_answers(&mut self, answers: &[BatchAnswer]) -> String {
        let mut text = String::new();
        for BatchAnswer { ticket, answer } in answers {
            let answer = match answer {
                Answer::Appended { base_offset, append_time } => {
                    format!("appended at {base_offset}, append time {append_time}")
                }
                Answer::Again => "again".into(),
                Answer::Unknown => "unknown".into(),
            };
            writeln!(text, "ticket {}: {answer}", ticket.0).unwrap();
        }
        writeln!(text, "{:?}", self.sequencer().state()).unwrap();
        text
    }
}

fn show_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::None => "nothing".into(),
        Outcome::Appended { base_offsets, append_time } => {
            let offsets: Vec<_> = base_offsets.iter().map(ToString::to_string).collect();
            format!("appended at {}, append time {append_time}", offsets.join(" "))
        }
        Outcome::Void => "void".into(),
        Outcome::Trimmed { log_start } => format!("log start {log_start}"),
    }
}

fn show_decision(decision: Decision) -> String {
    match decision {
        Decision::Append { ticket } => format!("append, ticket {}", ticket.0),
        Decision::Duplicate { base_offset, append_time } => {
            format!("duplicate of {base_offset}, append time {append_time}")
        }
        Decision::InFlight { ticket } => format!("waits for ticket {}", ticket.0),
        Decision::Hold => "hold".into(),
        Decision::Reject(code) => code.to_string(),
    }
}

/// Reads `p7/e0/s3x2` or `x2`.
fn parse(word: &str) -> Option<batch::Info> {
    let (claim, count) = word.split_once('x')?;
    let count = count.parse().ok()?;
    if claim.is_empty() {
        return Some(batch_info(ProducerId::NONE, ProducerEpoch::NONE, -1, count));
    }
    let mut parts = claim.split('/');
    let producer = parts.next()?.strip_prefix('p')?.parse().ok()?;
    let epoch = parts.next()?.strip_prefix('e')?.parse().ok()?;
    let base_sequence = parts.next()?.strip_prefix('s')?.parse().ok()?;
    Some(batch_info(ProducerId(producer), ProducerEpoch(epoch), base_sequence, count))
}
