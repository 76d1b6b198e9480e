//! The cluster's feature level.

use futures_util::FutureExt;
use tidelog_proto::v1;
use tidelog_types::FeatureLevel;

use super::Admin;
use crate::Error;

/// What became of a feature level, or would.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finalized {
    /// The level before.
    pub previous: FeatureLevel,
    /// The level after it.
    pub level: FeatureLevel,
    /// What the levels above the previous one allow, by level.
    pub features: Vec<FeatureFacts>,
}

/// What becomes possible at a feature level.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeatureFacts {
    /// The level.
    pub level: FeatureLevel,
    /// Its name, in one word.
    pub name: String,
    /// What it allows, in one line.
    pub allows: String,
}

impl Admin {
    /// Raises the feature level of the cluster to `level`, or to the newest that all brokers support. It
    /// never goes back, and no broker can go back to a version that does not support it.
    ///
    /// # Errors
    /// When a broker does not support the level, it would go back, or no broker could take the call.
    pub async fn finalize_upgrade(&self, level: Option<FeatureLevel>) -> Result<Finalized, Error> {
        self.finalized(level, false).await
    }

    /// As [`Admin::finalize_upgrade`], and changes nothing.
    ///
    /// # Errors
    /// As there.
    pub async fn check_finalize(&self, level: Option<FeatureLevel>) -> Result<Finalized, Error> {
        self.finalized(level, true).await
    }

    async fn finalized(
        &self,
        level: Option<FeatureLevel>,
        validate_only: bool,
    ) -> Result<Finalized, Error> {
        let level = level.map_or(0, |level| level.0);
        let answer = self.change(|mut client, timeout_ms| {
            let request = v1::FinalizeUpgradeRequest { level, validate_only, timeout_ms };
            async move { client.finalize_upgrade(request).await }.boxed()
        });
        let answer = answer.await?;
        let features = answer.features.into_iter().map(|feature| FeatureFacts {
            level: FeatureLevel(feature.level),
            name: feature.name,
            allows: feature.allows,
        });
        Ok(Finalized {
            previous: FeatureLevel(answer.previous_level),
            level: FeatureLevel(answer.level),
            features: features.collect(),
        })
    }
}
