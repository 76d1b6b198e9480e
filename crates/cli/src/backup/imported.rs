//! What an import made, as it is shown.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use tidelog_types::TopicName;

use super::args::ImportArgs;
use super::contents::Contents;
use super::format::PartitionEnd;
use super::groups::Moved;
use crate::output::plural;
use crate::{Column, Page};

/// A topic that holds what a file holds: it was read back and compared.
#[derive(Debug, Serialize)]
pub(super) struct Imported {
    topic: String,
    file: PathBuf,
    records: u64,
    /// How many of them an earlier import had written.
    resumed: u64,
    /// As in the file: the records of each are at 0 and up in the new topic.
    partitions: Vec<PartitionEnd>,
    groups: Vec<Moved>,
}

const PARTITION_COLUMNS: &[Column] = &[
    Column::number("PARTITION"),
    Column::number("RECORDS"),
    Column::number("FROM"),
    Column::number("TO"),
    Column::text("CRC32C"),
];
const GROUP_COLUMNS: &[Column] = &[
    Column::text("GROUP"),
    Column::number("PARTITION"),
    Column::number("FROM"),
    Column::number("TO"),
];

impl Imported {
    pub(super) fn new(
        topic: &TopicName,
        args: &ImportArgs,
        contents: &Contents,
        held: Option<Vec<u64>>,
        groups: BTreeMap<String, Vec<Moved>>,
    ) -> Self {
        Self {
            topic: topic.to_string(),
            file: args.file.clone(),
            records: contents.end.records,
            resumed: held.into_iter().flatten().sum(),
            partitions: contents.end.partitions.clone(),
            groups: groups.into_values().flatten().collect(),
        }
    }

    /// Partitions with the offset of their first record in the file and in the topic, then groups.
    pub(super) fn page(&self) -> Page {
        let row = |at: &PartitionEnd| {
            let records = (at.end - at.start).to_string();
            vec![
                at.partition.to_string(),
                records,
                at.start.to_string(),
                "0".into(),
                at.crc.to_string(),
            ]
        };
        let page = Page::new().table(PARTITION_COLUMNS, self.partitions.iter().map(row));
        let page = match self.groups.is_empty() {
            true => page,
            false => {
                page.heading("Groups").table(GROUP_COLUMNS, self.groups.iter().map(Moved::cells))
            }
        };
        let records = plural(self.records, "record");
        page.verdict(true, format!("{} holds {records}, read back and compared", self.topic))
    }
}
