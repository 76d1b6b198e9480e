//! Closing the segment that takes entries before it is full.

use std::time::Duration;

use tidelog_types::{LogIndex, Offset, Timestamp};

use super::Log;
use super::state::State;
use crate::error::Error;
use crate::segment::Head;

impl Log {
    /// Whether [`Log::roll_after`] might do something. Memory only: an entry is not older than the one
    /// before it.
    #[must_use]
    pub fn may_roll_after(&self, age: Duration, now: Timestamp) -> bool {
        let state = self.state();
        let before = state.last().head.frontier.append_time;
        state.may_roll() && before <= oldest(age, now)
    }

    /// Has the next entry begin a segment if the first one of the last segment is older than `age`
    /// at `now`. May block.
    ///
    /// # Errors
    /// The disk, or damage to that entry.
    pub fn roll_after(&self, age: Duration, now: Timestamp) -> Result<(), Error> {
        if !self.may_roll_after(age, now) {
            return Ok(());
        }
        let first = self.state().last().first_index();
        if self.append_time_of(first)? > oldest(age, now) {
            return Ok(());
        }
        let mut state = self.state();
        // Rolled or cut meanwhile: then the next look decides.
        if state.last().first_index() == first && state.may_roll() {
            state.rolls = true;
        }
        Ok(())
    }

    /// Has the next entry begin a segment if the last segment begins below `to`: what lies below is to
    /// be compacted.
    pub fn roll_below(&self, to: Offset) {
        let mut state = self.state();
        if state.last().base_offset() < to && state.may_roll() {
            state.rolls = true;
        }
    }

    fn append_time_of(&self, index: LogIndex) -> Result<Timestamp, Error> {
        let in_memory = {
            let state = self.state();
            state.in_tail(index).map(|at| state.tail[at].header.append_time)
        };
        match in_memory {
            Some(time) => Ok(time),
            None => Ok(self.find(index)?.1.envelope.header.append_time),
        }
    }
}

impl State {
    /// Whether the last segment holds something and nothing has decided yet that it is closed.
    fn may_roll(&self) -> bool {
        !self.rolls && self.planned.is_empty() && self.last().end() > Head::BYTES as u64
    }
}

fn oldest(age: Duration, now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)))
}
