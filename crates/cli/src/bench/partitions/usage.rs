//! What the brokers of a cluster use.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Idle;
use crate::Failure;
use crate::bench::process::{cpu_time, disk_bytes, open_files};
use crate::local::{Broker, LocalCluster};

const MIB: f64 = (1 << 20) as f64;

/// What all brokers have open and on disk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    pub(super) open_files: u64,
    pub(super) disk_bytes: u64,
}

impl Held {
    pub(super) fn of(cluster: &LocalCluster) -> Result<Self, Failure> {
        let mut all = Self::default();
        for broker in cluster.brokers() {
            all.open_files += told(broker, open_files(pid(broker)?))?;
            all.disk_bytes += told(broker, disk_bytes(broker.data_dir()))?;
        }
        Ok(all)
    }

    /// What one of `replicas` holds more than there was without them; memory and logs of the brokers may
    /// shrink meanwhile, a replica holds nothing less than nothing.
    pub(super) fn per_replica(&self, before: &Self, replicas: u64) -> (f64, f64) {
        let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / replicas as f64;
        (each(self.disk_bytes, before.disk_bytes), each(self.open_files, before.open_files))
    }
}

/// Looks at all brokers for so long.
pub(super) async fn idle(cluster: &LocalCluster, within: Duration) -> Result<Vec<Idle>, Failure> {
    let cpu = || cluster.brokers().iter().map(|broker| told(broker, cpu_time(pid(broker)?)));
    let (begun, before) = (Instant::now(), cpu().collect::<Result<Vec<_>, _>>()?);
    sleep(within).await;
    let (took, after) = (begun.elapsed(), cpu().collect::<Result<Vec<_>, _>>()?);
    let used = before.iter().zip(after).map(|(before, after)| after.saturating_sub(*before));
    let each = cluster.brokers().iter().zip(used).map(|(broker, used)| {
        Ok(Idle {
            broker: broker.id(),
            cpu_percent: used.as_secs_f64() / took.as_secs_f64() * 100.0,
            rss_mib: resident_mib(broker)?,
            open_files: told(broker, open_files(pid(broker)?))?,
            disk_bytes: told(broker, disk_bytes(broker.data_dir()))?,
        })
    });
    each.collect()
}

/// What a broker holds in memory.
pub(super) fn resident_mib(broker: &Broker) -> Result<f64, Failure> {
    let bytes = broker.resident_bytes();
    let bytes = bytes.ok_or_else(|| untold(broker, "it does not run"))?;
    Ok(bytes as f64 / MIB)
}

fn pid(broker: &Broker) -> Result<u32, Failure> {
    broker.pid().ok_or_else(|| untold(broker, "it does not run"))
}

fn told<T>(broker: &Broker, found: io::Result<T>) -> Result<T, Failure> {
    found.map_err(|err| untold(broker, err))
}

fn untold(broker: &Broker, why: impl std::fmt::Display) -> Failure {
    Failure::new(format!("cannot see what broker {} uses: {why}", broker.id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_hold_what_came_with_them() {
        let before = Held { open_files: 40, disk_bytes: 1_000 };
        let now = Held { open_files: 64, disk_bytes: 25_000 };
        assert_eq!(now.per_replica(&before, 24), (1_000.0, 1.0));
        assert_eq!(before.per_replica(&now, 24), (0.0, 0.0));
    }
}
