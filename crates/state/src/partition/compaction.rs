//! How far a partition is to be compacted, as its replicas agree on it.
//!
//! The leader raises the goal; each replica compacts its own log up to it, when it comes to that. A
//! tombstone may only go once nothing that it supersedes is left anywhere: a replica that still holds
//! the old value, or fetches it from one that does, would bring it back to life. So the leader first
//! asks all replicas whether they have compacted so far, and from then on counts the time for which
//! tombstones stay to be read.

use std::time::Duration;

use tidelog_types::{Offset, Timestamp};

/// How far a partition is to be compacted.
///
/// Invariants: `tombstones_to <= mature.offset <= to`, and `to` is not above the high watermark. None of
/// them moves back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Below this offset only the newest record of each key is to stay.
    pub to: Offset,
    /// Below this offset no tombstone is to stay.
    pub tombstones_to: Offset,
    /// Up to where tombstones go next.
    pub mature: Option<Mature>,
}

/// A part of the log that all replicas have compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mature {
    /// It ends here.
    pub offset: Offset,
    /// Since then at least.
    pub since: Timestamp,
}

/// What a topic's configuration says of compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// `min.cleanable.dirty.ratio`, in thousandths: how much of the log must be new before it is
    /// compacted again.
    pub dirty_permille_min: u16,
    /// `min.compaction.lag.ms`: for so long no record is superseded.
    pub lag_min: Duration,
    /// `max.compaction.lag.ms`: after so long records are compacted, however few they are.
    pub lag_max: Option<Duration>,
    /// `delete.retention.ms`: for so long a tombstone stays once all that it supersedes is gone.
    pub delete_retention: Duration,
}

/// A closed segment, as far as compaction is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The offset behind its last record.
    pub end: Offset,
    /// Its bytes.
    pub bytes: u64,
    /// The newest append time in it or before it.
    pub append_time: Timestamp,
}

impl Compaction {
    /// Up to where the log is to be compacted at `now`, if it is to be compacted further. `closed` are
    /// the closed segments, oldest first.
    #[must_use]
    pub fn due(
        &self,
        policy: &CompactionPolicy,
        now: Timestamp,
        closed: &[Closed],
    ) -> Option<Offset> {
        let settled = before(now, policy.lag_min);
        let count = closed.iter().take_while(|segment| segment.append_time <= settled).count();
        let closed = &closed[..count];
        let to = closed.last()?.end;
        let clean = closed.partition_point(|segment| segment.end <= self.to);
        let (clean, dirty) = closed.split_at(clean);
        if to <= self.to {
            return None;
        }
        let bytes = |segments: &[Closed]| -> u128 {
            segments.iter().map(|segment| u128::from(segment.bytes)).sum()
        };
        let (clean_bytes, dirty_bytes) = (bytes(clean), bytes(dirty));
        let enough = dirty_bytes * 1000
            >= (clean_bytes + dirty_bytes) * u128::from(policy.dirty_permille_min);
        // Nothing in the first dirty segment was appended before this.
        let oldest = clean.last().map_or(Timestamp(0), |segment| segment.append_time);
        let late = policy.lag_max.is_some_and(|lag| oldest <= before(now, lag));
        (enough || late).then_some(to)
    }

    /// Up to where tombstones may go at `now`, if further than before.
    #[must_use]
    pub fn tombstones_due(&self, policy: &CompactionPolicy, now: Timestamp) -> Option<Offset> {
        let mature = self.mature?;
        (mature.since <= before(now, policy.delete_retention)).then_some(mature.offset)
    }

    /// Up to where all replicas must have compacted before their tombstones begin to wait; `None`
    /// while others wait, or when none are left.
    #[must_use]
    pub fn to_mature(&self) -> Option<Offset> {
        (self.mature.is_none() && self.to > self.tombstones_to).then_some(self.to)
    }

    pub(super) fn apply(&mut self, goal: Goal, high_watermark: Offset, append_time: Timestamp) {
        self.to = goal.to.clamp(self.to, high_watermark);
        if let Some(mature) = self.mature
            && goal.tombstones_to >= mature.offset
        {
            self.tombstones_to = mature.offset;
            self.mature = None;
        }
        let offset = goal.mature_to.min(self.to);
        if self.mature.is_none() && offset > self.tombstones_to {
            self.mature = Some(Mature { offset, since: append_time });
        }
    }
}

/// What a command asks for; what lies below what holds already changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Goal {
    /// Compact up to here, or to the high watermark if that is lower.
    pub to: Offset,
    /// All replicas have compacted up to here.
    pub mature_to: Offset,
    /// The tombstones that wait below this need stay no longer.
    pub tombstones_to: Offset,
}

fn before(now: Timestamp, span: Duration) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: CompactionPolicy = CompactionPolicy {
        dirty_permille_min: 500,
        lag_min: Duration::ZERO,
        lag_max: None,
        delete_retention: Duration::from_millis(1_000),
    };

    fn segments(ends: &[(u64, u64, i64)]) -> Vec<Closed> {
        let closed = |(end, bytes, time): &(u64, u64, i64)| Closed {
            end: Offset(*end),
            bytes: *bytes,
            append_time: Timestamp(*time),
        };
        ends.iter().map(closed).collect()
    }

    fn at(to: u64) -> Compaction {
        Compaction { to: Offset(to), ..Compaction::default() }
    }

    #[test]
    fn a_log_is_compacted_once_enough_of_it_is_new() {
        let closed = segments(&[(10, 600, 100), (20, 500, 200), (30, 100, 300)]);
        let due = |to, policy| at(to).due(&policy, Timestamp(10_000), &closed);
        assert_eq!(due(0, POLICY), Some(Offset(30)));
        assert_eq!(due(10, POLICY), Some(Offset(30)), "600 of 1200 bytes are half");
        assert_eq!(due(20, POLICY), None, "100 of 1200 bytes are not");
        assert_eq!(due(30, POLICY), None, "nothing is new");
        let eager = CompactionPolicy { dirty_permille_min: 0, ..POLICY };
        assert_eq!(due(20, eager), Some(Offset(30)));
        assert_eq!(due(30, eager), None);
        assert_eq!(at(0).due(&POLICY, Timestamp(10_000), &[]), None);
    }

    #[test]
    fn young_records_are_left_alone_and_old_ones_are_not() {
        let closed = segments(&[(10, 600, 100), (20, 500, 200), (30, 100, 300)]);
        let patient = CompactionPolicy { lag_min: Duration::from_millis(50), ..POLICY };
        assert_eq!(at(0).due(&patient, Timestamp(260), &closed), Some(Offset(20)));
        let late = CompactionPolicy { lag_max: Some(Duration::from_millis(100)), ..POLICY };
        assert_eq!(at(20).due(&late, Timestamp(299), &closed), None);
        assert_eq!(at(20).due(&late, Timestamp(300), &closed), Some(Offset(30)));
    }

    #[test]
    fn tombstones_go_once_all_replicas_were_compacted_for_long_enough() {
        let mut state = at(0);
        let end = Offset(100);
        state.apply(Goal { to: Offset(40), ..Goal::default() }, end, Timestamp(1));
        assert_eq!(state.to_mature(), Some(Offset(40)));
        assert_eq!(state.tombstones_due(&POLICY, Timestamp(1 << 40)), None, "nobody said so");
        state.apply(Goal { mature_to: Offset(40), ..Goal::default() }, end, Timestamp(50));
        assert_eq!(state.to_mature(), None, "one after the other");
        // A goal that is raised meanwhile does not make them wait longer.
        state.apply(
            Goal { to: Offset(60), mature_to: Offset(60), ..Goal::default() },
            end,
            Timestamp(90),
        );
        assert_eq!(state.mature, Some(Mature { offset: Offset(40), since: Timestamp(50) }));
        assert_eq!(state.tombstones_due(&POLICY, Timestamp(1_049)), None);
        assert_eq!(state.tombstones_due(&POLICY, Timestamp(1_050)), Some(Offset(40)));
        let early = Goal { tombstones_to: Offset(39), ..Goal::default() };
        state.apply(early, end, Timestamp(1_050));
        assert_eq!(state.tombstones_to, Offset(0), "not what waited");
        state.apply(Goal { tombstones_to: Offset(40), ..Goal::default() }, end, Timestamp(1_051));
        assert_eq!((state.tombstones_to, state.mature), (Offset(40), None));
        assert_eq!(state.to_mature(), Some(Offset(60)));
    }

    #[test]
    fn a_goal_stays_within_what_is_committed_and_never_moves_back() {
        let mut state = at(10);
        state.apply(
            Goal { to: Offset(500), mature_to: Offset(500), ..Goal::default() },
            Offset(90),
            Timestamp(5),
        );
        assert_eq!(state.to, Offset(90));
        assert_eq!(state.mature.map(|mature| mature.offset), Some(Offset(90)));
        state.apply(Goal { to: Offset(3), ..Goal::default() }, Offset(95), Timestamp(6));
        assert_eq!(state.to, Offset(90));
    }
}
