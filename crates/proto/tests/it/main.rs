//! Tests of the wire against its contract.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod generated;
