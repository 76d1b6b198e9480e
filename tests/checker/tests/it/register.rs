//! The quick judgement of a committed offset agrees with trying every order of the calls.

use tidelog_checker::{Commit, Committed, Error, Event, History, Outcome, Rule, Seek, Span, check};

const CASES: u64 = 20_000;
const CALLS_MAX: u64 = 6;
const TIME_MAX: u64 = 12;
const OFFSETS: u64 = 4;

/// One call, with its answer.
#[derive(Clone, Copy, Debug)]
enum Call {
    Commit { offset: u64, holds: u64 },
    Lost { offset: u64 },
    Read { value: Option<u64> },
    Seek { offset: u64, before: Option<u64> },
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    /// Below `limit`. (xorshift64*)
    fn roll(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }

    fn value(&mut self) -> Option<u64> {
        self.roll(OFFSETS + 1).checked_sub(1)
    }
}

#[test]
fn quick_judgement_agrees_with_trying_every_order() {
    let (mut linear, mut broken) = (0, 0);
    for case in 1..=CASES {
        let calls = history_of(&mut Dice(case.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        let Some(quick) = judge(&calls) else { continue };
        let all: Vec<usize> = (0..calls.len()).collect();
        let thorough = some_order(&calls, &all, None);
        assert_eq!(quick, thorough, "case {case}: {calls:#?}");
        *(if quick { &mut linear } else { &mut broken }) += 1;
    }
    assert!(linear > CASES / 4 && broken > CASES / 4, "{linear} linear, {broken} not");
}

/// A history that really happened to a register, and in every other case one answer changed.
fn history_of(dice: &mut Dice) -> Vec<(Span, Call)> {
    let mut points: Vec<u64> =
        (0..2 + dice.roll(CALLS_MAX - 1)).map(|_| dice.roll(TIME_MAX)).collect();
    points.sort_unstable();
    let mut register = None;
    let mut calls = Vec::new();
    for point in points {
        let span =
            Span { invoke: point.saturating_sub(dice.roll(4)), complete: point + dice.roll(4) };
        let offset = dice.roll(OFFSETS);
        let call = match dice.roll(8) {
            0..=2 => {
                register = register.max(Some(offset));
                Call::Commit { offset, holds: register.unwrap() }
            }
            3 => {
                if dice.roll(2) == 0 {
                    register = register.max(Some(offset));
                }
                Call::Lost { offset }
            }
            4..=6 => Call::Read { value: register },
            _ => Call::Seek { offset, before: register.replace(offset) },
        };
        calls.push((span, call));
    }
    if dice.roll(4) > 0 {
        let at = dice.roll(calls.len() as u64) as usize;
        match &mut calls[at].1 {
            Call::Commit { holds, .. } => *holds = dice.roll(OFFSETS),
            Call::Lost { offset } => *offset = dice.roll(OFFSETS),
            Call::Read { value } => *value = dice.value(),
            Call::Seek { before, .. } => *before = dice.value(),
        }
    }
    calls
}

/// What the rule says; nothing when seeks overlap.
fn judge(calls: &[(Span, Call)]) -> Option<bool> {
    let lines = calls.iter().map(|(at, call)| line(*at, *call) + "\n").collect::<String>();
    let mut history = History::default();
    history.read("case", lines.as_bytes()).unwrap();
    match check(&history) {
        Ok(verdict) => Some(verdict.count(Rule::CommittedOffset) == 0),
        Err(Error::Impossible { .. }) => None,
        Err(err) => panic!("{err}: {lines}"),
    }
}

fn line(at: Span, call: Call) -> String {
    let commit = |offset, outcome| {
        let (group, member, topic) = ("g".into(), "m".into(), "t".into());
        Event::Commit(Commit { at, group, member, epoch: 1, topic, partition: 0, offset, outcome })
    };
    let (group, topic) = ("g".into(), "t".into());
    let event = match call {
        Call::Commit { offset, holds } => commit(offset, Outcome::Accepted(holds)),
        Call::Lost { offset } => commit(offset, Outcome::Unknown),
        Call::Read { value } => {
            Event::Committed(Committed { at, group, topic, partition: 0, offset: value })
        }
        Call::Seek { offset, before } => {
            let outcome = Outcome::Accepted(before);
            Event::Seek(Seek { at, group, topic, partition: 0, offset, outcome })
        }
    };
    serde_json::to_string(&event).unwrap()
}

/// Whether some order of the calls in `rest`, from `register` on, explains all answers.
///
/// What nobody answered may happen at any time after it was sent, or never, and also again after a seek:
/// so mild is the rule.
fn some_order(calls: &[(Span, Call)], rest: &[usize], register: Option<u64>) -> bool {
    let open = |at: &usize| !matches!(calls[*at].1, Call::Lost { .. });
    if !rest.iter().any(open) {
        return true;
    }
    rest.iter().any(|next| {
        let (span, call) = calls[*next];
        let overtakes = rest.iter().filter(|at| open(at));
        if overtakes.map(|at| calls[*at].0.complete).any(|complete| complete < span.invoke) {
            return false;
        }
        match (call, step(register, call)) {
            (_, None) => false,
            (Call::Lost { .. }, Some(after)) => after > register && some_order(calls, rest, after),
            (_, Some(after)) => {
                let rest: Vec<usize> = rest.iter().copied().filter(|at| at != next).collect();
                some_order(calls, &rest, after)
            }
        }
    })
}

/// The register after a call, if the call can be answered so.
fn step(register: Option<u64>, call: Call) -> Option<Option<u64>> {
    match call {
        Call::Commit { offset, holds } => {
            let after = register.max(Some(offset));
            (after == Some(holds)).then_some(after)
        }
        Call::Lost { offset } => Some(register.max(Some(offset))),
        Call::Read { value } => (value == register).then_some(register),
        Call::Seek { offset, before } => (before == register).then_some(Some(offset)),
    }
}
