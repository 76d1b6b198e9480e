//! Record batches against examples, random input, golden bytes and another implementation.

#![expect(clippy::unwrap_used, reason = "clippy exempts tests, but not the functions they share")]

mod codecs;
mod compacted;
mod golden;
mod kafka;
mod random;
mod rules;
mod sample;
mod stamps;
