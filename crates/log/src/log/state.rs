//! What a log holds in memory.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use tidelog_types::batch::Info;
use tidelog_types::{LogIndex, Timestamp};

use super::compacted::Compacted;
use super::env::{Done, Listener};
use crate::entry::{Body, Entry, Header};
use crate::envelope::Table;
use crate::frontier::Frontier;
use crate::segment::{Head, Segment};
use crate::start::StartPoint;

/// What an entry in memory costs beside its body: itself, and the rest of what it keeps alive.
const HELD_BYTES: u64 = 256;

/// An entry in memory.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) header: Header,
    pub(super) batches: SmallVec<[Info; 1]>,
    pub(super) table: Table,
    pub(super) body: SmallVec<[Bytes; 1]>,
    /// Its place in its segment.
    pub(super) position: u64,
    /// It begins a segment.
    pub(super) begins: bool,
}

impl Held {
    pub(super) fn cost(&self) -> u64 {
        HELD_BYTES + u64::from(self.table.body_bytes())
    }

    /// The newest record timestamp in it.
    pub(super) fn max_timestamp(&self) -> Option<Timestamp> {
        if self.header.void {
            return None;
        }
        self.batches.iter().map(|info| info.max_timestamp).max()
    }

    pub(super) fn entry(&self) -> Entry {
        Entry {
            header: self.header,
            batches: self.batches.clone(),
            body: Body::Memory(self.body.clone()),
            original: self.table.original.clone(),
        }
    }
}

/// Everything that changes, under one short lock.
///
/// Invariants: `tail` ends at `frontier` and holds at least everything from `synced` on; `planned`
/// are the segments that pending entries begin and that have no file yet; `synced` lies in the last of `segments`.
pub(super) struct State {
    /// Of the whole log.
    pub(super) frontier: Frontier,
    /// Of what is on stable storage.
    pub(super) synced: Frontier,
    /// Oldest first, never empty.
    pub(super) segments: VecDeque<Arc<Segment>>,
    /// The frontiers before segments whose files do not exist yet.
    pub(super) planned: VecDeque<Frontier>,
    /// The length of the newest segment, planned ones included, once all is written.
    pub(super) fill: u64,
    pub(super) tail: VecDeque<Held>,
    pub(super) done: Vec<Done>,
    /// Closed segments whose index points are to be written.
    pub(super) unindexed: VecDeque<Arc<Segment>>,
    /// Start points to write.
    pub(super) starts: BTreeMap<LogIndex, StartPoint>,
    pub(super) poison: Option<Arc<io::Error>>,
    /// A full disk is not waited out.
    pub(super) ends: bool,
    /// Something pending found no room on the disk.
    pub(super) waits: bool,
    pub(super) listeners: Vec<Listener>,
    /// How far the closed segments are compacted.
    pub(super) compacted: Compacted,
    /// How often that was made less.
    pub(super) uncompactions: u64,
    /// The next entry begins a segment, however short the last one is.
    pub(super) rolls: bool,
}

impl State {
    /// The state of a log whose entries are all on stable storage, up to `synced`.
    pub(super) fn new(segments: VecDeque<Arc<Segment>>, synced: Frontier) -> Self {
        let fill = segments.back().map_or(Head::BYTES as u64, |last| last.end());
        Self {
            frontier: synced,
            synced,
            segments,
            planned: VecDeque::new(),
            fill,
            tail: VecDeque::new(),
            done: Vec::new(),
            unindexed: VecDeque::new(),
            starts: BTreeMap::new(),
            poison: None,
            ends: false,
            waits: false,
            listeners: Vec::new(),
            compacted: Compacted::default(),
            uncompactions: 0,
            rolls: false,
        }
    }

    pub(super) fn first(&self) -> &Arc<Segment> {
        self.segments.front().expect("a log has at least one segment")
    }

    pub(super) fn last(&self) -> &Arc<Segment> {
        self.segments.back().expect("a log has at least one segment")
    }

    pub(super) fn is_last(&self, segment: &Arc<Segment>) -> bool {
        Arc::ptr_eq(self.last(), segment)
    }

    pub(super) fn first_index(&self) -> LogIndex {
        self.first().first_index()
    }

    /// The next closed segment whose index points are to be written.
    pub(super) fn next_unindexed(&mut self) -> Option<Arc<Segment>> {
        // Whoever has poisoned the log may have given its directory to another.
        if self.poison.is_some() { None } else { self.unindexed.pop_front() }
    }

    pub(super) fn has_pending(&self) -> bool {
        self.frontier.last != self.synced.last || !self.done.is_empty()
    }

    /// The place of an index in the tail.
    pub(super) fn in_tail(&self, index: LogIndex) -> Option<usize> {
        let first = self.tail.front()?.header.position.index;
        let at = usize::try_from(index.0.checked_sub(first.0)?).ok()?;
        (at < self.tail.len()).then_some(at)
    }

    /// Entries that are not on stable storage.
    pub(super) fn pending(&self) -> Vec<Held> {
        match self.in_tail(self.synced.next_index()) {
            Some(at) => self.tail.range(at..).cloned().collect(),
            None => Vec::new(),
        }
    }

    /// The segment that holds an index, planned ones not counted.
    pub(super) fn segment_of(&self, index: LogIndex) -> Option<usize> {
        self.segments.partition_point(|s| s.first_index() <= index).checked_sub(1)
    }

    /// Drops flushed entries below `end`; returns what they cost.
    pub(super) fn evict(&mut self, end: LogIndex) -> u64 {
        let end = end.min(self.synced.next_index());
        let mut freed = 0;
        while let Some(held) = self.tail.front()
            && held.header.position.index < end
        {
            freed += held.cost();
            self.tail.pop_front();
        }
        freed
    }

    /// Drops the entries from `end` on; returns what they cost.
    pub(super) fn cut_tail(&mut self, end: LogIndex) -> u64 {
        let mut freed = 0;
        while let Some(held) = self.tail.back()
            && held.header.position.index >= end
        {
            freed += held.cost();
            self.tail.pop_back();
        }
        freed
    }

    pub(super) fn drop_tail(&mut self) -> u64 {
        self.tail.drain(..).map(|held| held.cost()).sum()
    }
}
