//! Asking a broker who it is, before there is a node that could keep a connection to it.

use std::io;
use std::time::Duration;

use tidelog_proto::v1;
use tidelog_proto::v1::raft_service_client::RaftServiceClient;
use tidelog_types::{BrokerId, FeatureLevel, FeatureLevels, Incarnation};
use tokio::time::timeout;

use crate::link::connector::{self, Connector};

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who a broker says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Its id.
    pub broker: BrokerId,
    /// Its incarnation; `None` before it has one.
    pub incarnation: Option<Incarnation>,
    /// The cluster that it belongs to; `None` before it joined one.
    pub cluster_id: Option<String>,
    /// Its initial brokers, as `id@address`.
    pub initial_brokers: Vec<String>,
    /// The brokers that its cluster knows.
    pub known_brokers: Vec<BrokerId>,
    /// Whether its cluster has removed the broker that asks, or knows a later incarnation of it.
    pub removed: bool,
    /// The feature levels that it supports.
    pub levels: FeatureLevels,
    /// The feature level of its cluster; `None` while it may not know the present one.
    pub feature_level: Option<FeatureLevel>,
}

/// Asks the broker at `address` who it is, telling the same.
///
/// # Errors
/// It cannot be reached, or does not answer within a second.
pub async fn introduce(
    connector: &dyn Connector,
    address: &str,
    me: &Introduction,
) -> io::Result<Introduction> {
    let request = v1::IntroduceRequest {
        broker_id: me.broker.0,
        cluster_id: me.cluster_id.clone().unwrap_or_default(),
        initial_brokers: me.initial_brokers.clone(),
        incarnation: me.incarnation.map_or(0, |incarnation| incarnation.0),
    };
    let ask = async {
        let channel = connector::channel(connector, address).await?;
        let answer = RaftServiceClient::new(channel).introduce(request).await;
        answer.map(tonic::Response::into_inner).map_err(io::Error::other)
    };
    let answer = timeout(PATIENCE, ask)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer within 1 s"))??;
    Ok(Introduction {
        broker: BrokerId(answer.broker_id),
        incarnation: (answer.incarnation > 0).then_some(Incarnation(answer.incarnation)),
        cluster_id: (!answer.cluster_id.is_empty()).then_some(answer.cluster_id),
        initial_brokers: answer.initial_brokers,
        known_brokers: answer.known_brokers.into_iter().map(BrokerId).collect(),
        removed: answer.removed,
        // A build that says neither is from before there were levels.
        levels: FeatureLevels {
            min: level(answer.feature_level_min).unwrap_or_default(),
            max: level(answer.feature_level_max).unwrap_or_default(),
        },
        feature_level: level(answer.feature_level),
    })
}

fn level(said: u32) -> Option<FeatureLevel> {
    (said > 0).then_some(FeatureLevel(said))
}
