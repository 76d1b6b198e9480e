//! Where blocking work goes: reads of cold data, truncation, deletion.
//!
//! A runtime's own blocking pool is not used: under a paused clock it would stop simulated time.

use std::fmt;
use std::io;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// A piece of blocking work.
pub type Job = Box<dyn FnOnce() + Send>;

/// Runs blocking work off the tasks.
pub trait Executor: Send + Sync + fmt::Debug + 'static {
    /// Runs `job` soon, in no particular order.
    fn run(&self, job: Job);
}

/// Runs `work` on `executor` and waits for its result. Cancelling the wait does not cancel the work.
pub(crate) async fn run<T: Send + 'static>(
    executor: &dyn Executor,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    executor.run(Box::new(move || {
        // The waiter may be gone; the work had to be done all the same.
        let _ = done.send(work());
    }));
    result.await.map_err(|_| io::Error::other("blocking work panicked or its executor stopped"))
}

/// A fixed number of threads that share one queue.
#[derive(Debug)]
pub struct ThreadExecutor {
    queue: mpsc::Sender<Job>,
}

impl ThreadExecutor {
    /// Starts `threads` threads; they end when the executor is dropped.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn new(threads: usize) -> io::Result<Self> {
        let (queue, jobs) = mpsc::channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..threads {
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new().name(format!("cold-{number}")).spawn(move || {
                loop {
                    let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = job else { return };
                    // A panic ends one piece of work, whose waiter learns of it, not the thread.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
                }
            })?;
        }
        Ok(Self { queue })
    }
}

impl Executor for ThreadExecutor {
    fn run(&self, job: Job) {
        // The threads outlive the queue's sender, so this cannot fail; a dropped job tells its waiter.
        let _ = self.queue.send(job);
    }
}

/// Runs each job at once, on the caller: for simulations, where the disk takes no real time.
#[derive(Clone, Copy, Debug, Default)]
pub struct InlineExecutor;

impl Executor for InlineExecutor {
    fn run(&self, job: Job) {
        job();
    }
}
