//! A partition being read: under one grant, from one seek to the next.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::task::Context;
use std::vec;

use futures_util::task::AtomicWaker;
use tidelog_types::{Offset, TopicPartition};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::event::{Announce, Event, Taken};
use super::marks::Marks;
use super::{ConsumeError, ConsumerRecord};
use crate::cluster::locked;
use crate::fetch::{Chunk, Outlet, ReadBytes};
use crate::{ReadPosition, ReadRecord};

/// How far a reading is in its life. It only ever goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// It is not known yet where to begin.
    Starting,
    /// Records are handed out.
    Reading,
    /// No more records are handed out; marks count.
    Stopped,
    /// Marks count no more.
    Ended,
}

/// A partition being read under one grant, from one seek to the next.
///
/// Records and marks meet under one lock: what was stopped hands nothing out any more, and a record of
/// an earlier reading of the same partition marks nothing in this one.
pub(super) struct Reading {
    pub(super) partition: TopicPartition,
    pub(super) topic_id: String,
    pub(super) granted_epoch: u32,
    state: Mutex<State>,
    /// Of the partition's stream, when it has one.
    waker: AtomicWaker,
}

struct State {
    phase: Phase,
    paused: bool,
    /// Announced, and not yet found without records.
    listed: bool,
    announce: Announce,
    pieces: VecDeque<Piece>,
    marks: Marks,
    /// Where the reading began: there is nothing of its own to commit up to here.
    start: Offset,
    /// Marks of an earlier reading under the same grant that were not committed.
    owed: Option<Offset>,
    committed: Option<Offset>,
    high_watermark: Option<Offset>,
    /// Behind the last record that was fetched.
    fetched: Offset,
    /// Whether reading goes on after the last error.
    retry: bool,
    fetcher: Option<AbortHandle>,
    /// When a record was marked last, or handed out while none waited for its mark.
    progress: Instant,
}

/// Records that wait to be handed out, or an error between them.
enum Piece {
    Records { records: vec::IntoIter<ReadRecord>, _read: ReadBytes },
    Failure(ConsumeError),
}

impl Reading {
    pub(super) fn new(
        partition: TopicPartition,
        topic_id: String,
        granted_epoch: u32,
        committed: Option<Offset>,
        announce: Announce,
    ) -> Self {
        let state = State {
            phase: Phase::Starting,
            paused: false,
            listed: false,
            announce,
            pieces: VecDeque::new(),
            marks: Marks::new(Offset::ZERO),
            start: Offset::ZERO,
            owed: None,
            committed,
            high_watermark: None,
            fetched: Offset::ZERO,
            retry: false,
            fetcher: None,
            progress: Instant::now(),
        };
        let (state, waker) = (Mutex::new(state), AtomicWaker::new());
        Self { partition, topic_id, granted_epoch, state, waker }
    }

    /// Another reading under the same grant, for after a seek.
    pub(super) fn again(&self) -> Self {
        let (partition, topic_id) = (self.partition.clone(), self.topic_id.clone());
        let mut old = locked(&self.state);
        let announce = old.announce.clone();
        let new = Self::new(partition, topic_id, self.granted_epoch, old.committed, announce);
        {
            let mut state = locked(&new.state);
            (state.paused, state.owed) = (old.paused, old.due());
            state.high_watermark = old.high_watermark;
        }
        old.end(Phase::Ended);
        drop(old);
        self.waker.wake();
        new
    }

    /// Begins to hand out, from `start` on; `read` starts the task that fetches.
    pub(super) fn begin(&self, start: Offset, read: impl FnOnce() -> AbortHandle) {
        let mut state = locked(&self.state);
        if state.phase == Phase::Starting {
            state.phase = Phase::Reading;
            (state.start, state.fetched) = (start, start);
            state.marks = Marks::new(start);
            state.fetcher = Some(read());
        }
    }

    /// Where to fetch from, when it is to go on after an error.
    pub(super) fn retry(&self) -> Option<Offset> {
        let mut state = locked(&self.state);
        let retry = std::mem::take(&mut state.retry) && state.phase == Phase::Reading;
        retry.then_some(state.fetched)
    }

    /// Hands out no more; marks count still.
    pub(super) fn stop(&self) {
        locked(&self.state).end(Phase::Stopped);
        self.waker.wake();
    }

    /// Marks count no more.
    pub(super) fn end(&self) {
        locked(&self.state).end(Phase::Ended);
        self.waker.wake();
    }

    pub(super) fn is_starting(&self) -> bool {
        locked(&self.state).phase == Phase::Starting
    }

    pub(super) fn is_held(&self) -> bool {
        locked(&self.state).phase < Phase::Ended
    }

    pub(super) fn is_stopped(&self) -> bool {
        locked(&self.state).phase > Phase::Reading
    }

    pub(super) fn is_paused(&self) -> bool {
        locked(&self.state).paused
    }

    pub(super) fn pause(self: &Arc<Self>, paused: bool) {
        let mut state = locked(&self.state);
        state.paused = paused;
        self.announce(&mut state);
    }

    /// Has errors and records come by `announce` from now on.
    pub(super) fn announce_by(self: &Arc<Self>, announce: Announce) {
        let mut state = locked(&self.state);
        (state.announce, state.listed) = (announce, false);
        self.announce(&mut state);
    }

    pub(super) fn mark(&self, offset: Offset) {
        let mut state = locked(&self.state);
        if state.phase < Phase::Ended {
            state.marks.mark(offset);
            state.progress = Instant::now();
        }
    }

    /// What is to be committed: up to there all records are marked, and it is news.
    pub(super) fn due(&self) -> Option<Offset> {
        locked(&self.state).due()
    }

    pub(super) fn committed(&self) -> Option<Offset> {
        locked(&self.state).committed
    }

    /// Notes what is committed.
    pub(super) fn set_committed(&self, offset: Offset) {
        let mut state = locked(&self.state);
        state.committed = state.committed.max(Some(offset));
    }

    /// Whether records wait for their mark.
    pub(super) fn is_waiting(&self) -> bool {
        let state = locked(&self.state);
        state.phase == Phase::Reading && !state.marks.is_done()
    }

    /// When a record was marked last, or handed out while none waited for its mark.
    pub(super) fn progress(&self) -> Instant {
        locked(&self.state).progress
    }

    pub(super) fn position(&self) -> ReadPosition {
        let state = locked(&self.state);
        ReadPosition {
            partition: self.partition.clone(),
            next: (state.phase > Phase::Starting).then(|| state.marks.next()),
            high_watermark: state.high_watermark.unwrap_or(Offset::ZERO),
        }
    }

    /// How many records are still to be handed out.
    pub(super) fn lag(&self) -> Option<u64> {
        let state = locked(&self.state);
        let next = (state.phase > Phase::Starting).then(|| state.marks.next())?;
        Some(state.high_watermark?.0.saturating_sub(next.0))
    }

    /// Puts an error behind what waits to be handed out.
    pub(super) fn fail(self: &Arc<Self>, error: ConsumeError) {
        let mut state = locked(&self.state);
        if state.phase < Phase::Stopped {
            state.pieces.push_back(Piece::Failure(error));
            self.announce(&mut state);
        }
    }

    /// Takes the next record; tells whether it is another partition's turn.
    pub(super) fn take(self: &Arc<Self>) -> (Taken, bool) {
        let mut state = locked(&self.state);
        match state.pop() {
            None => {
                state.listed = false;
                let ended = state.phase >= Phase::Stopped;
                (if ended { Taken::Ended } else { Taken::Nothing }, true)
            }
            Some((Ok(record), last)) => {
                let over = last && self.requeue(&mut state);
                (Taken::Record(ConsumerRecord::new(record, Arc::clone(self))), over)
            }
            Some((Err(error), _)) => {
                let over = self.requeue(&mut state);
                (Taken::Failure(error), over)
            }
        }
    }

    /// Takes as many records as are there, at most `max`; tells whether it is another's turn.
    pub(super) fn take_many(
        self: &Arc<Self>,
        max: usize,
        records: &mut Vec<ConsumerRecord>,
    ) -> (Option<ConsumeError>, bool) {
        let mut state = locked(&self.state);
        loop {
            if records.len() >= max {
                return (None, false);
            }
            if let Some(Piece::Failure(_)) = state.pieces.front()
                && !records.is_empty()
            {
                return (None, false);
            }
            match state.pop() {
                None => {
                    state.listed = false;
                    return (None, true);
                }
                Some((Ok(record), _)) => {
                    records.push(ConsumerRecord::new(record, Arc::clone(self)));
                }
                Some((Err(error), _)) => return (Some(error), self.requeue(&mut state)),
            }
        }
    }

    /// As [`Reading::take`], for the partition's stream, which is woken when there is more.
    pub(super) fn poll_take(self: &Arc<Self>, cx: &Context<'_>) -> Taken {
        // Before the look: what comes after it wakes.
        self.waker.register(cx.waker());
        self.take().0
    }

    /// Goes behind the others, so that each partition gets its turn.
    fn requeue(self: &Arc<Self>, state: &mut State) -> bool {
        state.listed = false;
        self.announce(state);
        true
    }

    fn announce(self: &Arc<Self>, state: &mut State) {
        let quiet = state.pieces.is_empty() || state.paused || state.phase > Phase::Reading;
        match &state.announce {
            Announce::Stream => self.waker.wake(),
            Announce::Consumer(events) if !quiet && !state.listed => {
                // It fails when the consumer is gone, and then nobody wants records.
                state.listed = events.send(Event::Ready(Arc::clone(self))).is_ok();
            }
            Announce::Consumer(_) => {}
        }
    }
}

impl State {
    /// The next record or error, and whether it is the last of its piece.
    fn pop(&mut self) -> Option<(Result<ReadRecord, ConsumeError>, bool)> {
        if self.paused || self.phase > Phase::Reading {
            return None;
        }
        match self.pieces.front_mut()? {
            Piece::Records { records, .. } => {
                let record = records.next().expect("pieces are dropped when they are empty");
                let last = records.as_slice().is_empty();
                if last {
                    self.pieces.pop_front();
                }
                if self.marks.is_done() {
                    self.progress = Instant::now();
                }
                self.marks.hand_out(record.offset);
                Some((Ok(record), last))
            }
            Piece::Failure(_) => match self.pieces.pop_front() {
                Some(Piece::Failure(error)) => Some((Err(error), true)),
                _ => None,
            },
        }
    }

    fn due(&self) -> Option<Offset> {
        let done = self.marks.done();
        let own = (done > self.start && self.phase > Phase::Starting).then_some(done);
        let due = own.max(self.owed);
        due.filter(|due| Some(*due) > self.committed && self.phase < Phase::Ended)
    }

    fn end(&mut self, phase: Phase) {
        self.phase = self.phase.max(phase);
        // Dropped, the pieces count as read; nobody is left to grant that.
        self.pieces.clear();
        if let Some(fetcher) = self.fetcher.take() {
            fetcher.abort();
        }
    }
}

impl Outlet for Arc<Reading> {
    fn put(&self, chunk: Chunk) {
        let Chunk { high_watermark, records, read } = chunk;
        let mut state = locked(&self.state);
        if state.phase != Phase::Reading {
            return;
        }
        match records {
            Ok(records) => {
                state.high_watermark = Some(high_watermark);
                let Some(last) = records.last() else { return };
                state.fetched = last.offset.next();
                let records = records.into_iter();
                state.pieces.push_back(Piece::Records { records, _read: read });
            }
            Err(error) => {
                state.retry = error.is_retriable();
                state.pieces.push_back(Piece::Failure(error.into()));
            }
        }
        self.announce(&mut state);
    }

    fn heard(&self, high_watermark: Offset) {
        locked(&self.state).high_watermark = Some(high_watermark);
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading")
            .field("partition", &self.partition)
            .field("granted_epoch", &self.granted_epoch)
            .finish_non_exhaustive()
    }
}
