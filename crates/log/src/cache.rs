//! The node's budget for the tails of its logs in memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use tidelog_types::LogIndex;

use crate::log::Log;

/// How many bytes the logs of a node may hold in memory, all together.
///
/// Each flush leaves a ticket for what it made evictable; over budget, the oldest tickets of the
/// node are cashed, whichever log they name. Entries that are not flushed have no ticket and stay,
/// so a disk that stands still can push the node over: bound what is in flight above the log.
#[derive(Debug)]
pub struct CacheBudget {
    bytes_max: u64,
    used: AtomicU64,
    tickets: Mutex<Tickets>,
}

/// A queue is not swept before it is longer than this.
const SWEEP_TICKETS_MIN: usize = 1024;

#[derive(Debug)]
struct Tickets {
    queue: VecDeque<Ticket>,
    sweep_at: usize,
}

/// A log whose entries below `end` are flushed and may leave the memory.
#[derive(Debug)]
struct Ticket {
    log: Weak<Log>,
    end: LogIndex,
}

impl CacheBudget {
    /// A budget of `bytes_max` bytes. Too small, and followers are fed from disk; too large, and
    /// the page cache loses what this takes.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        let tickets = Tickets { queue: VecDeque::new(), sweep_at: SWEEP_TICKETS_MIN };
        Self { bytes_max, used: AtomicU64::new(0), tickets: Mutex::new(tickets) }
    }

    /// The bytes that are held now, flushed or not.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The budget.
    #[must_use]
    pub const fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    pub(crate) fn take(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Notes that entries of `log` below `end` may go, and lets the oldest go while over budget.
    pub(crate) fn flushed(&self, log: Weak<Log>, end: LogIndex) {
        {
            let mut tickets = self.tickets();
            tickets.queue.push_back(Ticket { log, end });
            if tickets.queue.len() > tickets.sweep_at {
                let swept = tickets.sweep();
                // Not under the lock: the last handle of a log may be among them.
                drop(tickets);
                drop(swept);
            }
        }
        while self.used() > self.bytes_max {
            // The lock is not held while the log is asked: it takes its own.
            let ticket = self.tickets().queue.pop_front();
            let Some(ticket) = ticket else { return };
            if let Some(log) = ticket.log.upgrade() {
                log.evict(ticket.end);
            }
        }
    }

    fn tickets(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().expect("nothing panics under the lock of the tickets")
    }
}

impl Tickets {
    /// Drops the tickets of what has left the memory by other ways: its log was dropped, cut or
    /// purged. Done each time the queue has doubled, so it costs little and the queue stays bounded.
    fn sweep(&mut self) -> Vec<Arc<Log>> {
        let mut asked = Vec::new();
        self.queue.retain(|ticket| {
            let Some(log) = ticket.log.upgrade() else { return false };
            let holds = log.holds_below(ticket.end);
            asked.push(log);
            holds
        });
        self.sweep_at = (self.queue.len() * 2).max(SWEEP_TICKETS_MIN);
        asked
    }
}
