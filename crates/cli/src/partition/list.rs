//! `tidelog partition list`.

use std::process::ExitCode;

use serde::Serialize;

use super::args::ListArgs;
use crate::args::Globals;
use crate::connect::connect;
use crate::topic::{PartitionView, describe_with_offsets, ids, or_dash};
use crate::{Column, Failure, Page};

/// A partition and its topic.
#[derive(Debug, Serialize)]
struct Listed {
    topic: String,
    #[serde(flatten)]
    partition: PartitionView,
}

const COLUMNS: &[Column] = &[
    Column::text("PARTITION"),
    Column::text("LEADER"),
    Column::number("EPOCH").only_wide(),
    Column::text("REPLICAS"),
    Column::text("LIVE"),
    Column::text("MOVING"),
    Column::number("LOG-START").only_wide(),
    Column::number("HIGH-WATERMARK"),
];

pub(super) async fn run(globals: &Globals, args: &ListArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let mut listed = Vec::new();
    for (name, topic) in describe_with_offsets(&client, &args.topics).await? {
        let partitions = topic?.partitions.into_iter().filter(|partition| args.wants(partition));
        let topic = name.to_string();
        listed.extend(partitions.map(|partition| Listed { topic: topic.clone(), partition }));
    }
    globals.output().items("partition.list", &listed, |_| {
        Page::new().table(COLUMNS, listed.iter().map(Listed::cells))
    })?;
    Ok(ExitCode::SUCCESS)
}

impl ListArgs {
    fn wants(&self, partition: &PartitionView) -> bool {
        let unwanted = (self.under_replicated && !partition.is_under_replicated())
            || (self.leaderless && partition.leader.is_some())
            || (self.moving && partition.is_settled());
        !unwanted
    }
}

impl Listed {
    fn cells(&self) -> Vec<String> {
        let partition = &self.partition;
        vec![
            format!("{}/{}", self.topic, partition.partition),
            or_dash(partition.leader),
            or_dash(partition.leader_epoch),
            ids(&partition.replicas),
            ids(&partition.live_replicas),
            partition.moving(),
            or_dash(partition.log_start),
            or_dash(partition.high_watermark),
        ]
    }
}
