//! How far a group is from the end of each partition, as it is shown.

use serde::Serialize;
use tidelog_client::admin::{GroupFacts, GroupPartition};

use super::view::{seconds, state};
use crate::output::plural;
use crate::topic::or_dash;
use crate::{Column, Failure, Page, Zone};

/// How far a group is in all its partitions.
#[derive(Debug)]
pub(super) struct Lag {
    title: String,
    /// A line for each partition.
    pub(super) partitions: Vec<PartitionLag>,
    /// What leaders did not tell.
    pub(super) untold: Vec<Failure>,
}

/// How far a group is in a partition. What is not known is absent.
#[derive(Debug, Default, Serialize)]
pub(crate) struct PartitionLag {
    topic: String,
    partition: u32,
    committed: Option<u64>,
    committed_ms: Option<i64>,
    end: Option<u64>,
    /// How many records are not done.
    lag_records: Option<u64>,
    /// How long ago the leader appended the first record that is not done; 0 at the end. Absent also
    /// when that record is gone by retention.
    lag_seconds: Option<f64>,
    member: Option<String>,
    client_id: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column::text("TOPIC"),
    Column::number("PARTITION"),
    Column::number("COMMITTED"),
    Column::number("END"),
    Column::number("LAG"),
    Column::number("SECONDS"),
    Column::text("MEMBER"),
    Column::text("CLIENT").only_wide(),
    Column::text("COMMITTED-AT").only_wide(),
];

impl Lag {
    /// The table, under a line that sums it up.
    pub(super) fn page(&self, zone: Zone) -> Page {
        let rows = self.partitions.iter().map(|partition| partition.cells(zone));
        Page::new().heading(&self.title).table(COLUMNS, rows)
    }
}

impl From<GroupFacts> for Lag {
    fn from(group: GroupFacts) -> Self {
        let client_id = |member: &String| {
            let member = group.members.iter().find(|one| one.id == *member);
            member.map(|member| member.client_id.clone())
        };
        let (mut partitions, mut untold) = (Vec::new(), Vec::new());
        for facts in group.partitions {
            let client_id = facts.member.as_ref().and_then(client_id);
            let (lag, failure) = PartitionLag::read(facts);
            partitions.push(PartitionLag { client_id, ..lag });
            untold.extend(failure);
        }
        let lag: u64 = partitions.iter().filter_map(|partition| partition.lag_records).sum();
        let title = format!(
            "Group {}: {}, {}, {} behind",
            group.group,
            state(group.state),
            plural(group.members.len() as u64, "member"),
            plural(lag, "record"),
        );
        Self { title, partitions, untold }
    }
}

impl PartitionLag {
    /// The line of a partition, and why it is not whole.
    fn read(facts: GroupPartition) -> (Self, Option<Failure>) {
        let GroupPartition { partition, member, committed, lag, .. } = facts;
        let (lag, failure) = match lag.transpose() {
            Ok(lag) => (lag, None),
            Err(error) => {
                let failure = Failure::from(error);
                (None, Some(failure.at(|message| format!("end of {partition}: {message}"))))
            }
        };
        let line = Self {
            topic: partition.topic.to_string(),
            partition: partition.partition.0,
            committed: committed.as_ref().map(|committed| committed.offset.0),
            committed_ms: committed.map(|committed| committed.committed.0),
            end: lag.map(|lag| lag.high_watermark.0),
            lag_records: lag.map(|lag| lag.records),
            lag_seconds: lag.and_then(|lag| lag.time).map(seconds),
            member,
            client_id: None,
        };
        (line, failure)
    }

    fn cells(&self, zone: Zone) -> Vec<String> {
        let committed_at = self.committed_ms.map(|ms| zone.show(tidelog_types::Timestamp(ms)));
        vec![
            self.topic.clone(),
            self.partition.to_string(),
            or_dash(self.committed),
            or_dash(self.end),
            or_dash(self.lag_records),
            or_dash(self.lag_seconds.map(|seconds| format!("{seconds:.1}"))),
            or_dash(self.member.as_ref()),
            or_dash(self.client_id.as_ref()),
            or_dash(committed_at),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_a_dash() {
        let held =
            PartitionLag { topic: "a".into(), member: Some("m".into()), ..Default::default() };
        assert_eq!(held.cells(Zone::Utc), ["a", "0", "-", "-", "-", "-", "m", "-", "-"]);
        let behind = PartitionLag {
            committed: Some(4),
            committed_ms: Some(0),
            end: Some(9),
            lag_records: Some(5),
            lag_seconds: Some(3.26),
            ..held
        };
        assert_eq!(
            behind.cells(Zone::Utc),
            ["a", "0", "4", "9", "5", "3.3", "m", "-", "1970-01-01T00:00:00.000Z"]
        );
    }
}
