//! Whole clusters in one process: real brokers and clients over a simulated network, disk and clock.
//!
//! `cd tests/sim && cargo run --release -- --seed N` runs one seed; the same seed gives the same bytes
//! of trace, whatever the machine does meanwhile. `--seeds A..B` runs many, a process each, because
//! what dependencies draw from the operating system is seeded once per process.

#[cfg(tokio_unstable)]
mod canaries;
#[cfg(tokio_unstable)]
mod cluster;
#[cfg(tokio_unstable)]
mod dice;
#[cfg(tokio_unstable)]
mod disk;
#[cfg(tokio_unstable)]
mod faults;
#[cfg(tokio_unstable)]
mod figures;
#[cfg(tokio_unstable)]
mod flusher;
#[cfg(tokio_unstable)]
mod grouping;
#[cfg(tokio_unstable)]
mod history;
#[cfg(tokio_unstable)]
mod invariants;
#[cfg(tokio_unstable)]
mod network;
#[cfg(tokio_unstable)]
mod observer;
#[cfg(tokio_unstable)]
mod plan;
#[cfg(tokio_unstable)]
mod producing;
#[cfg(tokio_unstable)]
mod range;
#[cfg(tokio_unstable)]
mod reading;
#[cfg(tokio_unstable)]
mod recovering;
#[cfg(tokio_unstable)]
mod report;
#[cfg(tokio_unstable)]
mod roster;
#[cfg(tokio_unstable)]
mod rot;
#[cfg(tokio_unstable)]
mod run;
#[cfg(tokio_unstable)]
mod simulation;
#[cfg(tokio_unstable)]
mod steward;
#[cfg(tokio_unstable)]
mod surroundings;
#[cfg(tokio_unstable)]
mod trace;
#[cfg(tokio_unstable)]
mod viewing;
#[cfg(tokio_unstable)]
mod votes;
#[cfg(tokio_unstable)]
mod workload;

#[cfg(tokio_unstable)]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(tokio_unstable)]
fn main() -> std::process::ExitCode {
    run::main()
}

#[cfg(not(tokio_unstable))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "the simulation needs its own build flags: run `cd tests/sim && cargo run --release -- --seed 1`"
    );
    std::process::ExitCode::from(2)
}
