//! Topics as they are shown.

use serde::Serialize;
use tidelog_types::Timestamp;

use crate::{Column, Page, Zone};

/// A topic with its partitions and configuration.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TopicView {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) created_ms: i64,
    pub(crate) replication_factor: u32,
    pub(crate) partitions: Vec<PartitionView>,
    pub(crate) configs: Vec<ConfigView>,
}

/// A partition. The offsets are absent when no leader told them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PartitionView {
    pub(crate) partition: u32,
    pub(crate) leader: Option<u32>,
    pub(crate) leader_epoch: Option<i32>,
    pub(crate) replicas: Vec<u32>,
    pub(crate) live_replicas: Vec<u32>,
    pub(crate) joining: Vec<u32>,
    pub(crate) leaving: Vec<u32>,
    pub(crate) log_start: Option<u64>,
    pub(crate) high_watermark: Option<u64>,
}

/// A value in force and where it was set.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ConfigView {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) source: &'static str,
}

pub(super) const TOPIC_COLUMNS: &[Column] = &[
    Column::text("NAME"),
    Column::number("PARTITIONS"),
    Column::number("REPLICAS"),
    Column::number("UNDER-REPLICATED"),
    Column::text("ID").only_wide(),
];

const PARTITION_COLUMNS: &[Column] = &[
    Column::number("PARTITION"),
    Column::text("LEADER"),
    Column::number("EPOCH"),
    Column::text("REPLICAS"),
    Column::text("LIVE"),
    Column::number("LOG-START"),
    Column::number("HIGH-WATERMARK"),
    Column::number("RECORDS"),
];

const CONFIG_COLUMNS: &[Column] =
    &[Column::text("KEY"), Column::text("VALUE"), Column::text("SOURCE")];

impl TopicView {
    /// The cells of the topic's line in a list.
    pub(super) fn cells(&self) -> Vec<String> {
        let lacking = self.partitions.iter().filter(|p| p.is_under_replicated()).count();
        vec![
            self.name.clone(),
            self.partitions.len().to_string(),
            self.replication_factor.to_string(),
            lacking.to_string(),
            self.id.clone(),
        ]
    }

    /// The topic's part of a page that describes topics.
    pub(super) fn describe(&self, page: Page, zone: Zone) -> Page {
        let page = page
            .heading(format!("Topic {}", self.name))
            .facts([
                ("id", self.id.clone()),
                ("created", zone.show(Timestamp(self.created_ms))),
                ("replicas", self.replication_factor.to_string()),
            ])
            .table(PARTITION_COLUMNS, self.partitions.iter().map(PartitionView::cells));
        config_table(page, &self.configs)
    }

    /// How many records it holds, as far as leaders told.
    pub(super) fn records(&self) -> u64 {
        self.partitions.iter().filter_map(PartitionView::records).sum()
    }
}

impl PartitionView {
    /// Whether a replica does not answer.
    pub(crate) fn is_under_replicated(&self) -> bool {
        self.live_replicas.len() < self.replicas.len()
    }

    /// Whether all replicas are where they should be, and nowhere else.
    pub(crate) fn is_settled(&self) -> bool {
        self.joining.is_empty() && self.leaving.is_empty()
    }

    /// Who comes and who goes: `+4 -1`; a dash when nobody does.
    pub(crate) fn moving(&self) -> String {
        if self.is_settled() {
            return "-".to_owned();
        }
        let joining = self.joining.iter().map(|id| format!("+{id}"));
        let leaving = self.leaving.iter().map(|id| format!("-{id}"));
        joining.chain(leaving).collect::<Vec<_>>().join(" ")
    }

    fn records(&self) -> Option<u64> {
        Some(self.high_watermark?.saturating_sub(self.log_start?))
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.partition.to_string(),
            or_dash(self.leader),
            or_dash(self.leader_epoch),
            ids(&self.replicas),
            ids(&self.live_replicas),
            or_dash(self.log_start),
            or_dash(self.high_watermark),
            or_dash(self.records()),
        ]
    }
}

impl ConfigView {
    fn cells(&self) -> Vec<String> {
        vec![self.key.clone(), self.value.clone(), self.source.to_owned()]
    }
}

/// Adds configured values to a page.
pub(super) fn config_table(page: Page, configs: &[ConfigView]) -> Page {
    page.table(CONFIG_COLUMNS, configs.iter().map(ConfigView::cells))
}

/// Ids with commas between them; a dash for none.
pub(crate) fn ids(ids: &[u32]) -> String {
    if ids.is_empty() {
        return "-".to_owned();
    }
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    ids.join(",")
}

/// The value; a dash when there is none.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_a_dash() {
        let partition = PartitionView {
            partition: 0,
            leader: None,
            leader_epoch: None,
            replicas: vec![1, 2, 3],
            live_replicas: vec![2],
            joining: Vec::new(),
            leaving: Vec::new(),
            log_start: Some(5),
            high_watermark: None,
        };
        assert!(partition.is_under_replicated());
        assert_eq!(partition.cells(), ["0", "-", "-", "1,2,3", "2", "5", "-", "-"]);
        assert_eq!(ids(&[]), "-");
    }
}
