//! The state that all replicas of a partition share.

use smallvec::SmallVec;
use tidelog_types::{LogPosition, Offset, Term, Timestamp, batch};

use super::epochs::Epochs;
use super::producers::{Claim, Limits, ProducerTable};
use super::{Command, Compaction, Event, Outcome};
use crate::DecodeError;

/// A partition as its log describes it.
///
/// Invariants:
/// - `log_start <= high_watermark`; neither moves back.
/// - `high_watermark` is the number of offsets taken by the applied entries.
/// - Entries are applied once each, by ascending index, and terms never go down.
/// - The ordinals of the entries that took effect in a term are 0, 1, 2, …
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub(super) applied: Option<LogPosition>,
    pub(super) log_start: Offset,
    pub(super) high_watermark: Offset,
    pub(super) append_time: Timestamp,
    pub(super) ordinal_next: u64,
    pub(super) epochs: Epochs,
    pub(super) producers: ProducerTable,
    pub(super) compaction: Compaction,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// An empty partition.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub(super) fn with_limits(limits: Limits) -> Self {
        Self {
            applied: None,
            log_start: Offset::ZERO,
            high_watermark: Offset::ZERO,
            append_time: Timestamp(0),
            ordinal_next: 0,
            epochs: Epochs::default(),
            producers: ProducerTable::new(limits),
            compaction: Compaction::default(),
        }
    }

    /// Applies the committed entry at `position`.
    ///
    /// # Panics
    /// When the entry does not follow the last one, or its offsets or ordinal are not the ones that
    /// follow from the log: the log and the machine then disagree, and going on would corrupt.
    pub fn apply(&mut self, position: LogPosition, event: Event<'_>) -> Outcome {
        self.advance(position);
        let outcome = match event {
            Event::Blank | Event::Membership => Outcome::None,
            Event::Records { ordinal, base_offset, void, append_time, batches } => {
                assert_eq!(
                    base_offset, self.high_watermark,
                    "entry {position} starts at offset {base_offset}, expected {}",
                    self.high_watermark
                );
                let in_turn = ordinal == self.ordinal_next;
                assert_eq!(
                    in_turn, !void,
                    "entry {position} has ordinal {ordinal}, expected {}, but void is {void}",
                    self.ordinal_next
                );
                self.raise_time(append_time);
                if void { Outcome::Void } else { self.append(append_time, batches) }
            }
            Event::Command { append_time, command: Command::Trim { to } } => {
                self.raise_time(append_time);
                self.trim(to)
            }
            Event::Command { append_time, command: Command::Compact(goal) } => {
                self.raise_time(append_time);
                self.compaction.apply(goal, self.high_watermark, self.append_time);
                Outcome::None
            }
        };
        assert!(self.log_start <= self.high_watermark, "log start passed the high watermark");
        outcome
    }

    /// The last applied entry.
    #[must_use]
    pub const fn applied(&self) -> Option<LogPosition> {
        self.applied
    }

    /// The offset of the first record that may be read.
    #[must_use]
    pub const fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The end of the last applied record.
    #[must_use]
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The largest append time of a record or command entry so far.
    #[must_use]
    pub const fn append_time(&self) -> Timestamp {
        self.append_time
    }

    /// The ordinal of the next record entry of the last applied entry's term.
    #[must_use]
    pub const fn ordinal_next(&self) -> u64 {
        self.ordinal_next
    }

    /// The leader epoch of the record at `offset`; `None` when it lies outside the log or its epoch
    /// is forgotten.
    #[must_use]
    pub fn epoch_of(&self, offset: Offset) -> Option<Term> {
        let inside = self.log_start <= offset && offset < self.high_watermark;
        if inside { self.epochs.of(offset) } else { None }
    }

    /// The newest leader epoch not above `term` and the offset where it ends, as in Kafka's
    /// `OffsetForLeaderEpoch`; `None` when all known epochs are newer.
    #[must_use]
    pub fn epoch_end(&self, term: Term) -> Option<(Term, Offset)> {
        self.epochs.end_of(term, self.high_watermark)
    }

    /// How far the log is to be compacted.
    #[must_use]
    pub const fn compaction(&self) -> Compaction {
        self.compaction
    }

    /// How many producers are remembered.
    #[must_use]
    pub fn producers(&self) -> usize {
        self.producers.len()
    }

    /// The machine's bytes: equal for equal machines.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        super::snapshot::encode(self)
    }

    /// The inverse of [`Machine::encode`].
    ///
    /// # Errors
    /// When a newer version wrote the bytes, or they do not describe a machine.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        super::snapshot::decode(bytes)
    }

    fn advance(&mut self, position: LogPosition) {
        if let Some(applied) = self.applied {
            assert_eq!(position.index, applied.index.next(), "entries are applied in order");
            assert!(position.term >= applied.term, "terms never go down");
        }
        if self.applied.is_none_or(|applied| applied.term < position.term) {
            self.ordinal_next = 0;
            self.epochs.begin(position.term, self.high_watermark);
        }
        self.applied = Some(position);
    }

    fn raise_time(&mut self, append_time: Timestamp) {
        self.append_time = self.append_time.max(append_time);
    }

    fn append(&mut self, append_time: Timestamp, batches: &[batch::Info]) -> Outcome {
        let mut base_offsets = SmallVec::with_capacity(batches.len());
        for batch in batches {
            let base_offset = self.high_watermark;
            if let Some(claim) = Claim::of(batch) {
                self.producers.append(claim, base_offset, append_time);
            }
            self.high_watermark = base_offset.plus(u64::from(batch.count));
            base_offsets.push(base_offset);
        }
        self.ordinal_next += 1;
        Outcome::Appended { base_offsets, append_time }
    }

    fn trim(&mut self, to: Offset) -> Outcome {
        self.log_start = to.clamp(self.log_start, self.high_watermark);
        self.epochs.trim(self.log_start);
        Outcome::Trimmed { log_start: self.log_start }
    }
}
