//! Brokers of a local cluster end with the process that started them, however it ends.

use std::io::Read;
use std::thread;

use tracing::warn;

/// The exit code of a broker whose parent is gone.
const EXIT_ORPHANED: i32 = 3;

/// Ends this process as soon as its standard input closes.
///
/// For `server --exit-with-parent`: the parent holds the other end of the pipe and never writes, so
/// the kernel closes it when the parent ends, also by SIGKILL. Chosen over `PR_SET_PDEATHSIG`, which
/// fires already when the *thread* that started the child ends, and exists on Linux alone. A frozen
/// parent keeps its brokers.
pub fn parent_watch() {
    let watch = || {
        let mut input = std::io::stdin().lock();
        let mut ignored = [0; 64];
        // Anything but data, an error too, means that nobody can be listening any more.
        while matches!(input.read(&mut ignored), Ok(1..)) {}
        warn!("parent process is gone, ending");
        // Not a graceful stop: nobody is left who waits for one, and an ack needs none to be durable.
        std::process::exit(EXIT_ORPHANED);
    };
    let name = "parent-watch".to_owned();
    thread::Builder::new().name(name).spawn(watch).expect("a process can start one more thread");
}
