//! What a subscription knows of a partition that it holds: what was sent, and what is done.

use std::collections::{BTreeSet, VecDeque};

use tidelog_proto::v1::{FetchRecordsResponse, FetchedRecord};

use super::puller::Puller;

/// Records that wait to be sent while the next piece is read already.
const READ_AHEAD_RECORDS: usize = 500;

/// A partition that the subscription holds.
#[derive(Debug)]
pub(super) struct Held {
    /// Under which grant.
    pub(super) granted: u32,
    puller: Puller,
    /// `None` while its first position is looked for.
    progress: Option<Progress>,
}

impl Held {
    /// A partition that goes on at what is committed, or begins where `puller` will tell.
    pub(super) fn new(granted: u32, committed: Option<i64>, puller: Puller) -> Self {
        Self { granted, puller, progress: committed.map(|start| Progress::new(start, true)) }
    }

    /// It begins at `start`. Nothing is sent before that is committed: the next holder must not begin
    /// later than this one did.
    pub(super) fn begin(&mut self, start: i64) {
        self.progress.get_or_insert_with(|| Progress::new(start, false));
        self.puller.next();
    }

    /// Takes what was read.
    pub(super) fn arrive(&mut self, read: FetchRecordsResponse) {
        if let Some(progress) = &mut self.progress {
            progress.arrive(read);
        }
        self.read_ahead();
    }

    /// At most `most` records to send now.
    pub(super) fn send(&mut self, most: usize) -> Vec<FetchedRecord> {
        let records = self.progress.as_mut().map(|progress| progress.send(most));
        self.read_ahead();
        records.unwrap_or_default()
    }

    /// Whether there is something to send.
    pub(super) fn can_send(&self) -> bool {
        let ready = |progress: &Progress| progress.has_begun() && !progress.pending.is_empty();
        self.progress.as_ref().is_some_and(ready)
    }

    /// Whether its first position is not committed yet.
    pub(super) fn waits_for_commit(&self) -> bool {
        self.progress.as_ref().is_some_and(|progress| !progress.has_begun())
    }

    /// Notes that records are done; tells how many were outstanding.
    pub(super) fn acknowledge(&mut self, offsets: &[i64]) -> usize {
        self.progress.as_mut().map_or(0, |progress| progress.acknowledge(offsets))
    }

    /// How many records are sent and not acknowledged.
    pub(super) fn outstanding(&self) -> usize {
        self.progress.as_ref().map_or(0, |progress| progress.outstanding.len())
    }

    /// The first offset that is not done, when that is not committed yet.
    pub(super) fn due(&self) -> Option<i64> {
        self.progress.as_ref()?.due()
    }

    /// Notes what holds after a commit.
    pub(super) fn commit(&mut self, offset: i64) {
        if let Some(progress) = &mut self.progress {
            progress.committed = progress.committed.max(offset);
        }
    }

    /// One piece is read while another is sent.
    fn read_ahead(&self) {
        let pending = self.progress.as_ref().map_or(0, |progress| progress.pending.len());
        if pending <= READ_AHEAD_RECORDS {
            self.puller.next();
        }
    }
}

/// How far a partition is.
///
/// Invariants:
/// - `outstanding` holds offsets below `sent_end`, `pending` records at or above it.
/// - `committed` only rises.
#[derive(Debug)]
struct Progress {
    start: i64,
    /// Read and not sent yet, with the offset behind them.
    pending: VecDeque<FetchedRecord>,
    pending_end: i64,
    /// The offset behind what was sent: compaction and control records may leave holes.
    sent_end: i64,
    /// Sent and not acknowledged.
    outstanding: BTreeSet<i64>,
    committed: i64,
}

impl Progress {
    /// A partition that begins at `start`, which is committed or not.
    fn new(start: i64, committed: bool) -> Self {
        Self {
            start,
            pending: VecDeque::new(),
            pending_end: start,
            sent_end: start,
            outstanding: BTreeSet::new(),
            // One below: a start that is not committed yet is due.
            committed: if committed { start } else { start - 1 },
        }
    }

    /// Takes what was read.
    fn arrive(&mut self, read: FetchRecordsResponse) {
        self.pending.extend(read.records);
        self.pending_end = read.next_offset;
    }

    /// Whether the first position is committed.
    fn has_begun(&self) -> bool {
        self.committed >= self.start
    }

    /// At most `most` records to send now.
    fn send(&mut self, most: usize) -> Vec<FetchedRecord> {
        let count = self.pending.len().min(most);
        let records: Vec<_> = self.pending.drain(..count).collect();
        self.outstanding.extend(records.iter().map(|record| record.offset));
        let next = self.pending.front().map_or(self.pending_end, |next| next.offset);
        self.sent_end = self.sent_end.max(next);
        records
    }

    /// Notes that records are done; tells how many were outstanding.
    fn acknowledge(&mut self, offsets: &[i64]) -> usize {
        offsets.iter().filter(|offset| self.outstanding.remove(offset)).count()
    }

    /// The first offset that is not done, when that is not committed yet.
    fn due(&self) -> Option<i64> {
        let done = self.outstanding.first().copied().unwrap_or(self.sent_end);
        (done > self.committed).then_some(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(offsets: std::ops::Range<i64>) -> FetchRecordsResponse {
        FetchRecordsResponse {
            next_offset: offsets.end,
            records: offsets.map(|offset| FetchedRecord { offset, record: None }).collect(),
            ..FetchRecordsResponse::default()
        }
    }

    #[test]
    fn only_what_is_done_without_a_gap_is_due() {
        let mut progress = Progress::new(10, true);
        progress.arrive(read(10..20));
        assert_eq!(progress.due(), None, "nothing was sent");
        assert_eq!(progress.send(4).len(), 4);
        assert_eq!(progress.due(), None, "nothing is acknowledged");
        assert_eq!(progress.acknowledge(&[11, 12, 13, 15, 11]), 3, "what was not sent is ignored");
        assert_eq!(progress.due(), None, "10 is not done");
        assert_eq!(progress.acknowledge(&[10]), 1);
        assert_eq!(progress.due(), Some(14));
        progress.committed = 14;
        assert_eq!(progress.due(), None);
        assert_eq!(progress.send(100).len(), 6);
        assert!(progress.pending.is_empty());
        assert_eq!(progress.acknowledge(&[14, 15, 16, 18, 19]), 5);
        assert_eq!(progress.due(), Some(17));
        assert_eq!(progress.outstanding.len(), 1);
    }

    #[test]
    fn a_first_position_is_due_at_once() {
        let mut progress = Progress::new(7, false);
        assert!(!progress.has_begun());
        assert_eq!(progress.due(), Some(7));
        progress.committed = 7;
        assert!(progress.has_begun());
        assert_eq!(progress.due(), None);
    }

    #[test]
    fn holes_in_the_offsets_are_done_with_what_is_before_them() {
        let mut progress = Progress::new(0, true);
        let mut sparse = read(0..2);
        sparse.next_offset = 50;
        progress.arrive(sparse);
        progress.send(2);
        progress.acknowledge(&[0, 1]);
        assert_eq!(progress.due(), Some(50));
    }
}
