//! What is remembered of a group, and how it lies on disk.

use tidelog_types::{GroupId, LogIndex, LogPosition, NodeId, Term};

use crate::wire::Reader;

/// A Raft vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The term.
    pub term: Term,
    /// For whom.
    pub node: Option<NodeId>,
    /// Whether a quorum granted it.
    pub committed: bool,
}

impl Vote {
    /// Whether this vote may follow `old`: a later term, or within the term the same node, or
    /// the leader that a quorum chose when ours was for another one. Two grants in one term could
    /// elect two leaders.
    #[must_use]
    pub fn may_replace(&self, old: &Self) -> bool {
        self.term > old.term
            || self.term == old.term
                && (old.node.is_none()
                    || self.node == old.node
                    || self.committed && !old.committed && self.node.is_some())
    }
}

/// What the node remembers of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupRecord {
    /// The last vote.
    pub vote: Option<Vote>,
    /// A position that is known to be committed: a hint, it may be above the log after a crash.
    pub commit: Option<LogPosition>,
    /// The durable mark: every entry *below* this index is on stable storage. It lags behind.
    pub mark: LogIndex,
    /// Whether the group was deleted here. Its vote is kept.
    pub deleted: bool,
    /// Entries *up to* this index were held here when the replica was given up: until a log made anew
    /// has them again, this node must not take part in an election. Below 2^48; 0 is none.
    pub owed: LogIndex,
}

/// A record on disk. A record without a group only vouches for those before it.
///
/// ```text
///  0  crc32c      4  of all that follows, seeded with the generation of the file
///  4  flags       2  bit 0 vote, 1 its node, 2 its committed, 3 commit, 4 deleted, 5 group
///  6  owed high   2  the upper 16 bits of the 48
///  8  sequence    8  its place in the file, from 0
/// 16  synced end  8  the first sequence that was not on stable storage when this was written
/// 24  group      20
/// 44  owed low    4
/// 48  vote term   8
/// 56  vote node   8
/// 64  commit term 8
/// 72  commit index 8
/// 80  mark        8
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) sequence: u64,
    pub(crate) synced_end: u64,
    pub(crate) group: Option<(GroupId, GroupRecord)>,
}

/// The most that fits into its field.
const OWED_MAX: u64 = (1 << 48) - 1;

const FLAG_VOTE: u16 = 1;
const FLAG_VOTE_NODE: u16 = 1 << 1;
const FLAG_VOTE_COMMITTED: u16 = 1 << 2;
const FLAG_COMMIT: u16 = 1 << 3;
const FLAG_DELETED: u16 = 1 << 4;
const FLAG_GROUP: u16 = 1 << 5;

impl Record {
    pub(crate) const BYTES: usize = 88;

    pub(crate) fn encode(&self, generation: u64) -> [u8; Self::BYTES] {
        let (group, record) = self.group.unwrap_or_default();
        let flag = |on: bool, flag: u16| if on { flag } else { 0 };
        let flags = flag(record.vote.is_some(), FLAG_VOTE)
            | flag(record.vote.is_some_and(|v| v.node.is_some()), FLAG_VOTE_NODE)
            | flag(record.vote.is_some_and(|v| v.committed), FLAG_VOTE_COMMITTED)
            | flag(record.commit.is_some(), FLAG_COMMIT)
            | flag(record.deleted, FLAG_DELETED)
            | flag(self.group.is_some(), FLAG_GROUP);
        let vote_term = record.vote.map_or(0, |v| v.term.0);
        let vote_node = record.vote.and_then(|v| v.node).map_or(0, NodeId::to_u64);
        let commit = record.commit.unwrap_or_default();

        let mut out = [0; Self::BYTES];
        let owed = record.owed.0.min(OWED_MAX);
        out[4..6].copy_from_slice(&flags.to_be_bytes());
        out[6..8].copy_from_slice(&((owed >> 32) as u16).to_be_bytes());
        out[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        out[16..24].copy_from_slice(&self.synced_end.to_be_bytes());
        out[24..44].copy_from_slice(&group.to_bytes());
        out[44..48].copy_from_slice(&(owed as u32).to_be_bytes());
        out[48..56].copy_from_slice(&vote_term.to_be_bytes());
        out[56..64].copy_from_slice(&vote_node.to_be_bytes());
        out[64..72].copy_from_slice(&commit.term.0.to_be_bytes());
        out[72..80].copy_from_slice(&commit.index.0.to_be_bytes());
        out[80..88].copy_from_slice(&record.mark.0.to_be_bytes());
        let crc = crc(&out, generation);
        out[..4].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// Reads a record; `None` when it is damaged, or of another file.
    pub(crate) fn decode(bytes: &[u8], generation: u64) -> Option<Self> {
        let bytes = bytes.get(..Self::BYTES)?;
        let mut reader = Reader::new(bytes);
        if reader.u32() != crc(bytes, generation) {
            return None;
        }
        let flags = reader.u16();
        let has = |flag: u16| flags & flag != 0;
        let owed_high = reader.u16();
        let sequence = reader.u64();
        let synced_end = reader.u64();
        let group = GroupId::from_bytes(reader.array());
        let owed_low = reader.u32();
        let vote_term = Term(reader.u64());
        let vote_node = NodeId::from_u64(reader.u64());
        let commit = LogPosition { term: Term(reader.u64()), index: LogIndex(reader.u64()) };
        let mark = LogIndex(reader.u64());
        let vote = Vote {
            term: vote_term,
            node: has(FLAG_VOTE_NODE).then_some(vote_node),
            committed: has(FLAG_VOTE_COMMITTED),
        };
        let record = GroupRecord {
            vote: has(FLAG_VOTE).then_some(vote),
            commit: has(FLAG_COMMIT).then_some(commit),
            mark,
            deleted: has(FLAG_DELETED),
            owed: LogIndex(u64::from(owed_high) << 32 | u64::from(owed_low)),
        };
        Some(Self { sequence, synced_end, group: has(FLAG_GROUP).then_some((group, record)) })
    }
}

fn crc(record: &[u8], generation: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&generation.to_be_bytes()), &record[4..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(term: u64, node: Option<u32>, committed: bool) -> Vote {
        Vote { term: Term(term), node: node.map(|n| NodeId::new(n, 1)), committed }
    }

    #[test]
    fn a_vote_is_given_once_in_a_term() {
        let given = vote(3, Some(1), false);
        assert!(vote(4, None, false).may_replace(&given));
        assert!(vote(3, Some(1), true).may_replace(&given));
        assert!(vote(3, Some(2), true).may_replace(&given), "the leader that the others chose");
        assert!(!vote(3, Some(2), false).may_replace(&given));
        assert!(!vote(3, None, false).may_replace(&given));
        assert!(!vote(2, Some(1), true).may_replace(&given));
        assert!(!vote(3, Some(2), true).may_replace(&vote(3, Some(1), true)));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let record = Record {
            sequence: 7,
            synced_end: 6,
            group: Some((
                GroupId::METADATA,
                GroupRecord {
                    vote: Some(vote(9, Some(2), true)),
                    commit: Some(LogPosition { term: Term(8), index: LogIndex(70) }),
                    mark: LogIndex(60),
                    deleted: false,
                    owed: LogIndex(0x1234_5678_9abc),
                },
            )),
        };
        let good = record.encode(5);
        assert_eq!(Record::decode(&good, 5), Some(record));
        assert_eq!(Record::decode(&good, 6), None, "another file's");
        for bit in 0..good.len() * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(&bytes, 5), None, "bit {bit}");
        }
    }
}
