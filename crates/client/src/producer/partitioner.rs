//! Which partition a record goes to.

use std::fmt;

/// Chooses the partition of a record with a key. Records without a key stick to one partition until
/// its batch is closed, and then to another.
pub trait Partitioner: Send + Sync + fmt::Debug + 'static {
    /// The partition for `key`, below `partitions`, which is at least 1.
    fn partition(&self, key: &[u8], partitions: u32) -> u32;
}

/// Kafka's default: the same key goes to the same partition as with the Java client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Murmur2;

impl Partitioner for Murmur2 {
    fn partition(&self, key: &[u8], partitions: u32) -> u32 {
        (murmur2(key) & 0x7fff_ffff) % partitions
    }
}

/// The 32-bit MurmurHash2 that Kafka's Java client uses, with its seed.
#[must_use]
pub fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mut hash = SEED ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> R)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    for (place, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * place);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own test of its hash.
    #[test]
    fn murmur2_is_kafkas() {
        let vectors: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn partitions_stay_in_bounds() {
        for n in 0..1_000_u32 {
            assert!(Murmur2.partition(&n.to_be_bytes(), 7) < 7);
        }
    }
}
