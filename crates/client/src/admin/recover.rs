//! What is left to do when a majority is lost for good.

use std::time::Duration;

use tidelog_proto::v1;
use tidelog_types::{BrokerId, LogIndex, Offset, PartitionId, Timestamp, TopicPartition};

use super::facts::{offset, topic_name};
use super::{Admin, admin};
use crate::Error;

/// How much longer the caller waits than the broker that it asks.
const SLACK: Duration = Duration::from_secs(5);

/// What goes on with the replicas of one broker, or would.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnsafeRecovery {
    /// The brokers that are lost.
    pub lost: Vec<BrokerId>,
    /// The groups, the metadata first.
    pub groups: Vec<RecoveredGroup>,
    /// Partitions of which no replica is left.
    pub gone: Vec<TopicPartition>,
}

/// A group that goes on with what one broker holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveredGroup {
    /// The partition; `None` for the metadata.
    pub partition: Option<TopicPartition>,
    /// The offset after the last record that is left.
    pub end_offset: Offset,
    /// What was committed for certain, as far as the broker knows.
    pub high_watermark: Offset,
    /// When the last entry was appended that is left.
    pub append_time: Timestamp,
    /// The entry in which the group begins anew, once it does.
    pub recovered_at: Option<LogIndex>,
    /// Why it does not go on, if it does not.
    pub refusal: Option<String>,
}

impl Admin {
    /// Has the broker at `address`, which must be `broker`, go on alone with groups whose majority is `lost`
    /// for good, within `within`. Whatever the lost brokers alone held is gone, acked or not; they are shut
    /// out, and may never come back. Without `partitions`: with all groups that need it, the metadata among
    /// them. What each comes to stands in the answer.
    ///
    /// # Errors
    /// When that broker does not answer, one of the lost answers anybody, or another broker that is left
    /// does not agree; then no group goes on.
    pub async fn unsafe_recover_at(
        &self,
        address: &str,
        broker: BrokerId,
        lost: &[BrokerId],
        partitions: &[TopicPartition],
        within: Duration,
    ) -> Result<UnsafeRecovery, Error> {
        self.recover_at(address, broker, lost, partitions, false, within).await
    }

    /// As [`Admin::unsafe_recover_at`], and changes nothing. If `lost` is empty, it is taken to be those
    /// brokers that do not answer.
    ///
    /// # Errors
    /// As [`Admin::unsafe_recover_at`].
    pub async fn plan_unsafe_recovery_at(
        &self,
        address: &str,
        broker: BrokerId,
        lost: &[BrokerId],
        partitions: &[TopicPartition],
    ) -> Result<UnsafeRecovery, Error> {
        let within = self.cluster.request_timeout();
        self.recover_at(address, broker, lost, partitions, true, within).await
    }

    async fn recover_at(
        &self,
        address: &str,
        broker: BrokerId,
        lost: &[BrokerId],
        partitions: &[TopicPartition],
        validate_only: bool,
        within: Duration,
    ) -> Result<UnsafeRecovery, Error> {
        let request = v1::UnsafeRecoverRequest {
            broker_id: broker.0,
            lost_broker_ids: lost.iter().map(|broker| broker.0).collect(),
            partitions: partitions.iter().map(v1::TopicPartition::from).collect(),
            validate_only,
            timeout_ms: u32::try_from(within.as_millis()).unwrap_or(u32::MAX),
        };
        let ask = |channel| async move { admin(channel).unsafe_recover(request).await };
        // The broker comes first: it tells which groups were not done in time.
        let answer = self.cluster.ask(address, within + SLACK, ask).await?;
        let groups = answer.groups.into_iter().map(|group| read(address, group));
        let gone = answer.gone.iter().map(TopicPartition::try_from);
        Ok(UnsafeRecovery {
            lost: answer.lost_broker_ids.into_iter().map(BrokerId).collect(),
            groups: groups.collect::<Result<_, _>>()?,
            gone: gone.collect::<Result<_, _>>()?,
        })
    }
}

fn read(address: &str, group: v1::RecoveredGroup) -> Result<RecoveredGroup, Error> {
    let partition = match group.topic.as_str() {
        "" => None,
        topic => Some(TopicPartition {
            topic: topic_name(address, topic)?,
            partition: PartitionId(group.partition),
        }),
    };
    Ok(RecoveredGroup {
        partition,
        end_offset: offset(address, group.end_offset)?,
        high_watermark: offset(address, group.high_watermark)?,
        append_time: Timestamp(group.append_time_ms),
        recovered_at: group.recovered_index.map(LogIndex),
        refusal: Some(group.refusal).filter(|refusal| !refusal.is_empty()),
    })
}
