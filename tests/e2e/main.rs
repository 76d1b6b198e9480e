//! End-to-end tests: the built binary as real processes, killed, frozen, started on wrong disks and
//! fed with nonsense. After each, the audit of the promises from the client's side.
//!
//! - `TIDELOG_E2E_ROUNDS=200 cargo test -p tidelog --release --test e2e kills`: that many rounds of
//!   each kind of kill instead of 10.
//! - `cd tests/sim && cargo test -p tidelog --test e2e failpoints`: brokers that end themselves at every
//!   step they take, in a build with faults; see `docs/faults.md`.
//! - `TIDELOG_E2E_SEED=N`: the random choices of a failed run, which printed its seed, once more.
//!
//! What a failed test leaves behind (data, logs, acks) is kept, and named at the end of its output.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "tests say what they did and how to do it again")]

mod applies;
mod audit;
mod backups;
mod bad_input;
mod benches;
mod bundles;
mod command;
mod compaction;
mod consumers;
mod context;
mod cuts;
mod demo;
mod dev;
mod disks;
mod drains;
#[cfg(tidelog_faults)]
mod failpoints;
mod formation;
mod formats;
mod freeze;
mod full_disk;
mod groups;
mod handlers;
mod hostile;
mod joins;
mod kills;
mod languages;
mod latencies;
mod log_level;
mod more_partitions;
mod moves;
mod network;
mod overload;
mod patience;
mod pauses;
mod rebalances;
mod recovers;
mod rolling;
mod rot;
mod stage;
mod stops;
mod trims;
mod witness;
