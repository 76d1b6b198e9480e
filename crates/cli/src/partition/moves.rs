//! `tidelog partition move`.

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use tidelog_client::Client;
use tidelog_types::{TopicName, TopicPartition};
use tokio::time::{Instant, sleep};

use super::args::MoveArgs;
use crate::args::Globals;
use crate::connect::connect;
use crate::output::plural;
use crate::topic::{PartitionView, describe, ids};
use crate::{Column, Exit, Failure, Page};

/// Between two looks at how far it is.
const PAUSE: Duration = Duration::from_millis(200);

/// A partition that was told where to be.
#[derive(Debug, Serialize)]
struct Moved {
    topic: String,
    partition: u32,
    replicas: Vec<u32>,
    /// Brokers that do not vote yet.
    joining: Vec<u32>,
    /// Brokers that have not given their replica up yet.
    leaving: Vec<u32>,
    settled: bool,
}

const COLUMNS: &[Column] =
    &[Column::text("PARTITION"), Column::text("REPLICAS"), Column::text("MOVING")];

pub(super) async fn run(globals: &Globals, args: &MoveArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let admin = client.admin();
    if args.dry_run {
        let changed = admin.check_moves(args.moves.clone()).await?;
        let sentence = format!("{} would move", plural(changed.into(), "partition"));
        globals.output().item("partition.move", &changed, |_| Page::new().sentence(sentence))?;
        return Ok(ExitCode::SUCCESS);
    }
    admin.move_partitions(args.moves.clone()).await?;
    let deadline = args.wait.map(|wait| Instant::now() + wait);
    let mut views = look(&client, args).await?;
    while let Some(deadline) = deadline {
        let is_there = views.iter().all(|(_, view)| view.is_settled());
        if is_there || Instant::now() + PAUSE >= deadline {
            break;
        }
        sleep(PAUSE).await;
        views = look(&client, args).await?;
    }
    let moved: Vec<Moved> = views.iter().map(|(name, view)| Moved::new(name, view)).collect();
    let row = |(name, view): &(TopicPartition, PartitionView)| {
        vec![name.to_string(), ids(&view.replicas), view.moving()]
    };
    let page = |_| Page::new().table(COLUMNS, views.iter().map(row));
    globals.output().items("partition.move", &moved, page)?;
    let rest = moved.iter().filter(|one| !one.settled).count();
    if rest == 0 || args.wait.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    let failure = Failure::new(format!("{} on the way still", plural(rest as u64, "partition")));
    Err(failure.exit(Exit::Failed).next_step("see how far: tidelog partition list --moving"))
}

/// The partitions as they are now.
async fn look(
    client: &Client,
    args: &MoveArgs,
) -> Result<Vec<(TopicPartition, PartitionView)>, Failure> {
    let mut names: Vec<TopicName> =
        args.moves.iter().map(|one| one.partition.topic.clone()).collect();
    names.sort_unstable();
    names.dedup();
    let mut views = Vec::new();
    for (name, topic) in describe(client, &names).await? {
        for view in topic?.partitions {
            let named = view.named(&name);
            if args.moves.iter().any(|one| one.partition == named) {
                views.push((named, view));
            }
        }
    }
    Ok(views)
}

impl Moved {
    fn new(name: &TopicPartition, view: &PartitionView) -> Self {
        Self {
            topic: name.topic.to_string(),
            partition: name.partition.0,
            replicas: view.replicas.clone(),
            joining: view.joining.clone(),
            leaving: view.leaving.clone(),
            settled: view.is_settled(),
        }
    }
}
