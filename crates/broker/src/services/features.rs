//! `FinalizeUpgrade`: raises the cluster's feature level.

use tidelog_proto::v1::{Error, Feature, FinalizeUpgradeRequest, FinalizeUpgradeResponse};
use tidelog_state::metadata::{Command, Outcome};
use tidelog_types::{FEATURES, FeatureLevel};
use tracing::info;

use super::Api;
use super::admin::admin_deadline;
use crate::access::{Operation, Resource};
use crate::cluster::unexpected;

impl Api {
    pub(super) async fn upgrade_finalized(
        &self,
        request: FinalizeUpgradeRequest,
    ) -> Result<FinalizeUpgradeResponse, Error> {
        self.allow(Operation::Alter, Resource::Cluster)?;
        let deadline = admin_deadline(request.timeout_ms)?;
        let cluster = self.core.cluster()?;
        cluster.catch_up(deadline).await?;
        let machine = cluster.machine();
        let previous = machine.feature_level();
        let level = match request.level {
            0 => machine.newest_common_level(),
            level => FeatureLevel(level),
        };
        let command = Command::FinalizeUpgrade { level };
        // Refused before it is proposed: a broker that does not know the command cannot even read on
        // behind one that was refused. So nothing is proposed either where the level stays.
        self.rehearse(&machine, &command)?;
        if level != previous && !request.validate_only {
            match cluster.propose(&command, deadline).await? {
                Outcome::FeatureLevel { .. } => {}
                other => return Err(unexpected(&other)),
            }
            info!(%previous, %level, "raised the feature level of the cluster");
        }
        let new = FEATURES.iter().filter(|feature| feature.level > previous);
        let features = new.filter(|feature| feature.level <= level).map(|feature| Feature {
            level: feature.level.0,
            name: feature.name.to_owned(),
            allows: feature.allows.to_owned(),
        });
        let features = features.collect();
        Ok(FinalizeUpgradeResponse { previous_level: previous.0, level: level.0, features })
    }
}
