//! Whether a broker may be stopped.

use tidelog_proto::v1;
use tidelog_types::{BrokerId, TopicPartition};

use super::{Admin, admin};
use crate::Error;

/// Whether a broker may be stopped, and what speaks against it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CanStop {
    /// Whether every group keeps its majority without the broker.
    pub can_stop: bool,
    /// The whole, in one sentence.
    pub summary: String,
    /// What needs the broker; at most 1,000 are named.
    pub risks: Vec<StopRisk>,
    /// Risks, all of them counted.
    pub risk_count: u32,
}

/// What a broker is needed for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StopRisk {
    /// The partition; `None` is the cluster's metadata.
    pub partition: Option<TopicPartition>,
    /// Why the broker is needed, in one line.
    pub reason: String,
}

impl Admin {
    /// Tells whether `broker` may be stopped: whether each group keeps, without it, a majority of
    /// replicas that have everything. Replicas that are about to have it are waited for, up to 2 s.
    ///
    /// It holds for the moment only: ask again before the next broker is stopped.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// When there is no such broker, or none answers.
    pub async fn can_stop(&self, broker: BrokerId) -> Result<CanStop, Error> {
        let request = v1::CanStopRequest { broker_id: broker.0 };
        let ask = |channel| async move { admin(channel).can_stop(request).await };
        let answer = self.cluster.ask_any(self.cluster.request_timeout(), ask).await?;
        let risk = |risk: v1::StopRisk| {
            let named = v1::TopicPartition { topic: risk.topic, partition: risk.partition };
            let partition = (!named.topic.is_empty()).then(|| TopicPartition::try_from(&named));
            Ok(StopRisk { partition: partition.transpose()?, reason: risk.reason })
        };
        Ok(CanStop {
            can_stop: answer.can_stop,
            summary: answer.summary,
            risks: answer.risks.into_iter().map(risk).collect::<Result<_, Error>>()?,
            risk_count: answer.risk_count,
        })
    }
}
