//! A full disk: the one failure of a write that is no end.
//!
//! A write that finds no room has changed nothing that was safe, and what it was to write is still in
//! memory. So its owner keeps it, gives back the room of what got in, and waits here until it is told to
//! try again. That holds for writes, for the making of names, and for a file that is made anew as a whole.
//! What a failed sync has left of a file that is written on is unknown, whatever the reason it gives.

use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, Weak};

use crate::flusher::{FlushJob, Flusher};

/// Why bytes are not where they were to be.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There was no room. All is as it was before, and can be tried again.
    Full(io::Error),
    /// Nobody knows what is on the disk.
    Final(io::Error),
}

impl Failure {
    /// What the failure of a write, or of making a name, comes to.
    pub(crate) fn of_write(err: io::Error) -> Self {
        match err.kind() {
            // A quota is a disk of one's own.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(err),
            _ => Self::Final(err),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(err: io::Error) -> Self {
        Self::Final(err)
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        let (Failure::Full(err) | Failure::Final(err)) = failure;
        err
    }
}

/// The logs of a node, and its votes, that wait for room on the disk.
#[derive(Default)]
pub struct Room {
    waiting: Mutex<Vec<Weak<dyn FlushJob>>>,
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("waiting", &self.waiting().len()).finish()
    }
}

impl Room {
    /// How many logs, the votes counted as one, found no room when they last tried.
    #[must_use]
    pub fn awaited_by(&self) -> usize {
        self.waiting().iter().filter(|job| job.strong_count() > 0).count()
    }

    /// Has everything that waits try again. It waits until it has found room.
    pub fn try_again(&self, flusher: &dyn Flusher) {
        let waiting: Vec<_> = self.waiting().iter().filter_map(Weak::upgrade).collect();
        waiting.into_iter().for_each(|job| flusher.submit(job));
    }

    /// Notes who waits; once, however often it is said.
    pub(crate) fn await_by(&self, job: Weak<dyn FlushJob>) {
        let mut waiting = self.waiting();
        if !waiting.iter().any(|other| other.ptr_eq(&job)) {
            waiting.push(job);
        }
    }

    /// Notes who waits no more.
    pub(crate) fn leave(&self, job: &Weak<dyn FlushJob>) {
        self.waiting().retain(|other| !other.ptr_eq(job) && other.strong_count() > 0);
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Weak<dyn FlushJob>>> {
        self.waiting.lock().expect("nothing panics under the lock of those that wait")
    }
}
