//! `tidelog cluster rebalance`: spreads replicas over the brokers, or shows how it would.

use std::process::ExitCode;

use clap::Args;
use indicatif::HumanBytes;
use serde::Serialize;
use tidelog_client::admin::{PlannedLoad, PlannedMove};

use crate::args::Globals;
use crate::connect::connect;
use crate::output::plural;
use crate::topic::ids;
use crate::{Column, Failure, Page};

/// Arguments of `cluster rebalance`.
#[derive(Args, Debug)]
pub(crate) struct RebalanceArgs {
    /// Show what would move, and move nothing
    #[arg(long)]
    dry_run: bool,
}

const MOVES: &[Column] = &[
    Column::text("PARTITION"),
    Column::text("REPLICAS"),
    Column::text("THEN"),
    Column::number("BYTES"),
];

const LOADS: &[Column] = &[
    Column::number("BROKER"),
    Column::text("REPLICAS"),
    Column::text("BYTES"),
    Column::text("SHOULD LEAD"),
];

#[derive(Debug, Serialize)]
struct Plan {
    dry_run: bool,
    moves: Vec<Move>,
    brokers: Vec<Load>,
}

#[derive(Debug, Serialize)]
struct Move {
    topic: String,
    partition: u32,
    before: Vec<u32>,
    replicas: Vec<u32>,
    log_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Load {
    broker: u32,
    replicas_before: u64,
    replicas: u64,
    log_bytes_before: u64,
    log_bytes: u64,
    leaders_before: u64,
    leaders: u64,
}

pub(super) async fn run(globals: &Globals, args: &RebalanceArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let admin = client.admin();
    let plan = match args.dry_run {
        true => admin.plan_rebalance().await?,
        false => admin.rebalance().await?,
    };
    let plan = Plan {
        dry_run: args.dry_run,
        moves: plan.moves.iter().map(Move::new).collect(),
        brokers: plan.loads.into_iter().map(Load::from).collect(),
    };
    globals.output().item("cluster.rebalance", &plan, |_| plan.page())?;
    Ok(ExitCode::SUCCESS)
}

impl Plan {
    fn page(&self) -> Page {
        if self.moves.is_empty() {
            return Page::new().verdict(true, "replicas and leaders are spread evenly");
        }
        let count = plural(self.moves.len() as u64, "partition");
        let verb = if self.dry_run { "would change" } else { "changes" };
        let page = Page::new()
            .sentence(format!("{count} {verb}"))
            .table(MOVES, self.moves.iter().map(Move::cells))
            .heading("brokers, now and then")
            .table(LOADS, self.brokers.iter().map(Load::cells));
        match self.dry_run {
            true => page,
            false => page.sentence("see how far: tidelog partition list --moving"),
        }
    }
}

impl Move {
    fn new(planned: &PlannedMove) -> Self {
        Self {
            topic: planned.partition.topic.to_string(),
            partition: planned.partition.partition.0,
            before: planned.before.iter().map(|id| id.0).collect(),
            replicas: planned.replicas.iter().map(|id| id.0).collect(),
            log_bytes: planned.log_bytes,
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            format!("{}/{}", self.topic, self.partition),
            ids(&self.before),
            ids(&self.replicas),
            HumanBytes(self.log_bytes).to_string(),
        ]
    }
}

impl From<PlannedLoad> for Load {
    fn from(load: PlannedLoad) -> Self {
        Self {
            broker: load.broker.0,
            replicas_before: load.replicas.0,
            replicas: load.replicas.1,
            log_bytes_before: load.log_bytes.0,
            log_bytes: load.log_bytes.1,
            leaders_before: load.leaders.0,
            leaders: load.leaders.1,
        }
    }
}

impl Load {
    fn cells(&self) -> Vec<String> {
        vec![
            self.broker.to_string(),
            format!("{} -> {}", self.replicas_before, self.replicas),
            format!("{} -> {}", HumanBytes(self.log_bytes_before), HumanBytes(self.log_bytes)),
            format!("{} -> {}", self.leaders_before, self.leaders),
        ]
    }
}
