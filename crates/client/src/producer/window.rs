//! The batches of one partition that are encoded and not yet acknowledged.
//!
//! No I/O and no clock: what was sent, what was answered, and what is to be sent again.
//!
//! A batch that fails drags along the later ones on their way: the broker refuses them as out of
//! sequence, or never sees them. So after a failure nothing more is sent until every batch on its way
//! has its answer, or is known to get none; then all go again, in the same order under the same
//! sequences. Only when it is certain that none of them was written may they get other sequences.

use std::collections::VecDeque;

use bytes::Bytes;
use tidelog_proto::v1;
use tidelog_types::batch::{self, BatchError};
use tidelog_types::{ProducerEpoch, ProducerId};
use tokio::time::Instant;

use super::accumulator::Promise;
use super::completion::Written;

/// What marks the batches of a producer in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: ProducerId,
    pub(super) epoch: ProducerEpoch,
}

/// An encoded batch. `answer_awaited` and `in_doubt` together tell whether it may be in the log.
pub(super) struct Sealed {
    pub(super) bytes: Bytes,
    pub(super) records: u32,
    pub(super) opened: Instant,
    pub(super) promise: Promise,
    /// Number of the request, while its answer is awaited.
    awaited: Option<u64>,
    /// An earlier request may have been carried out.
    in_doubt: bool,
}

impl Sealed {
    pub(super) fn new(bytes: Bytes, records: u32, opened: Instant, promise: Promise) -> Self {
        Self { bytes, records, opened, promise, awaited: None, in_doubt: false }
    }

    pub(super) fn maybe_written(&self) -> bool {
        self.in_doubt || self.awaited.is_some()
    }
}

/// What an answer came to.
pub(super) enum Answered {
    /// It was for a request that nobody waits for any more.
    Stale,
    /// The oldest batch is written.
    Written(Sealed, Written),
    /// A batch failed; the others on their way are waited for.
    Draining,
    /// A batch failed and nothing is on its way: this was the first failure.
    Drained(v1::Error),
}

/// Invariants:
/// - `batches` is in the order of sequences, without a gap from the oldest to `sequence_next`.
/// - The first `sent` of them were sent in this session, in order; the others were not.
/// - While there is a `failure`, nothing is sent.
pub(super) struct Window {
    batches: VecDeque<Sealed>,
    sent: usize,
    failure: Option<v1::Error>,
    identity: Identity,
    sequence_next: i32,
}

impl Window {
    pub(super) fn new(identity: Identity) -> Self {
        Self { batches: VecDeque::new(), sent: 0, failure: None, identity, sequence_next: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.failure.is_some()
    }

    pub(super) fn awaits_answer(&self) -> bool {
        self.batches.iter().any(|batch| batch.awaited.is_some())
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// What the next batch is to be encoded with.
    pub(super) fn next_claim(&self) -> (ProducerId, ProducerEpoch, i32) {
        (self.identity.id, self.identity.epoch, self.sequence_next)
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        self.batches.front().map(|batch| batch.opened)
    }

    /// Takes a batch that was encoded with [`Window::next_claim`].
    pub(super) fn push(&mut self, batch: Sealed) {
        self.sequence_next = sequence_after(self.sequence_next, batch.records);
        self.batches.push_back(batch);
    }

    /// The next batch to send, at most `in_flight_max` at once, under request number `request`.
    pub(super) fn send_next(&mut self, in_flight_max: usize, request: u64) -> Option<&Sealed> {
        if self.failure.is_some() || self.sent >= in_flight_max {
            return None;
        }
        let batch = self.batches.get_mut(self.sent)?;
        batch.awaited = Some(request);
        batch.promise.maybe_written = true;
        self.sent += 1;
        Some(batch)
    }

    pub(super) fn answer(&mut self, request: u64, answer: Result<Written, v1::Error>) -> Answered {
        let at = self.batches.iter().position(|batch| batch.awaited == Some(request));
        let Some(batch) = at.and_then(|at| self.batches.get_mut(at)) else {
            return Answered::Stale;
        };
        batch.awaited = None;
        let failure = match answer {
            Ok(written) if at == Some(0) && self.failure.is_none() => {
                self.sent -= 1;
                let oldest = self.batches.pop_front().expect("it was found at the front");
                return Answered::Written(oldest, written);
            }
            // A later batch is written only behind the earlier ones, so they are written too, and the
            // broker will know all of them when they come again.
            Ok(_) => {
                batch.in_doubt = true;
                None
            }
            Err(error) => {
                batch.in_doubt |= error.maybe_written;
                batch.promise.maybe_written = batch.in_doubt;
                Some(error)
            }
        };
        if self.failure.is_none() {
            self.failure = Some(failure.unwrap_or_else(|| v1::Error {
                name: "OUT_OF_TURN".to_owned(),
                message: "the broker answered a later batch first".to_owned(),
                retriable: true,
                ..v1::Error::default()
            }));
        }
        if self.awaits_answer() {
            return Answered::Draining;
        }
        self.sent = 0;
        self.failure.take().map_or(Answered::Draining, Answered::Drained)
    }

    /// No more answers will come in this session. Gives the failure that was being drained.
    pub(super) fn abandon(&mut self) -> Option<v1::Error> {
        for batch in &mut self.batches {
            batch.in_doubt |= batch.awaited.take().is_some();
        }
        self.sent = 0;
        self.failure.take()
    }

    /// Takes out the oldest batch. The later ones then need a new identity, or to fail too, unless it
    /// was written.
    pub(super) fn take_oldest(&mut self) -> Option<Sealed> {
        self.sent = self.sent.saturating_sub(1);
        self.batches.pop_front()
    }

    /// Takes out all batches that may be in the log.
    pub(super) fn take_doubtful(&mut self) -> Vec<Sealed> {
        let batches = std::mem::take(&mut self.batches);
        let (doubtful, certain): (Vec<_>, VecDeque<_>) = {
            let mut doubtful = Vec::new();
            let mut certain = VecDeque::new();
            for batch in batches {
                if batch.maybe_written() { doubtful.push(batch) } else { certain.push_back(batch) }
            }
            (doubtful, certain)
        };
        self.batches = certain;
        (self.sent, self.failure) = (0, None);
        doubtful
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> Vec<Sealed> {
        (self.sent, self.failure) = (0, None);
        self.batches.drain(..).collect()
    }

    /// Begins again at sequence 0 under `identity`, with batches of which none may be in the log.
    ///
    /// # Panics
    /// When one may be: it could be written twice.
    pub(super) fn renumber(&mut self, identity: Identity) -> Result<(), BatchError> {
        (self.identity, self.sequence_next) = (identity, 0);
        (self.sent, self.failure) = (0, None);
        for sealed in &mut self.batches {
            assert!(!sealed.maybe_written(), "a batch that may be written keeps its sequence");
            let claim = (identity.id, identity.epoch, self.sequence_next);
            sealed.bytes = batch::set_producer(std::mem::take(&mut sealed.bytes), Some(claim))?;
            self.sequence_next = sequence_after(self.sequence_next, sealed.records);
        }
        Ok(())
    }
}

/// The sequence number behind `records` records from `base`; wraps after `i32::MAX` to 0.
fn sequence_after(base: i32, records: u32) -> i32 {
    ((base as u32).wrapping_add(records) & i32::MAX as u32) as i32
}
