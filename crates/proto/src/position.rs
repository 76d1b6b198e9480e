//! Offsets, topic ids, producers and partitions as they are on the wire.

use tidelog_types::{
    InvalidTopicName, Offset, PartitionId, ProducerEpoch, ProducerId, Timestamp, TopicName,
};

use crate::v1::offset_spec::Spec;
use crate::v1::{OffsetBound, OffsetSpec, ProducerIdentity, TopicPartition};

impl From<Spec> for OffsetSpec {
    fn from(spec: Spec) -> Self {
        Self { spec: Some(spec) }
    }
}

impl From<OffsetBound> for OffsetSpec {
    fn from(bound: OffsetBound) -> Self {
        Spec::Bound(bound.into()).into()
    }
}

impl From<Offset> for OffsetSpec {
    fn from(offset: Offset) -> Self {
        Spec::Offset(offset.to_wire()).into()
    }
}

impl From<Timestamp> for OffsetSpec {
    fn from(time: Timestamp) -> Self {
        Spec::TimeMs(time.0).into()
    }
}

impl From<(ProducerId, ProducerEpoch)> for ProducerIdentity {
    fn from((id, epoch): (ProducerId, ProducerEpoch)) -> Self {
        Self { producer_id: id.0, producer_epoch: epoch.0.into() }
    }
}

impl ProducerIdentity {
    /// Id and epoch; `None` when one of them is out of bounds.
    #[must_use]
    pub fn parts(&self) -> Option<(ProducerId, ProducerEpoch)> {
        let epoch = i16::try_from(self.producer_epoch).ok().filter(|epoch| *epoch >= 0)?;
        (self.producer_id >= 0).then_some((ProducerId(self.producer_id), ProducerEpoch(epoch)))
    }
}

impl From<&tidelog_types::TopicPartition> for TopicPartition {
    fn from(partition: &tidelog_types::TopicPartition) -> Self {
        Self { topic: partition.topic.to_string(), partition: partition.partition.0 }
    }
}

impl TryFrom<&TopicPartition> for tidelog_types::TopicPartition {
    type Error = InvalidTopicName;

    fn try_from(partition: &TopicPartition) -> Result<Self, InvalidTopicName> {
        let topic = TopicName::new(&partition.topic)?;
        Ok(Self { topic, partition: PartitionId(partition.partition) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_out_of_bounds_are_none() {
        let cases = [(0, 0, true), (7, 32_767, true), (-1, 0, false), (7, -1, false)];
        let cases = cases.into_iter().chain([(7, 32_768, false)]);
        for (producer_id, producer_epoch, known) in cases {
            let identity = ProducerIdentity { producer_id, producer_epoch };
            assert_eq!(identity.parts().is_some(), known, "{identity:?}");
            if let Some(parts) = identity.parts() {
                assert_eq!(ProducerIdentity::from(parts), identity);
            }
        }
    }
}
