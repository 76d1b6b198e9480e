//! `TrimPartitions`: raises the log start of partitions that this broker leads.

use tidelog_proto::v1::trim_partitions_result::Result as Trimmed;
use tidelog_proto::v1::{
    Error, TrimPartitionsItem, TrimPartitionsRequest, TrimPartitionsResponse, TrimPartitionsResult,
};
use tidelog_types::{ErrorCode, Offset};
use tokio::time::timeout_at;

use super::admin::admin_deadline;
use super::produce::propose_error;
use super::{Api, at_most, invalid};
use crate::access::{Operation, Resource};
use crate::cluster::Cluster;
use crate::limits;

/// Stands for the high watermark, as in Kafka's `DeleteRecords`.
const ALL: i64 = -1;

impl Api {
    pub(super) async fn partitions_trimmed(
        &self,
        request: TrimPartitionsRequest,
    ) -> Result<TrimPartitionsResponse, Error> {
        at_most(request.items.len(), limits::ADMIN_PARTITIONS_MAX, "partitions")?;
        let deadline = admin_deadline(request.timeout_ms)?;
        let cluster = self.core.cluster()?;
        let trim = |item| {
            let cluster = &cluster;
            async move {
                let trimmed = timeout_at(deadline, self.trimmed(cluster, item)).await;
                let late = || Error::new(ErrorCode::RequestTimedOut, "the log start is not known");
                let trimmed = trimmed.unwrap_or_else(|_| Err(late().with_maybe_written(true)));
                let start = trimmed.map(Offset::to_wire);
                let result = Some(start.map_or_else(Trimmed::Error, Trimmed::LogStart));
                TrimPartitionsResult { result }
            }
        };
        let results = futures_util::future::join_all(request.items.iter().map(trim)).await;
        Ok(TrimPartitionsResponse { results })
    }

    /// The log start after it, which may be higher: it never goes back.
    async fn trimmed(&self, cluster: &Cluster, item: &TrimPartitionsItem) -> Result<Offset, Error> {
        self.allow(Operation::Delete, Resource::Topic(&item.topic))?;
        let group = cluster.find_fresh(&item.topic, item.partition, "").await?;
        let (replica, _) = cluster.serving(group, self.listener)?;
        let partition = replica.partition();
        let partition = partition.ok_or_else(|| cluster.not_leader(group, self.listener))?;
        let (name, number) = (&item.topic, item.partition);
        let before = partition.now().progress;
        let to = match item.before_offset {
            ALL => before.high_watermark,
            offset => Offset::from_wire(offset)
                .ok_or_else(|| invalid(format!("before_offset is {offset}, below {ALL}")))?,
        };
        if to > before.high_watermark {
            let message = format!(
                "{name}/{number} ends at offset {}, nothing before {to} can be deleted",
                before.high_watermark
            );
            return Err(Error::new(ErrorCode::OffsetOutOfRange, message));
        }
        if to > before.log_start {
            let trimmed = partition.trim(to).await;
            trimmed.map_err(|err| propose_error(self, cluster, group, &err))?;
        }
        Ok(partition.now().progress.log_start)
    }
}
