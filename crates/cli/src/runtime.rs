//! The runtimes that commands run on.

use std::future::Future;
use std::thread;

use tokio::runtime::{Builder, Runtime};

use crate::Failure;

/// Up to so many cores, a broker gets two worker threads: several of them share a small machine.
const SMALL_MACHINE_CORES: usize = 4;

/// Runs a command that talks to a cluster, on one worker beside the caller's thread.
pub(crate) fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = build(1)?;
    let result = runtime.block_on(command);
    // A thread that waits for stdin would hold up a plain drop for as long as nothing is typed.
    runtime.shutdown_background();
    result
}

/// The runtime of a server with `workers` threads; by default, what suits the machine.
pub(crate) fn server(workers: Option<usize>) -> Result<Runtime, Failure> {
    build(workers.unwrap_or_else(|| workers_for(cores())))
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

const fn workers_for(cores: usize) -> usize {
    if cores <= SMALL_MACHINE_CORES { 2 } else { cores / 2 }
}

fn build(workers: usize) -> Result<Runtime, Failure> {
    Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(|error| Failure::because("start the runtime", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_machines_get_two_workers() {
        assert_eq!([1, 2, 4, 6, 16].map(workers_for), [2, 2, 2, 3, 8]);
    }
}
