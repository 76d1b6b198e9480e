//! What a subscription knows of a partition that it holds: what was sent, and what is done.

use std::collections::{BTreeSet, VecDeque};

use prost::Message;
use tidelog_proto::v1::{AssignedPartition, FetchRecordsResponse, FetchedRecord};

use super::puller::{Puller, Room};

/// A partition that the subscription holds.
#[derive(Debug)]
pub(super) struct Held {
    /// Under which grant.
    pub(super) granted: u32,
    /// Of which topic.
    pub(super) topic_id: String,
    puller: Puller,
    /// Whether a piece was asked for and has not come.
    asked: bool,
    /// `None` while its first position is looked for.
    progress: Option<Progress>,
    /// The room of every piece that is not sent whole, with the offset behind it.
    rooms: VecDeque<(i64, Room)>,
}

impl Held {
    /// A partition that goes on at what is committed, or begins where `puller` will tell.
    pub(super) fn new(assigned: &AssignedPartition, puller: Puller) -> Self {
        let committed = assigned.committed.as_ref();
        Self {
            granted: assigned.granted_epoch,
            topic_id: assigned.topic_id.clone(),
            puller,
            asked: false,
            progress: committed.map(|committed| Progress::new(committed.offset, true)),
            rooms: VecDeque::new(),
        }
    }

    /// Whether this is what is assigned; the same partition under another grant is not.
    pub(super) fn is(&self, assigned: &AssignedPartition) -> bool {
        (self.granted, &self.topic_id) == (assigned.granted_epoch, &assigned.topic_id)
    }

    /// It begins at `start`. Nothing is read before that is committed: the next holder must not begin
    /// later than this one did.
    pub(super) fn begin(&mut self, start: i64) {
        self.progress.get_or_insert_with(|| Progress::new(start, false));
    }

    /// Takes what was read, with the room that it takes until it is sent.
    pub(super) fn arrive(&mut self, read: FetchRecordsResponse, room: Room) {
        self.asked = false;
        if let Some(progress) = &mut self.progress {
            self.rooms.push_back((read.next_offset, room));
            progress.arrive(read);
        }
        self.give_back();
    }

    /// At most `records_max` records to send now, and no more than `bytes_max` unless it is one; with
    /// their bytes.
    pub(super) fn send(
        &mut self,
        records_max: usize,
        bytes_max: usize,
    ) -> (Vec<FetchedRecord>, usize) {
        let sent = self.progress.as_mut().map(|progress| progress.send(records_max, bytes_max));
        self.give_back();
        sent.unwrap_or_default()
    }

    /// Gives back the room of what is sent.
    fn give_back(&mut self) {
        let Some(progress) = &self.progress else { return };
        let (sent_end, all) = (progress.sent_end, progress.pending.is_empty());
        while self.rooms.front().is_some_and(|(end, _)| all || *end <= sent_end) {
            self.rooms.pop_front();
        }
    }

    /// Whether there is something to send.
    pub(super) fn can_send(&self) -> bool {
        let ready = |progress: &Progress| progress.has_begun() && !progress.pending.is_empty();
        self.progress.as_ref().is_some_and(ready)
    }

    /// Bytes that were read and not sent yet.
    pub(super) fn pending_bytes(&self) -> usize {
        self.progress.as_ref().map_or(0, |progress| progress.pending_bytes)
    }

    /// Asks for the next piece, unless one is on its way.
    pub(super) fn read_ahead(&mut self) {
        let begun = self.progress.as_ref().is_some_and(Progress::has_begun);
        if begun && !self.asked {
            self.asked = true;
            self.puller.next();
        }
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

    /// Notes what holds after a commit of what was done under grant `granted`: an earlier one says
    /// nothing of this one.
    pub(super) fn commit(&mut self, granted: u32, offset: i64) {
        if let Some(progress) = self.progress.as_mut().filter(|_| self.granted == granted) {
            progress.committed = progress.committed.max(offset);
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
    pending_bytes: usize,
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
            pending_bytes: 0,
            pending_end: start,
            sent_end: start,
            outstanding: BTreeSet::new(),
            // One below: a start that is not committed yet is due.
            committed: if committed { start } else { start - 1 },
        }
    }

    /// Takes what was read.
    fn arrive(&mut self, read: FetchRecordsResponse) {
        self.pending_bytes += read.records.iter().map(Message::encoded_len).sum::<usize>();
        self.pending.extend(read.records);
        self.pending_end = read.next_offset;
    }

    /// Whether the first position is committed.
    fn has_begun(&self) -> bool {
        self.committed >= self.start
    }

    /// At most `records_max` records to send now, and no more than `bytes_max` unless it is one; with
    /// their bytes.
    fn send(&mut self, records_max: usize, bytes_max: usize) -> (Vec<FetchedRecord>, usize) {
        let (mut records, mut bytes) = (Vec::new(), 0);
        while records.len() < records_max
            && let Some(next) = self.pending.front()
        {
            let with = bytes + next.encoded_len();
            if with > bytes_max && !records.is_empty() {
                break;
            }
            bytes = with;
            records.extend(self.pending.pop_front());
        }
        self.pending_bytes -= bytes;
        self.outstanding.extend(records.iter().map(|record| record.offset));
        let next = self.pending.front().map_or(self.pending_end, |next| next.offset);
        self.sent_end = self.sent_end.max(next);
        (records, bytes)
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
    use tidelog_proto::v1::CommittedOffset;

    use super::*;

    const MANY: usize = 1 << 20;

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
        assert_eq!(progress.send(4, MANY).0.len(), 4);
        assert_eq!(progress.due(), None, "nothing is acknowledged");
        assert_eq!(progress.acknowledge(&[11, 12, 13, 15, 11]), 3, "what was not sent is ignored");
        assert_eq!(progress.due(), None, "10 is not done");
        assert_eq!(progress.acknowledge(&[10]), 1);
        assert_eq!(progress.due(), Some(14));
        progress.committed = 14;
        assert_eq!(progress.due(), None);
        assert_eq!(progress.send(100, MANY).0.len(), 6);
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
        progress.send(2, MANY);
        progress.acknowledge(&[0, 1]);
        assert_eq!(progress.due(), Some(50));
    }

    #[test]
    fn what_is_sent_at_once_is_bounded_in_bytes_and_at_least_one_record() {
        let mut progress = Progress::new(0, true);
        progress.arrive(read(0..100));
        let one = FetchedRecord { offset: 99, record: None }.encoded_len();
        let (records, bytes) = progress.send(1, 0);
        assert_eq!((records.len(), progress.pending.len()), (1, 99));
        assert!(bytes <= one);
        let (records, bytes) = progress.send(100, 10 * one);
        assert_eq!((records.len(), bytes), (10, 10 * one));
        assert_eq!(progress.pending_bytes, 89 * one);
        assert_eq!(progress.send(100, MANY).1, 89 * one);
        assert_eq!(progress.pending_bytes, 0);
    }

    fn assigned(granted_epoch: u32, offset: Option<i64>) -> AssignedPartition {
        let committed = offset.map(|offset| CommittedOffset { offset, ..Default::default() });
        AssignedPartition { granted_epoch, committed, ..AssignedPartition::default() }
    }

    #[tokio::test]
    async fn one_piece_is_asked_for_at_a_time_and_none_before_the_first_commit() {
        let mut held = Held::new(&assigned(4, None), Puller::idle());
        held.read_ahead();
        held.begin(7);
        held.read_ahead();
        assert_eq!(held.puller.wanted(), 0);
        held.commit(4, 7);
        held.read_ahead();
        held.read_ahead();
        assert_eq!(held.puller.wanted(), 1);
    }

    #[tokio::test]
    async fn a_commit_of_an_earlier_grant_says_nothing() {
        let mut held = Held::new(&assigned(4, None), Puller::idle());
        held.begin(7);
        held.commit(3, 50);
        assert_eq!(held.due(), Some(7));
        held.commit(4, 7);
        assert_eq!(held.due(), None);
        assert!(held.is(&assigned(4, None)) && !held.is(&assigned(5, None)));
        let namesake = AssignedPartition { topic_id: "other".to_owned(), ..assigned(4, None) };
        assert!(!held.is(&namesake));
    }
}
