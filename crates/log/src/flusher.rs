//! Who runs the flush jobs: threads in the product, the caller or a hand crank in tests.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// Something with writes to flush.
pub trait FlushJob: Send + Sync {
    /// Writes and syncs all that is pending, then completes it. May block.
    fn flush(&self);
}

/// Runs flush jobs, some time after they were submitted, each at least once per submission.
///
/// A job submits itself at most once until it runs, and once more when what waits for room is tried
/// again: a queue holds two places per log, and two for the votes, unless tries come faster than flushes.
pub trait Flusher: Send + Sync + fmt::Debug {
    /// Queues a job. Never waits for it.
    fn submit(&self, job: Arc<dyn FlushJob>);
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Arc<dyn FlushJob>>,
    stopped: bool,
    running: bool,
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().expect("the queue is never held across a job, so nothing panics under it")
}

/// A pool of threads: the node's concurrent fdatasyncs.
///
/// Dropping it runs what is queued, then ends the threads.
pub struct ThreadFlusher {
    shared: Arc<(Mutex<Queue>, Condvar)>,
    threads: Vec<JoinHandle<()>>,
}

impl fmt::Debug for ThreadFlusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadFlusher").field("threads", &self.threads.len()).finish()
    }
}

impl ThreadFlusher {
    /// Starts `threads` threads, at least one. 8 to 16 keep one disk busy; more only queue in the kernel.
    pub fn new(threads: usize) -> io::Result<Self> {
        let shared = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
        let threads = (0..threads.max(1))
            .map(|n| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("flush-{n}"))
                    .spawn(move || run_jobs(&shared))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { shared, threads })
    }
}

fn run_jobs((queue, wake): &(Mutex<Queue>, Condvar)) {
    loop {
        let mut guard = lock(queue);
        let job = loop {
            if let Some(job) = guard.jobs.pop_front() {
                break job;
            }
            if guard.stopped {
                return;
            }
            guard = wake.wait(guard).expect("nothing panics under the queue's lock");
        };
        drop(guard);
        let guard = AbortOnPanic;
        job.flush();
        drop(guard);
    }
}

/// A panic in a flush is a broken invariant between memory and disk. Nothing could go on safely, and
/// waiters would wait for ever, so the process ends; the panic's message was printed before.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl Flusher for ThreadFlusher {
    fn submit(&self, job: Arc<dyn FlushJob>) {
        lock(&self.shared.0).jobs.push_back(job);
        self.shared.1.notify_one();
    }
}

impl Drop for ThreadFlusher {
    fn drop(&mut self) {
        lock(&self.shared.0).stopped = true;
        self.shared.1.notify_all();
        for thread in self.threads.drain(..) {
            // A job that panicked has failed its log already; there is nobody left to tell here.
            // The last handle may also be dropped by a job, on a thread of the pool itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// Runs each job on the thread that submits it, at once.
///
/// A job that is submitted while another runs (a completion that appends again) runs right after it.
#[derive(Default)]
pub struct InlineFlusher(Mutex<Queue>);

impl fmt::Debug for InlineFlusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InlineFlusher")
    }
}

impl Flusher for InlineFlusher {
    fn submit(&self, job: Arc<dyn FlushJob>) {
        let mut queue = lock(&self.0);
        queue.jobs.push_back(job);
        if queue.running {
            return;
        }
        queue.running = true;
        while let Some(job) = queue.jobs.pop_front() {
            drop(queue);
            job.flush();
            queue = lock(&self.0);
        }
        queue.running = false;
    }
}

/// Runs jobs when it is told to: for simulations, and for tests that look between two steps.
#[derive(Default)]
pub struct StepFlusher(Mutex<Queue>);

impl fmt::Debug for StepFlusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepFlusher").field("queued", &self.queued()).finish()
    }
}

impl StepFlusher {
    /// How many jobs wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        lock(&self.0).jobs.len()
    }

    /// Runs the job at place `nth` of the queue; `false` when there is none.
    pub fn step(&self, nth: usize) -> bool {
        let job = lock(&self.0).jobs.remove(nth);
        match job {
            Some(job) => {
                job.flush();
                true
            }
            None => false,
        }
    }

    /// Runs jobs, oldest first, until none is left.
    pub fn run(&self) {
        while self.step(0) {}
    }

    /// Forgets all jobs, as a crash does.
    pub fn clear(&self) {
        lock(&self.0).jobs.clear();
    }
}

impl Flusher for StepFlusher {
    fn submit(&self, job: Arc<dyn FlushJob>) {
        lock(&self.0).jobs.push_back(job);
    }
}
