//! Compaction: of each key the newest record stays.
//!
//! A pass reads what came since the last one and notes the newest offset of each key in it; then it
//! goes over the closed segments, oldest first, and writes those anew in which a record is superseded
//! by a noted one, or is a tombstone whose time is over. Envelopes stay, so the Raft log has no hole;
//! what is taken out are records within their batches.
//!
//! Invariants:
//! - Of a key, the record with the highest offset below the end of what was noted is never taken out,
//!   unless it is a tombstone.
//! - Segments are written oldest first, each durably before the next: a tombstone goes after all that
//!   it supersedes, whatever cuts the pass short.
//! - What the pass notes and takes out lies below the goal, which is committed: no cut reaches it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use tidelog_types::batch::{self, BatchError, BatchView, Info, Keyed};
use tidelog_types::{LogIndex, Offset, canary};

use super::Log;
use super::compacted::Compacted;
use super::rewrite::{Closed, Rewrite};
use crate::entry::{Entry, Header, Kind, NewEntry};
use crate::envelope::Part;
use crate::error::Error;

/// What a key costs in memory beside its bytes.
const KEY_BYTES: usize = 64;

/// What a pass may use.
#[derive(Clone, Copy, Debug)]
pub struct CompactLimits {
    /// The bytes of keys that are noted at a time. With more keys than that a pass ends early and the
    /// next goes on, reading all segments again.
    pub keys_bytes_max: usize,
    /// What a batch may inflate to; one that is larger stays as it is.
    pub inflate_bytes_max: usize,
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactReport {
    /// Bytes that were read.
    pub read: u64,
    /// Bytes that were written.
    pub written: u64,
    /// Bytes by which segments became smaller.
    pub freed: u64,
    /// Records that were taken out.
    pub removed: u64,
}

/// What one step of a pass did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactStep {
    /// So many bytes were read.
    Read(u64),
    /// The pass is over.
    Over(CompactReport),
}

/// One pass over a log.
#[derive(Debug)]
pub struct Compaction {
    log: Arc<Log>,
    since: u64,
    rule: Rule,
    /// What the log is compacted to when the pass is over, unless keys run out of room.
    goal: Compacted,
    phase: Phase,
    report: CompactReport,
}

/// Which records stay.
#[derive(Debug)]
struct Rule {
    limits: CompactLimits,
    /// The newest offset of each key between what was compacted before and `end`.
    newest: HashMap<Bytes, Offset>,
    keys_bytes: usize,
    /// Records from here on stay.
    end: Offset,
    /// Tombstones below this go.
    tombstones_to: Offset,
}

#[derive(Debug)]
enum Phase {
    /// Keys are noted from this entry on.
    Keys(LogIndex),
    /// The first segment that begins here or later comes next.
    Segment(LogIndex),
    /// It is looked whether anything goes from a segment, from this entry on.
    Look { closed: Closed, next: LogIndex },
    /// A segment is written anew.
    Write(Box<Rewrite>),
    /// Nothing is left to do.
    Over,
}

impl Compaction {
    /// A pass up to `goal`, which is committed. Records above [`Compacted::to`] and all in the segment
    /// that takes entries stay.
    #[must_use]
    pub fn new(log: Arc<Log>, goal: Compacted, limits: CompactLimits) -> Self {
        let since = log.uncompactions();
        let done = log.compacted();
        let (from, end) = {
            let state = log.state();
            let behind = state.segments.partition_point(|s| s.base_offset() <= done.to);
            let from = state.segments[behind.saturating_sub(1)].first_index();
            // Below the beginning of the log nothing is left to be superseded.
            (from, done.to.max(state.first().base_offset().min(goal.to)))
        };
        let rule = Rule {
            limits,
            newest: HashMap::new(),
            keys_bytes: 0,
            end,
            tombstones_to: goal.tombstones_to,
        };
        let phase = Phase::Keys(from);
        Self { log, since, rule, goal, phase, report: CompactReport::default() }
    }

    /// Goes on by about `bytes` bytes. Blocks.
    ///
    /// # Errors
    /// Damage, the disk, or [`Error::Gone`] when the log was cut or purged under the pass: then
    /// another pass is due. What was done stays done.
    pub fn step(&mut self, bytes: usize) -> Result<CompactStep, Error> {
        let before = self.report.read;
        self.phase = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Keys(next) => self.note_keys(next, bytes)?,
            Phase::Segment(from) => self.begin_segment(from)?,
            Phase::Look { closed, next } => self.look(closed, next, bytes)?,
            Phase::Write(rewrite) => self.write(rewrite, bytes)?,
            Phase::Over => Phase::Over,
        };
        Ok(match self.phase {
            Phase::Over => CompactStep::Over(self.report),
            _ => CompactStep::Read(self.report.read - before),
        })
    }

    fn note_keys(&mut self, mut next: LogIndex, bytes: usize) -> Result<Phase, Error> {
        let active = self.log.state().last().first_index();
        if next >= active {
            return Ok(Phase::Segment(LogIndex::ZERO));
        }
        for entry in self.load(next, active, bytes)? {
            let end = entry.header.next_offset();
            if end > self.goal.to || self.rule.is_full() {
                return Ok(Phase::Segment(LogIndex::ZERO));
            }
            next = entry.header.index().next();
            if end > self.rule.end {
                self.rule.note(&entry)?;
                self.rule.end = end;
            }
        }
        Ok(Phase::Keys(next))
    }

    fn begin_segment(&mut self, from: LogIndex) -> Result<Phase, Error> {
        let first = {
            let state = self.log.state();
            let closed = state.segments.len() - 1;
            let mut rest = state.segments.iter().take(closed);
            rest.find(|segment| segment.first_index() >= from).cloned()
        };
        let Some(first) = first.filter(|first| first.base_offset() < self.rule.end) else {
            return self.finish();
        };
        let closed = self.log.closed_segment(first.first_index())?;
        let next = closed.segment.first_index();
        Ok(Phase::Look { closed, next })
    }

    fn look(&mut self, closed: Closed, mut next: LogIndex, bytes: usize) -> Result<Phase, Error> {
        let end = closed.end.next_index();
        for entry in self.load(next, end, bytes)? {
            if self.rule.takes_from(&entry)? {
                return Ok(Phase::Write(Box::new(Rewrite::begin(&self.log, closed)?)));
            }
            next = entry.header.index().next();
        }
        Ok(if next < end { Phase::Look { closed, next } } else { Phase::Segment(end) })
    }

    fn write(&mut self, mut rewrite: Box<Rewrite>, bytes: usize) -> Result<Phase, Error> {
        let missing = rewrite.missing();
        if missing.is_empty() {
            let (old, new) = (rewrite.segment().end(), rewrite.bytes());
            self.report.written += new;
            self.report.freed += old.saturating_sub(new);
            rewrite.finish(|| Ok(()))?;
            return Ok(Phase::Segment(missing.start));
        }
        let mut run = Vec::new();
        for entry in self.load(missing.start, missing.end, bytes)? {
            let (entry, removed) = self.rule.apply(entry)?;
            self.report.removed += removed;
            run.push(entry);
        }
        rewrite.push(run)?;
        Ok(Phase::Write(rewrite))
    }

    fn finish(&mut self) -> Result<Phase, Error> {
        let Compacted { to, tombstones_to } = self.log.compacted();
        let reached = Compacted {
            to: self.rule.end.max(to),
            tombstones_to: self.goal.tombstones_to.min(self.rule.end).max(tombstones_to),
        };
        if reached != (Compacted { to, tombstones_to }) {
            let noted = self.log.note_compacted(reached, self.since);
            noted.map_err(Error::io("note compaction of", &self.log.dir))?;
        }
        Ok(Phase::Over)
    }

    /// Entries from `from` on, at least one.
    fn load(&mut self, from: LogIndex, end: LogIndex, bytes: usize) -> Result<Vec<Entry>, Error> {
        let entries = self.log.load(from..end, bytes)?;
        if entries.is_empty() {
            return Err(Error::Gone { index: from });
        }
        let batches = entries.iter().flat_map(|entry| &entry.batches);
        self.report.read += batches.map(|info| u64::from(info.bytes)).sum::<u64>();
        Ok(entries)
    }
}

impl Rule {
    fn is_full(&self) -> bool {
        self.keys_bytes >= self.limits.keys_bytes_max
    }

    /// Notes the keys of an entry.
    fn note(&mut self, entry: &Entry) -> Result<(), Error> {
        let mut added = 0;
        for (info, part) in batches(entry)? {
            let newest = &mut self.newest;
            each_key(&info, &part, self.limits.inflate_bytes_max, |offset, record| {
                let Some(key) = record.key else { return };
                match newest.get_mut(key) {
                    Some(newest) => *newest = offset,
                    None => {
                        newest.insert(Bytes::copy_from_slice(key), offset);
                        added += key.len() + KEY_BYTES;
                    }
                }
            });
        }
        self.keys_bytes += added;
        Ok(())
    }

    /// Whether a record stays. One without a key supersedes nothing and is superseded by none.
    fn keeps(&self, offset: Offset, record: &Keyed<'_>) -> bool {
        let Some(key) = record.key else { return true };
        if offset >= self.end {
            return true;
        }
        let is_over = record.is_tombstone && offset < self.tombstones_to;
        match self.newest.get(key) {
            Some(newest) if canary!(CompactionTakesNewest) => offset < *newest,
            Some(newest) if offset < *newest => false,
            _ => !is_over,
        }
    }

    /// Whether any record of an entry goes.
    fn takes_from(&mut self, entry: &Entry) -> Result<bool, Error> {
        if entry.header.base_offset >= self.end {
            return Ok(false);
        }
        let mut takes = false;
        for (info, part) in batches(entry)? {
            let looked = each_key(&info, &part, self.limits.inflate_bytes_max, |offset, record| {
                takes |= !self.keeps(offset, record);
            });
            if !looked {
                self.keep_tombstones_from(entry.header.base_offset);
            }
        }
        Ok(takes)
    }

    /// What an entry at `offset` holds cannot be seen, and stays whatever supersedes it: so do all
    /// tombstones behind it.
    fn keep_tombstones_from(&mut self, offset: Offset) {
        self.tombstones_to = self.tombstones_to.min(offset);
    }

    /// The entry as it is to be written, and how many records it has lost.
    fn apply(&mut self, entry: Entry) -> Result<(NewEntry, u64), Error> {
        let mut parts = entry.body.load()?;
        let mut removed = 0;
        let mut now = SmallVec::<[Part; 1]>::new();
        for (info, part) in batches(&entry)? {
            now.push(Part { bytes: info.bytes, crc: info.crc });
            let at = now.len() - 1;
            match self.retain(&info, &part) {
                Ok(Some((left, gone))) => {
                    parts[at] = left;
                    removed += gone;
                }
                Ok(None) => {}
                Err(_) => self.keep_tombstones_from(entry.header.base_offset),
            }
        }
        let Header { position, kind, append_time, ordinal, chain, .. } = entry.header;
        let original = match entry.original {
            Some(original) => Some(original),
            None => (removed > 0).then_some(now),
        };
        let expect_chain = Some(chain);
        let body = parts;
        let entry = NewEntry { position, kind, append_time, ordinal, body, expect_chain, original };
        Ok((entry, removed))
    }

    /// What is left of a batch, and how many records have gone; `None` when it stays as it is. An error
    /// when it cannot be inflated here: it is whole all the same, and stays.
    fn retain(&self, info: &Info, part: &Bytes) -> Result<Option<(Bytes, u64)>, BatchError> {
        let view = BatchView::new(part)?;
        if view.is_control() {
            return Ok(None);
        }
        let (base, mut gone) = (view.base_offset(), 0);
        let left = batch::retain(part, self.limits.inflate_bytes_max, |record| {
            let keeps = self.keeps(placed(info, base, record.offset), &record);
            gone += u64::from(!keeps);
            keeps
        });
        Ok(left?.map(|left| (left, gone)))
    }
}

/// The batches of an entry whose records may go, with their places in the log. A void entry's take no
/// offsets, and those of a control batch are no records.
fn batches(entry: &Entry) -> Result<Vec<(Info, Bytes)>, Error> {
    if entry.header.kind != Kind::Records || entry.header.void {
        return Ok(Vec::new());
    }
    let parts = entry.body.load()?;
    Ok(entry.batches.iter().copied().zip(parts).collect())
}

/// Shows the keys of a batch with their offsets in the log; `false` when not all of them can be seen, for
/// it cannot be inflated here.
fn each_key(
    info: &Info,
    part: &Bytes,
    inflate_bytes_max: usize,
    mut each: impl FnMut(Offset, &Keyed<'_>),
) -> bool {
    let Ok(view) = BatchView::new(part) else { return false };
    if view.is_control() {
        return true;
    }
    let base = view.base_offset();
    let each = |record: Keyed<'_>| each(placed(info, base, record.offset), &record);
    batch::each_key(part, inflate_bytes_max, each).is_ok()
}

/// In memory a batch may not be stamped yet: its place is what the log says.
fn placed(info: &Info, base: Offset, offset: Offset) -> Offset {
    info.base_offset.plus(offset.0 - base.0)
}
