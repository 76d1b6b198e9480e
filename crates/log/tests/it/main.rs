//! Tests of the log through its public surface.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "tests print how much they tried")]

mod append;
mod compaction;
mod concurrent;
mod crash_states;
mod cut;
mod faults;
mod full;
mod golden;
mod read;
mod recover;
mod repair;
mod starts;
mod support;
mod votes;
mod votes_crash;
