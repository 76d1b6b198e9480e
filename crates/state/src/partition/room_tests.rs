//! A full table of producers must not make an append happen twice.

use tidelog_types::{
    ErrorCode, LogIndex, LogPosition, Offset, ProducerEpoch, ProducerId, Term, Timestamp,
};

use super::producers::{Limits, PRODUCER_KEPT_MS_MIN};
use super::test_batch::batch;
use super::{Decision, Event, Machine, Sequencer, Settlement};

struct Leader {
    machine: Machine,
    sequencer: Sequencer,
}

impl Leader {
    fn with_room_for(producers_max: u32) -> Self {
        let mut machine = Machine::with_limits(Limits { producers_max, expiry_ms: i64::MAX });
        let position = LogPosition { term: Term(1), index: LogIndex(0) };
        machine.apply(position, Event::Blank);
        let sequencer = Sequencer::start(&machine, Term(1)).unwrap();
        Self { machine, sequencer }
    }

    fn offer(&mut self, producer: i64, now: i64) -> Decision {
        let batch = batch(ProducerId(producer), ProducerEpoch(0), 0, 1);
        self.sequencer.offer(&batch, Timestamp(now))
    }

    fn append(&mut self, producer: i64, now: i64) {
        assert!(matches!(self.offer(producer, now), Decision::Append { .. }));
        let sealed = self.sequencer.seal(Timestamp(now)).unwrap();
        let applied = self.machine.applied().unwrap();
        let position = LogPosition { index: applied.index.next(), ..applied };
        let outcome = self.machine.apply(
            position,
            Event::Records {
                ordinal: sealed.ordinal,
                base_offset: self.machine.high_watermark(),
                void: false,
                append_time: sealed.append_time,
                batches: &[batch(ProducerId(producer), ProducerEpoch(0), 0, 1)],
            },
        );
        self.sequencer.settled(sealed.ordinal, Settlement::Applied(outcome));
    }
}

const FULL: Decision = Decision::Reject(ErrorCode::ResourceExhausted);

#[test]
fn a_new_producer_waits_until_the_longest_silent_one_can_no_longer_retry() {
    let mut leader = Leader::with_room_for(2);
    leader.append(1, 0);
    leader.append(2, 5);
    assert_eq!(leader.offer(3, PRODUCER_KEPT_MS_MIN - 1), FULL);
    let first = Decision::Duplicate { base_offset: Offset(0), append_time: Timestamp(0) };
    assert_eq!(leader.offer(1, PRODUCER_KEPT_MS_MIN - 1), first);
    leader.append(3, PRODUCER_KEPT_MS_MIN);
    assert_eq!(leader.machine.producers(), 2);
}

#[test]
fn producers_on_their_way_count() {
    let mut leader = Leader::with_room_for(2);
    leader.append(1, 0);
    assert!(matches!(leader.offer(2, 0), Decision::Append { .. }));
    assert_eq!(leader.offer(3, 0), FULL);
    assert!(matches!(leader.offer(3, PRODUCER_KEPT_MS_MIN), Decision::Append { .. }));
    // 2 and 3 fill the table now, and neither has been silent.
    assert_eq!(leader.offer(4, PRODUCER_KEPT_MS_MIN), FULL);
}

#[test]
fn the_sequencers_table_is_the_machines() {
    let mut leader = Leader::with_room_for(3);
    (0..9).for_each(|n| leader.append(n, n * PRODUCER_KEPT_MS_MIN));
    let mut restarted = Sequencer::start(&leader.machine, Term(1)).unwrap();
    for producer in 0..9 {
        let now = Timestamp(9 * PRODUCER_KEPT_MS_MIN);
        let retry = batch(ProducerId(producer), ProducerEpoch(0), 0, 1);
        let next = batch(ProducerId(producer), ProducerEpoch(0), 1, 1);
        for batch in [retry, next] {
            let decisions = (leader.sequencer.offer(&batch, now), restarted.offer(&batch, now));
            let admits = |d| matches!(d, Decision::Append { .. });
            assert_eq!(admits(decisions.0), admits(decisions.1), "producer {producer}");
        }
    }
}
