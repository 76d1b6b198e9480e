//! Adds up, over restarts, what brokers say they synced.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::report::BrokerReport;
use crate::local::{Broker, LocalCluster, Scraper};

/// Between two scrapes: what a killed broker did after the last one is not counted.
const EVERY: Duration = Duration::from_millis(200);

/// Watches the counters of every broker of a cluster.
#[derive(Debug)]
pub(super) struct SyncWatch {
    task: JoinHandle<Vec<Count>>,
    stop: Arc<Notify>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    ended: (u64, u64),
    current: (u64, u64),
}

impl SyncWatch {
    pub(super) fn start(cluster: &LocalCluster) -> Self {
        let scrapers: Vec<Scraper> = cluster.brokers().iter().map(Broker::scraper).collect();
        let stop = Arc::new(Notify::new());
        let task = tokio::spawn(watch(scrapers, Arc::clone(&stop)));
        Self { task, stop }
    }

    /// The counts up to now, one broker each in the order of ids.
    pub(super) async fn end(self) -> Vec<BrokerReport> {
        self.stop.notify_one();
        let counts = self.task.await.expect("the watch neither panics nor is aborted");
        (1..).zip(&counts).map(|(broker, count)| count.report(broker)).collect()
    }
}

async fn watch(scrapers: Vec<Scraper>, stop: Arc<Notify>) -> Vec<Count> {
    let mut counts = vec![Count::default(); scrapers.len()];
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            biased;
            () = stop.notified() => true,
            _ = ticks.tick() => false,
        };
        for (scraper, count) in scrapers.iter().zip(&mut counts) {
            // A broker that is down has nothing to say, and nothing new to count.
            let Ok(metrics) = scraper.metrics().await else { continue };
            let value = |name| metrics.get(name).copied().unwrap_or_default() as u64;
            count.see((value(SYNCS), value(SYNCED_BYTES)));
        }
        if last {
            return counts;
        }
    }
}

impl Count {
    /// A counter that went back belongs to a new life of the process.
    fn see(&mut self, sample: (u64, u64)) {
        if sample.0 < self.current.0 {
            self.ended.0 += self.current.0;
            self.ended.1 += self.current.1;
        }
        self.current = sample;
    }

    fn report(&self, broker: u32) -> BrokerReport {
        BrokerReport {
            broker,
            fdatasync_calls: self.ended.0 + self.current.0,
            synced_bytes: self.ended.1 + self.current.1,
        }
    }
}

const SYNCS: &str = "tidelog_fdatasync_calls_total";
const SYNCED_BYTES: &str = "tidelog_synced_bytes_total";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_on_over_a_restart() {
        let mut count = Count::default();
        for sample in [(5, 50), (9, 90), (2, 20), (3, 30)] {
            count.see(sample);
        }
        let report = count.report(1);
        assert_eq!((report.fdatasync_calls, report.synced_bytes), (12, 120));
    }
}
