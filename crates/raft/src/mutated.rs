//! Bytes that were changed a little, for decoders that no other crate reaches.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How many there are; `TIDELOG_FUZZ_EXECUTIONS` says otherwise.
const EXECUTIONS: u32 = 20_000;

/// Calls `look` with variants of `sample`: bits flipped, bytes and numbers replaced, cut, extended.
pub(crate) fn each(sample: &[u8], mut look: impl FnMut(&[u8])) {
    let executions = std::env::var("TIDELOG_FUZZ_EXECUTIONS");
    let executions = executions.map_or(EXECUTIONS, |count| count.parse().expect("a number"));
    let mut rng = StdRng::seed_from_u64(1);
    for _ in 0..executions {
        let mut bytes = sample.to_vec();
        for _ in 0..rng.random_range(1..=4) {
            mutate(&mut rng, &mut bytes);
        }
        look(&bytes);
    }
}

fn mutate(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        bytes.push(rng.random());
        return;
    }
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..6) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = rng.random(),
        2 => bytes[at] = if rng.random() { 0 } else { 0xff },
        3 => bytes.truncate(at),
        4 => {
            bytes.splice(at..at, [0, 0, 0, rng.random()]);
        }
        _ => {
            let piece = bytes[at..].to_vec();
            bytes.splice(at..at, piece);
        }
    }
}
