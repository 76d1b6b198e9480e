//! What is done to an input.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Inputs do not grow beyond this by insertion and splicing.
const BYTES_MAX: usize = 64 * 1024;

/// The most mutations that one input gets at a time.
const MUTATIONS_MAX: u32 = 6;

/// Numbers at which decoders change their minds.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x00ff_ffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];

/// Changes `input` a little, in one to six ways; `other` is something to splice with.
pub(crate) fn mutate(rng: &mut StdRng, input: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..rng.random_range(1..=MUTATIONS_MAX) {
        once(rng, input, other);
    }
    input.truncate(BYTES_MAX);
}

fn once(rng: &mut StdRng, input: &mut Vec<u8>, other: &[u8]) {
    if input.is_empty() {
        input.extend_from_slice(&other[..other.len().min(64)]);
        input.push(rng.random());
        return;
    }
    let at = rng.random_range(0..input.len());
    match rng.random_range(0..10) {
        0 | 1 => input[at] ^= 1 << rng.random_range(0..8),
        2 => input[at] = rng.random(),
        3 => put_number(rng, input, at),
        4 => input.truncate(at),
        5 => {
            let count = rng.random_range(1..=16);
            let byte = if rng.random() { 0 } else { rng.random() };
            input.splice(at..at, std::iter::repeat_n(byte, count));
        }
        6 => {
            let end = (at + rng.random_range(1..=16)).min(input.len());
            input.drain(at..end);
        }
        7 => {
            // A piece of itself once more, as a list that says the same twice.
            let end = (at + rng.random_range(1..=64)).min(input.len());
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        8 if !other.is_empty() => {
            let from = rng.random_range(0..other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let delta: i8 = rng.random_range(-4..=4);
            input[at] = input[at].wrapping_add_signed(delta);
        }
    }
}

/// Writes a number over 1, 2, 4 or 8 bytes, big or little endian, or as a varint.
fn put_number(rng: &mut StdRng, input: &mut Vec<u8>, at: usize) {
    let length = input.len() as u64;
    let number = match rng.random_range(0..4) {
        0 => length.wrapping_add_signed(rng.random_range(-2..=2)),
        _ => *NUMBERS.choose(rng).unwrap_or(&0),
    };
    let bytes: Vec<u8> = match rng.random_range(0..6) {
        0 => vec![number as u8],
        1 => (number as u16).to_be_bytes().to_vec(),
        2 => (number as u32).to_be_bytes().to_vec(),
        3 => number.to_be_bytes().to_vec(),
        4 => (number as u32).to_le_bytes().to_vec(),
        _ => varint(number),
    };
    let end = (at + bytes.len()).min(input.len());
    input.splice(at..end, bytes);
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
