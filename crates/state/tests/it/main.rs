//! Tests of the machines from outside: golden scripts, golden bytes, and a random model check.
#![expect(clippy::disallowed_methods, reason = "tests read and write their golden files")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

mod assign;
mod bytes;
mod dice;
mod golden;
mod group_model;
mod group_rules;
mod group_scripts;
mod metadata_scripts;
mod model;
mod partition_scripts;
mod plan;
