//! Shows how a load goes while it runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::progress::Live;

/// How often the line is drawn anew: a rate over less would flicker.
const REDRAW: Duration = Duration::from_millis(500);

/// What was done so far.
#[derive(Debug, Default)]
pub(super) struct Counter {
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    pub(super) fn add(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Does `work`, with a live line on a terminal: how far, and how fast now.
pub(super) async fn watched<T>(
    what: &'static str,
    total: u64,
    counter: &Counter,
    work: impl Future<Output = T>,
) -> T {
    let Some(mut live) = Live::new(what, total) else { return work.await };
    let redraw = async {
        let mut ticks = interval(REDRAW);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            live.reach(counter.records(), counter.bytes());
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        () = redraw => unreachable!("the redrawing never ends"),
    }
}
