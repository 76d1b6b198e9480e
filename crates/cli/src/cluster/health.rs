//! `tidelog cluster health`: is anything wrong?

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tidelog_client::Client;
use tidelog_client::admin::{Health, HealthStatus};
use tidelog_types::{Timestamp, TopicPartition};
use tokio::time::sleep;

use super::outage::Outage;
use crate::args::Globals;
use crate::connect::connect;
use crate::interrupt::Interrupt;
use crate::moment::{Zone, now};
use crate::{Exit, Failure, Output, Page};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);
const KIND: &str = "cluster.health";
/// How many partitions are named for people; JSON names all that the broker names.
const NAMES_MAX: usize = 10;

/// Arguments of `cluster health`.
#[derive(Args, Debug)]
pub(crate) struct HealthArgs {
    /// Look again and again, and print what changes, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// Look again and again, and end with 0 once the cluster is healthy
    #[arg(long)]
    exit_when_healthy: bool,
}

/// The cluster's health, as one of its brokers sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct HealthView {
    healthy: bool,
    /// `healthy`, `degraded`, `unavailable` or, when nobody could be asked, `unreachable`.
    status: &'static str,
    summary: String,
    answered_by: Option<u32>,
    controller: Option<u32>,
    dead_brokers: Vec<u32>,
    /// What becomes of the replicas of each of them.
    outages: Vec<Outage>,
    /// How long a broker may be gone until its replicas are made anew; 0: for ever. `null`: nobody is
    /// dead, or it is not known.
    rebuild_after_ms: Option<u64>,
    low_on_space: Vec<u32>,
    partitions: u32,
    leaderless_count: u32,
    under_replicated_count: u32,
    leaderless: Vec<String>,
    under_replicated: Vec<String>,
}

pub(super) async fn run(globals: &Globals, args: &HealthArgs) -> Result<ExitCode, Failure> {
    if args.watch || args.exit_when_healthy {
        return watch(globals, args).await;
    }
    let health = look(&connect(globals).await?).await?;
    health.print(globals.output())?;
    Ok(health.exit())
}

/// Prints the health whenever it changes. A cluster that is not there yet is only not healthy.
async fn watch(globals: &Globals, args: &HealthArgs) -> Result<ExitCode, Failure> {
    let mut interrupt = Interrupt::listen()?;
    let mut shown = None;
    let mut client = None;
    loop {
        let health = match look_again(globals, &mut client).await {
            Ok(health) => health,
            Err(failure) => HealthView::unreachable(&failure),
        };
        let exit = health.exit();
        let healthy = health.healthy;
        if shown.as_ref().is_none_or(|shown| !health.tells_the_same(shown)) {
            health.print(globals.output())?;
            shown = Some(health);
        }
        if healthy && args.exit_when_healthy {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            biased;
            () = interrupt.asked() => return Ok(exit),
            () = sleep(PAUSE) => {}
        }
    }
}

async fn look_again(globals: &Globals, client: &mut Option<Client>) -> Result<HealthView, Failure> {
    let connected = match client.take() {
        Some(client) => client,
        None => connect(globals).await?,
    };
    let health = look(&connected).await?;
    *client = Some(connected);
    Ok(health)
}

/// Asks for it.
pub(crate) async fn look(client: &Client) -> Result<HealthView, Failure> {
    Ok(client.admin().health().await?.into())
}

impl From<Health> for HealthView {
    fn from(health: Health) -> Self {
        let status = match health.status {
            HealthStatus::Healthy => "healthy",
            HealthStatus::Degraded => "degraded",
            _ => "unavailable",
        };
        let names = |list: &[TopicPartition]| list.iter().map(ToString::to_string).collect();
        Self {
            healthy: health.status == HealthStatus::Healthy,
            status,
            summary: health.summary,
            answered_by: Some(health.answered_by.0),
            controller: health.controller.map(|broker| broker.0),
            dead_brokers: health.dead_brokers.into_iter().map(|broker| broker.0).collect(),
            outages: health.outages.into_iter().map(Outage::from).collect(),
            rebuild_after_ms: health.rebuild_after.map(|after| after.as_millis() as u64),
            low_on_space: health.low_on_space.into_iter().map(|broker| broker.0).collect(),
            partitions: health.partitions,
            leaderless_count: health.leaderless_count,
            under_replicated_count: health.under_replicated_count,
            leaderless: names(&health.leaderless),
            under_replicated: names(&health.under_replicated),
        }
    }
}

impl HealthView {
    fn unreachable(failure: &Failure) -> Self {
        Self { status: "unreachable", summary: failure.to_string(), ..Self::default() }
    }

    /// Whether the cluster is as it was; another broker may say so.
    fn tells_the_same(&self, other: &Self) -> bool {
        let at_rest = |view: &Self| Self {
            answered_by: None,
            outages: view.outages.iter().map(Outage::at_rest).collect(),
            ..view.clone()
        };
        at_rest(self) == at_rest(other)
    }

    fn exit(&self) -> ExitCode {
        if self.healthy { ExitCode::SUCCESS } else { Exit::Unhealthy.into() }
    }

    fn print(&self, output: Output) -> io::Result<()> {
        output.item(KIND, self, |zone| self.page(now(), zone))
    }

    fn page(&self, now: Timestamp, zone: Zone) -> Page {
        let names = |ids: &[u32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let facts = [
            ("dead brokers", names(&self.dead_brokers)),
            ("nearly full disks", names(&self.low_on_space)),
            ("without leader", shortened(&self.leaderless, self.leaderless_count)),
            ("under-replicated", shortened(&self.under_replicated, self.under_replicated_count)),
        ];
        let page = Page::new()
            .verdict(self.healthy, format!("{}: {}", self.status, self.summary))
            .facts(facts.into_iter().filter(|(_, names)| !names.is_empty()));
        self.outages
            .iter()
            .fold(page, |page, outage| page.sentence(outage.line(self.rebuild_after_ms, now, zone)))
    }
}

/// The first names, and how many more there are.
fn shortened(names: &[String], count: u32) -> String {
    let shown = names.len().min(NAMES_MAX);
    let more = (count as usize).saturating_sub(shown);
    let names = names[..shown].join(" ");
    if more == 0 { names } else { format!("{names} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_and_only_that() {
        let good = HealthView { healthy: true, status: "healthy", ..HealthView::default() };
        let shown = format!("{:?}", good.page(now(), Zone::Utc));
        assert!(!shown.contains("dead brokers"), "{shown}");
        let bad = HealthView { healthy: false, dead_brokers: vec![2, 3], ..good };
        let shown = format!("{:?}", bad.page(now(), Zone::Utc));
        assert!(shown.contains("dead brokers") && shown.contains("\"2 3\""), "{shown}");
        assert_eq!(bad.exit(), ExitCode::from(10));
    }

    #[test]
    fn long_lists_are_shortened() {
        let names: Vec<String> = (0..12).map(|number| format!("t/{number}")).collect();
        assert!(shortened(&names, 1200).ends_with("t/9 and 1190 more"));
        assert_eq!(shortened(&names[..2], 2), "t/0 t/1");
        assert_eq!(shortened(&[], 0), "");
    }
}
