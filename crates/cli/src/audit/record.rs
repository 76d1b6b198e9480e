//! The facts an audit compares: acks and read records, reduced to numbers.

use tidelog_types::{Offset, PartitionId};

/// Which record of a run this is. The payload carries it, so that a reader can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The producer, from zero.
    pub producer: u32,
    /// The place in that producer's order of sending, from zero and dense.
    pub sequence: u64,
}

/// One acknowledged send.
///
/// Times are microseconds on one monotonic clock that all producers of a run share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The record.
    pub id: RecordId,
    /// The partition that took it.
    pub partition: PartitionId,
    /// Its offset there, as acknowledged.
    pub offset: Offset,
    /// The [`fingerprint`] of what was sent.
    pub hash: u64,
    /// Taken before the record was given to the producer.
    pub invoked_us: u64,
    /// Taken after the ack arrived.
    pub completed_us: u64,
}

/// One record as a reader got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// The partition read.
    pub partition: PartitionId,
    /// The offset it was read at.
    pub offset: Offset,
    /// The record it says it is; `None` when the payload is not one of the run.
    pub id: Option<RecordId>,
    /// The [`fingerprint`] of its key alone.
    pub key: u64,
    /// The [`fingerprint`] of what was read.
    pub hash: u64,
}

/// A 64-bit FNV-1a hash over `parts`, each closed by its length so that bytes cannot move between
/// parts unseen. Equal in every process and build, for acks are compared across processes.
#[must_use]
pub fn fingerprint(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for part in parts {
        part.iter().copied().for_each(&mut eat);
        (part.len() as u64).to_le_bytes().into_iter().for_each(&mut eat);
    }
    hash
}

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014): every bit of `x` moves every bit.
#[must_use]
pub const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
