//! The simulation from outside.

#![cfg(tokio_unstable)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod determinism;
