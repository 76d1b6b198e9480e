//! `tidelog cluster can-stop`: is a broker needed at this moment?

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tidelog_client::admin::{Admin, CanStop};
use tidelog_types::BrokerId;
use tokio::time::{Instant, sleep};

use crate::args::Globals;
use crate::connect::connect;
use crate::moment::parse_duration;
use crate::{Column, Exit, Failure, Page};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);
const KIND: &str = "cluster.can-stop";
/// What the metadata group is called.
const METADATA: &str = "(metadata)";

const COLUMNS: &[Column] = &[Column::text("PARTITION"), Column::text("NEEDED BECAUSE")];

/// Arguments of `cluster can-stop`.
#[derive(Args, Debug)]
pub(crate) struct CanStopArgs {
    /// Id of the broker that is to stop
    #[arg(value_name = "ID")]
    broker: u32,
    /// Ask again for so long, until the answer is yes
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    wait: Option<Duration>,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Answer {
    broker: u32,
    can_stop: bool,
    summary: String,
    risk_count: u32,
    risks: Vec<Risk>,
}

#[derive(Debug, Serialize)]
struct Risk {
    partition: String,
    reason: String,
}

pub(super) async fn run(globals: &Globals, args: &CanStopArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let told = ask(&client.admin(), args).await?;
    let name = |partition: Option<tidelog_types::TopicPartition>| {
        partition.map_or_else(|| METADATA.to_owned(), |partition| partition.to_string())
    };
    let risks = told.risks.into_iter();
    let answer = Answer {
        broker: args.broker,
        can_stop: told.can_stop,
        summary: told.summary,
        risk_count: told.risk_count,
        risks: risks
            .map(|risk| Risk { partition: name(risk.partition), reason: risk.reason })
            .collect(),
    };
    globals.output().item(KIND, &answer, |_| answer.page())?;
    Ok(if answer.can_stop { ExitCode::SUCCESS } else { Exit::Unhealthy.into() })
}

async fn ask(admin: &Admin, args: &CanStopArgs) -> Result<CanStop, Failure> {
    let deadline = Instant::now() + args.wait.unwrap_or_default();
    loop {
        let told = admin.can_stop(BrokerId(args.broker)).await;
        let is_over = Instant::now() + PAUSE >= deadline;
        match told {
            Ok(told) if told.can_stop || is_over => return Ok(told),
            Err(error) if is_over || !error.is_retriable() => return Err(error.into()),
            Ok(_) | Err(_) => sleep(PAUSE).await,
        }
    }
}

impl Answer {
    fn page(&self) -> Page {
        let page = Page::new().verdict(self.can_stop, self.summary.clone());
        if self.risks.is_empty() {
            return page;
        }
        let rows = self.risks.iter().map(|risk| vec![risk.partition.clone(), risk.reason.clone()]);
        page.table(COLUMNS, rows)
    }
}
