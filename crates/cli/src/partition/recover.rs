//! `tidelog partition unsafe-recover`: shows what is lost, asks, and has one broker go on alone.

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use tidelog_client::BrokerId;
use tidelog_client::admin::{RecoveredGroup, UnsafeRecovery};
use tidelog_types::Timestamp;

use super::args::UnsafeRecoverArgs;
use crate::args::Globals;
use crate::confirm::confirm;
use crate::connect::connect;
use crate::moment::Zone;
use crate::output::plural;
use crate::{Column, Exit, Failure, Page};

/// How long all groups together may take.
const PATIENCE: Duration = Duration::from_secs(60);

const KIND: &str = "partition.unsafe-recover";

const COLUMNS: &[Column] = &[
    Column::text("PARTITION"),
    Column::number("END OFFSET"),
    Column::number("COMMITTED"),
    Column::text("LAST APPEND"),
    Column::text("STATE"),
];

/// What goes on, and what does not.
#[derive(Debug, Serialize)]
struct Report {
    from: u32,
    lost: Vec<u32>,
    groups: Vec<GroupReport>,
    gone: Vec<String>,
}

#[derive(Debug, Serialize)]
struct GroupReport {
    partition: String,
    end_offset: u64,
    high_watermark: u64,
    append_time_ms: i64,
    recovered_at: Option<u64>,
    refusal: Option<String>,
}

pub(super) async fn run(globals: &Globals, args: &UnsafeRecoverArgs) -> Result<ExitCode, Failure> {
    if globals.yes && args.lost.is_empty() && !args.dry_run {
        let failure = Failure::usage("-y does not guess which brokers are lost for good");
        return Err(failure.next_step("name them: --lost 2,3"));
    }
    let client = connect(globals).await?;
    let (admin, from) = (client.admin(), BrokerId(args.from));
    let brokers = admin.cluster().await?.brokers;
    let found = brokers.iter().find(|broker| broker.id == from);
    let Some(address) = found.map(|broker| broker.address.clone()) else {
        let all: Vec<_> = brokers.iter().map(|broker| broker.id.to_string()).collect();
        let failure = Failure::usage(format!("there is no broker {from}"));
        return Err(failure.next_step(format!("brokers are {}", all.join(", "))));
    };
    let lost: Vec<_> = args.lost.iter().copied().map(BrokerId).collect();
    let plan = admin.plan_unsafe_recovery_at(&address, from, &lost, &args.partitions).await?;
    let ready = plan.groups.iter().filter(|group| group.refusal.is_none()).count() as u64;
    if args.dry_run || !globals.yes || ready == 0 {
        Report::new(args, &plan).print(globals)?;
    }
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    if ready == 0 {
        let failure = Failure::new(format!("broker {from} can go on with nothing"));
        return Err(failure.exit(Exit::Failed));
    }
    confirm(globals, &consequence(args, &plan, ready))?;
    let done = admin.unsafe_recover_at(&address, from, &plan.lost, &args.partitions, PATIENCE);
    let report = Report::new(args, &done.await?);
    report.print(globals)?;
    let left = report.groups.iter().filter(|group| group.refusal.is_some()).count() as u64;
    if left == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let failure = Failure::new(format!("{} did not go on", plural(left, "group")));
    Err(failure.exit(Exit::Failed).next_step("see STATE, and ask again"))
}

/// What there is no way back from.
fn consequence(args: &UnsafeRecoverArgs, plan: &UnsafeRecovery, ready: u64) -> String {
    let (lost, from) = (ids(&plan.lost), args.from);
    let groups = plural(ready, "group");
    format!(
        "brokers {lost} are shut out for good, and {groups} go on with what broker {from} holds: whatever \
         was acked and is not there is lost"
    )
}

fn ids(brokers: &[BrokerId]) -> String {
    brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Report {
    fn new(args: &UnsafeRecoverArgs, told: &UnsafeRecovery) -> Self {
        Self {
            from: args.from,
            lost: told.lost.iter().map(|broker| broker.0).collect(),
            groups: told.groups.iter().map(GroupReport::new).collect(),
            gone: told.gone.iter().map(ToString::to_string).collect(),
        }
    }

    fn print(&self, globals: &Globals) -> Result<(), Failure> {
        Ok(globals.output().item(KIND, self, |zone| self.page(zone))?)
    }

    fn page(&self, zone: Zone) -> Page {
        let lost: Vec<_> = self.lost.iter().map(ToString::to_string).collect();
        let mut facts = vec![("from", self.from.to_string()), ("lost", lost.join(" "))];
        if !self.gone.is_empty() {
            facts.push(("without any replica", self.gone.join(" ")));
        }
        Page::new().facts(facts).table(COLUMNS, self.groups.iter().map(|group| group.cells(zone)))
    }
}

impl GroupReport {
    fn new(group: &RecoveredGroup) -> Self {
        let name = group.partition.as_ref();
        Self {
            partition: name.map_or_else(|| "metadata".to_owned(), ToString::to_string),
            end_offset: group.end_offset.0,
            high_watermark: group.high_watermark.0,
            append_time_ms: group.append_time.0,
            recovered_at: group.recovered_at.map(|at| at.0),
            refusal: group.refusal.clone(),
        }
    }

    fn cells(&self, zone: Zone) -> Vec<String> {
        let state = match (&self.refusal, self.recovered_at) {
            (Some(refusal), _) => refusal.clone(),
            (None, Some(_)) => "goes on".to_owned(),
            (None, None) => "can go on".to_owned(),
        };
        vec![
            self.partition.clone(),
            self.end_offset.to_string(),
            self.high_watermark.to_string(),
            zone.show(Timestamp(self.append_time_ms)),
            state,
        ]
    }
}
