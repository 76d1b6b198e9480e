//! Deleting the oldest records of partitions.

use futures_util::FutureExt;
use tidelog_proto::v1;
use tidelog_proto::v1::admin_service_client::AdminServiceClient;
use tidelog_types::{Offset, TopicPartition};

use super::facts::offset;
use super::{Admin, PerItem};
use crate::Error;
use crate::cluster::RESPONSE_BYTES_MAX;
use crate::error::BrokerError;

impl Admin {
    /// Deletes the records of partitions that lie before an offset, or all of them where there is
    /// none. Gives the log start after it, which may be higher: it never goes back. Their bytes leave
    /// the disks segment by segment.
    ///
    /// Not cancel safe: what was sent may be deleted all the same.
    pub async fn trim_partitions(
        &self,
        items: impl IntoIterator<Item = (TopicPartition, Option<Offset>)>,
    ) -> PerItem<TopicPartition, Offset> {
        use v1::trim_partitions_result::Result as Trimmed;
        let (partitions, before): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        let within = self.cluster.request_timeout();
        let call = |channel, items: &[usize]| {
            let items = items.iter().map(|item| v1::TrimPartitionsItem {
                topic: partitions[*item].topic.to_string(),
                partition: partitions[*item].partition.0,
                before_offset: before[*item].map_or(-1, Offset::to_wire),
            });
            let timeout_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX).min(300_000);
            let request = v1::TrimPartitionsRequest { items: items.collect(), timeout_ms };
            let call = async move {
                let client = AdminServiceClient::new(channel);
                let mut client = client.max_decoding_message_size(RESPONSE_BYTES_MAX);
                let answer = client.trim_partitions(request).await?;
                Ok(answer.map(|a| a.results.into_iter().map(|result| result.result).collect()))
            };
            call.boxed()
        };
        let read = |address: &str, result| match result {
            Some(Trimmed::LogStart(start)) => offset(address, start),
            Some(Trimmed::Error(error)) => Err(BrokerError::new(address, error).into()),
            None => Err(Error::protocol(address, "no result for an item")),
        };
        let results = self.by_leader(&partitions, within, call, read).await;
        partitions.into_iter().zip(results).collect()
    }
}
