//! The simulation from outside, and what needs the same build: the faults of `docs/faults.md`.

#![cfg(tokio_unstable)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod determinism;
mod slow_disk;
