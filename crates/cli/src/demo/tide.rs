//! The counters that producers share: how far a load has come, and how each partition fares.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidelog_types::PartitionId;
use tokio::sync::Notify;

use super::order::USERS;

const UNKNOWN: u32 = u32::MAX;
/// How many failed sends are remembered in words.
const FAILURES_MAX: usize = 5;

/// Where a load stands. Counters only grow, but for those of what is in flight.
#[derive(Debug)]
pub struct Tide {
    began: Instant,
    sent: AtomicU64,
    acked: AtomicU64,
    acked_bytes: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<String>>,
    ended_producers: AtomicU64,
    partitions: Box<[Partition]>,
    /// The partition of each user, learned from acks: in-flight records are counted by partition
    /// without knowing how the client chooses it.
    homes: Box<[AtomicU32]>,
    moved: Notify,
}

#[derive(Debug, Default)]
struct Partition {
    in_flight: AtomicI64,
    acked: AtomicU64,
    last_ack_us: AtomicU64,
    /// The longest time between consecutive acks, of those that ended after `watched_us`.
    gap_us_max: AtomicU64,
    /// Zero: not watched.
    watched_us: AtomicU64,
}

impl Tide {
    /// Counters for a topic with that many partitions. Time begins now.
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        Self {
            began: Instant::now(),
            sent: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            acked_bytes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            failures: Mutex::default(),
            ended_producers: AtomicU64::new(0),
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            homes: (0..USERS).map(|_| AtomicU32::new(UNKNOWN)).collect(),
            moved: Notify::new(),
        }
    }

    /// Microseconds since the load began.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// Records sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Records acked.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Bytes of the keys and values of acked records.
    #[must_use]
    pub fn acked_bytes(&self) -> u64 {
        self.acked_bytes.load(Ordering::Relaxed)
    }

    /// Sends that ended with an error.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// The first errors of sends.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().expect("no holder of this lock panics").clone()
    }

    /// Records of one partition acked.
    #[must_use]
    pub fn acked_of(&self, partition: u32) -> u64 {
        self.partitions[partition as usize].acked.load(Ordering::Relaxed)
    }

    /// Records sent to one partition and not acked; less when the partition of some is unknown yet.
    #[must_use]
    pub fn in_flight(&self, partition: u32) -> u64 {
        let in_flight = self.partitions[partition as usize].in_flight.load(Ordering::Relaxed);
        in_flight.try_into().unwrap_or(0)
    }

    /// From now on, keeps the longest pause of one partition, and forgets those before.
    pub fn watch(&self, partition: u32) {
        let partition = &self.partitions[partition as usize];
        partition.gap_us_max.store(0, Ordering::Relaxed);
        partition.watched_us.store(self.now_us(), Ordering::Relaxed);
    }

    /// The longest time between two consecutive acks of a watched partition, the second of them after
    /// the watch began.
    #[must_use]
    pub fn longest_pause(&self, partition: u32) -> Duration {
        let longest = self.partitions[partition as usize].gap_us_max.load(Ordering::Relaxed);
        Duration::from_micros(longest)
    }

    /// When the last ack came, from the beginning.
    #[must_use]
    pub fn last_ack(&self) -> Duration {
        let last = self.partitions.iter().map(|p| p.last_ack_us.load(Ordering::Relaxed)).max();
        Duration::from_micros(last.unwrap_or_default())
    }

    /// Waits until `reached` holds; it is asked again whenever something was sent, acked or ended.
    pub async fn until(&self, mut reached: impl FnMut(&Self) -> bool) {
        loop {
            let moved = self.moved.notified();
            if reached(self) {
                return;
            }
            moved.await;
        }
    }

    pub(super) fn ended_producers(&self) -> u64 {
        self.ended_producers.load(Ordering::Relaxed)
    }

    pub(super) fn end_producer(&self) {
        self.ended_producers.fetch_add(1, Ordering::Relaxed);
        self.moved.notify_waiters();
    }

    /// Where a user's records go, once one was acked.
    pub(super) fn home(&self, user: u32) -> Option<PartitionId> {
        let home = self.homes[user as usize].load(Ordering::Relaxed);
        (home != UNKNOWN).then_some(PartitionId(home))
    }

    pub(super) fn send(&self, counted: Option<PartitionId>) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        if let Some(partition) = counted {
            self.partitions[partition.0 as usize].in_flight.fetch_add(1, Ordering::Relaxed);
        }
        self.moved.notify_waiters();
    }

    pub(super) fn ack(
        &self,
        user: u32,
        partition: PartitionId,
        counted: Option<PartitionId>,
        bytes: u64,
    ) {
        self.homes[user as usize].store(partition.0, Ordering::Relaxed);
        self.land(counted);
        self.acked.fetch_add(1, Ordering::Relaxed);
        self.acked_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.partitions[partition.0 as usize].ack(self.now_us());
        self.moved.notify_waiters();
    }

    pub(super) fn fail(&self, counted: Option<PartitionId>, err: &dyn std::fmt::Display) {
        self.land(counted);
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures.lock().expect("no holder of this lock panics");
        if failures.len() < FAILURES_MAX {
            failures.push(err.to_string());
        }
        self.moved.notify_waiters();
    }

    fn land(&self, counted: Option<PartitionId>) {
        if let Some(partition) = counted {
            self.partitions[partition.0 as usize].in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Partition {
    fn ack(&self, now_us: u64) {
        self.acked.fetch_add(1, Ordering::Relaxed);
        // Two producers may get here in the wrong order; the later time stands.
        let before = self.last_ack_us.fetch_max(now_us, Ordering::Relaxed);
        let watched_us = self.watched_us.load(Ordering::Relaxed);
        if watched_us != 0 && now_us >= watched_us && before != 0 {
            self.gap_us_max.fetch_max(now_us.saturating_sub(before), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_flight_counts_what_was_counted_and_not_acked() {
        let tide = Tide::new(2);
        let home = PartitionId(1);
        assert_eq!(tide.home(7), None);
        tide.send(None);
        tide.ack(7, home, None, 10);
        assert_eq!(tide.home(7), Some(home));
        (0..3).for_each(|_| tide.send(Some(home)));
        tide.ack(7, home, Some(home), 10);
        tide.fail(Some(home), &"timed out");
        assert_eq!((tide.in_flight(0), tide.in_flight(1)), (0, 1));
        assert_eq!((tide.sent(), tide.acked(), tide.failed()), (4, 2, 1));
        assert_eq!((tide.acked_of(1), tide.acked_bytes()), (2, 20));
        assert_eq!(tide.failures(), ["timed out"]);
    }

    #[test]
    fn longest_pause_spans_the_start_of_the_watch() {
        let partition = Partition::default();
        for now in [100, 900] {
            partition.ack(now);
        }
        partition.watched_us.store(1_000, Ordering::Relaxed);
        for now in [1_400, 1_450] {
            partition.ack(now);
        }
        // 900 to 1400, and not 100 to 900, which ended before the watch.
        assert_eq!(partition.gap_us_max.load(Ordering::Relaxed), 500);
    }
}
