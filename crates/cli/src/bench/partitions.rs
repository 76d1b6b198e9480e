//! `tidelog bench partitions`: what many partitions cost when nobody uses them.
//!
//! A cluster of its own. How long a topic with so many partitions takes to be ready; then, idle, the
//! brokers' CPU and memory, and disk and open files of each replica; the first write to a partition that
//! sleeps; and what becomes of all of them when a broker is killed and comes back.

mod story;
mod usage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::latency::Percentiles;
use super::nodes;
use crate::Failure;
use crate::args::Globals;
use crate::output::{Column, Page};

/// Arguments of `tidelog bench partitions`.
#[derive(Args, Debug)]
pub(crate) struct PartitionsArgs {
    /// Partitions of the topic, each with three replicas
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Seconds to leave the cluster alone before it is looked at
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    settle: u32,
    /// Seconds over which it is looked at
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    idle: u32,
    /// Brokers of the cluster that is started for it
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..=9))]
    nodes: u32,
    /// Directory for data and logs, kept at the end; without it a temporary one, which is kept only when
    /// something fails
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    nodes: u32,
    partitions: u32,
    replicas_per_partition: u32,
    settle_s: u32,
    idle_s: u32,
    /// A broker alone, without a topic: from its start until it says that it is ready.
    empty_ready_ms: f64,
    /// What it holds in memory then, in units of 2^20 bytes.
    empty_rss_mib: f64,
    /// From the wish until the topic exists.
    create_ms: f64,
    /// From the wish until every partition has a leader that serves.
    ready_ms: f64,
    /// While nothing happens.
    brokers: Vec<Idle>,
    /// What the topic takes of the disks of all brokers, by replica.
    disk_bytes_per_replica: f64,
    /// Files and sockets that are open for the topic at all brokers, by replica.
    open_files_per_replica: f64,
    /// First writes to partitions that sleep, one after another.
    first_writes: u32,
    /// Of the first writes.
    #[serde(flatten)]
    first_write: Percentiles,
    killed_broker: u32,
    /// Partitions that it led.
    leaders_lost: u32,
    /// From SIGKILL until all of them have another leader that serves.
    leaders_again_ms: f64,
    /// From its start until it is ready, and in sync in all its replicas.
    in_sync_ms: f64,
}

/// A broker while nothing happens.
#[derive(Debug, Serialize)]
struct Idle {
    broker: u32,
    /// Of one core.
    cpu_percent: f64,
    /// In units of 2^20 bytes.
    rss_mib: f64,
    open_files: u64,
    disk_bytes: u64,
}

/// Measures with a cluster of its own.
pub(crate) async fn run(globals: &Globals, args: PartitionsArgs) -> Result<ExitCode, Failure> {
    if !Path::new("/proc/self/stat").exists() {
        return Err(Failure::new("what brokers use is told by /proc, which this system has not"));
    }
    nodes::in_place(args.dir.as_deref(), "tidelog-partitions-", async |dir| {
        let report = story::tell(globals, &args, dir).await?;
        globals.output().item("bench", &report, |_| report.page())?;
        Ok(ExitCode::SUCCESS)
    })
    .await
}

const COLUMNS: &[Column] = &[
    Column::number("BROKER"),
    Column::number("CPU %"),
    Column::number("RSS MIB"),
    Column::number("OPEN FILES"),
    Column::number("DISK BYTES"),
];

impl Report {
    fn page(&self) -> Page {
        let rows = self.brokers.iter().map(Idle::cells);
        let ms = |ms: f64| format!("{ms:.0}");
        Page::new()
            .facts([
                ("empty broker ready ms", ms(self.empty_ready_ms)),
                ("empty broker MiB", format!("{:.1}", self.empty_rss_mib)),
                ("partitions", self.partitions.to_string()),
                ("created ms", ms(self.create_ms)),
                ("all ready ms", ms(self.ready_ms)),
                ("disk bytes per replica", ms(self.disk_bytes_per_replica)),
                ("open files per replica", format!("{:.2}", self.open_files_per_replica)),
            ])
            .table(COLUMNS, rows)
            .sentence(format!("first writes to {} sleeping partitions", self.first_writes))
            .facts(self.first_write.facts())
            .sentence(format!(
                "killed broker {}, leader of {} partitions",
                self.killed_broker, self.leaders_lost
            ))
            .facts([
                ("leaders again ms", ms(self.leaders_again_ms)),
                ("in sync again ms", ms(self.in_sync_ms)),
            ])
    }
}

impl Idle {
    fn cells(&self) -> Vec<String> {
        vec![
            self.broker.to_string(),
            format!("{:.2}", self.cpu_percent),
            format!("{:.1}", self.rss_mib),
            self.open_files.to_string(),
            self.disk_bytes.to_string(),
        ]
    }
}
