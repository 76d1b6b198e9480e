//! `tidelog partition scrub`.

use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use tidelog_client::BrokerId;
use tidelog_client::admin::{Admin, ScrubFacts};

use super::args::ScrubArgs;
use crate::args::Globals;
use crate::connect::connect;
use crate::topic::unknown_partition;
use crate::{Column, Exit, Failure, Page, chain};

/// A replica may be as large as its disk; whoever waits can interrupt.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What one replica has said.
#[derive(Debug, Serialize)]
struct Scrubbed {
    broker: u32,
    bytes: u64,
    mended: Vec<String>,
    stepped_out: Vec<String>,
    left: Vec<String>,
    problem: Option<String>,
}

/// What all have said.
#[derive(Debug, Serialize)]
struct Report {
    topic: String,
    partition: u32,
    replicas: Vec<Scrubbed>,
}

const COLUMNS: &[Column] =
    &[Column::number("BROKER"), Column::number("BYTES"), Column::text("DAMAGE")];

pub(super) async fn run(globals: &Globals, args: &ScrubArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let admin = client.admin();
    let name = &args.partition;
    let topic = admin.describe_topic(&name.topic).await?;
    let count = topic.partitions.len();
    let found = topic.partitions.into_iter().find(|facts| facts.partition == name.partition);
    let Some(mut facts) = found else {
        return Err(unknown_partition(name, u32::try_from(count).unwrap_or(u32::MAX)));
    };
    facts.replicas.sort_unstable();
    let asked: Vec<BrokerId> = match args.broker.map(BrokerId) {
        Some(broker) if facts.replicas.contains(&broker) => vec![broker],
        Some(broker) => {
            let has = facts.replicas.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let failure = Failure::new(format!("broker {broker} has no replica of {name}"));
            return Err(failure.exit(Exit::Usage).next_step(format!("brokers {has} have one")));
        }
        None => facts.replicas,
    };
    let brokers = admin.cluster().await?.brokers;
    let address = |id: BrokerId| {
        brokers.iter().find(|broker| broker.id == id).map(|broker| broker.address.clone())
    };
    let asked = asked.into_iter().map(|id| scrub(&admin, id, address(id), args));
    let report = Report {
        topic: name.topic.to_string(),
        partition: name.partition.0,
        replicas: join_all(asked).await,
    };
    let rows = report.replicas.iter().flat_map(Scrubbed::rows);
    globals.output().item("partition.scrub", &report, |_| Page::new().table(COLUMNS, rows))?;
    if report.replicas.iter().all(Scrubbed::is_well) {
        return Ok(ExitCode::SUCCESS);
    }
    let failure = Failure::new(format!("not every replica of {name} is whole"));
    Err(failure
        .exit(Exit::Failed)
        .next_step(format!("see again soon: tidelog partition raft {name}")))
}

async fn scrub(admin: &Admin, id: BrokerId, address: Option<String>, args: &ScrubArgs) -> Scrubbed {
    let rate = args.rate.map_or(0, |mb| u64::from(mb) * 1_000_000);
    let told = match address {
        Some(address) => admin.scrub_at(&address, &args.partition, rate, PATIENCE).await,
        None => return Scrubbed::new(id, Err("its address is not known".to_owned())),
    };
    Scrubbed::new(id, told.map_err(|error| chain(&error)))
}

impl Scrubbed {
    fn new(id: BrokerId, told: Result<ScrubFacts, String>) -> Self {
        let (facts, problem) = match told {
            Ok(facts) => (facts, None),
            Err(problem) => (ScrubFacts::default(), Some(problem)),
        };
        let (bytes, mended) = (facts.bytes, facts.mended);
        let (stepped_out, left) = (facts.stepped_out, facts.left);
        Self { broker: id.0, bytes, mended, stepped_out, left, problem }
    }

    /// Whether it holds all that it should by now.
    fn is_well(&self) -> bool {
        self.stepped_out.is_empty() && self.left.is_empty() && self.problem.is_none()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let told = |what: &'static str| move |line: &String| format!("{what}: {line}");
        let mut lines: Vec<String> = Vec::new();
        lines.extend(self.mended.iter().map(told("mended")));
        lines.extend(self.stepped_out.iter().map(told("stepped out until it is repaired")));
        lines.extend(self.left.iter().map(told("left")));
        lines.extend(self.problem.iter().map(told("not read")));
        if lines.is_empty() {
            lines.push("none".to_owned());
        }
        let row = |line| vec![self.broker.to_string(), self.bytes.to_string(), line];
        lines.into_iter().map(row).collect()
    }
}
