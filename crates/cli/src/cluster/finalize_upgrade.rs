//! `tidelog cluster finalize-upgrade`: raises the feature level, or shows what that would switch on.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use tidelog_client::admin::{BrokerFacts, ClusterFacts, Finalized};
use tidelog_types::FeatureLevel;

use crate::args::Globals;
use crate::confirm::confirm;
use crate::connect::connect;
use crate::topic::ids;
use crate::{Column, Failure, Page};

/// Arguments of `cluster finalize-upgrade`.
#[derive(Args, Debug)]
pub(crate) struct FinalizeUpgradeArgs {
    /// Raise it to this level, and not to the newest that all brokers support
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    level: Option<u32>,
    /// Show what would be switched on, and change nothing
    #[arg(long)]
    dry_run: bool,
}

const FEATURES: &[Column] =
    &[Column::number("LEVEL"), Column::text("FEATURE"), Column::text("ALLOWS")];

#[derive(Debug, Serialize)]
struct Upgrade {
    dry_run: bool,
    previous_level: u32,
    level: u32,
    features: Vec<FeatureView>,
    /// The brokers that support no level above this one, where others do.
    behind: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct FeatureView {
    level: u32,
    name: String,
    allows: String,
}

pub(super) async fn run(
    globals: &Globals,
    args: &FinalizeUpgradeArgs,
) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let admin = client.admin();
    let would = admin.check_finalize(args.level.map(FeatureLevel)).await?;
    let behind = behind(&admin.cluster().await?, would.level);
    let upgrade = Upgrade::new(args.dry_run, would, behind);
    if !args.dry_run && upgrade.is_change() {
        confirm(globals, &upgrade.consequence())?;
        // The level that was shown, whatever has become possible meanwhile.
        admin.finalize_upgrade(Some(FeatureLevel(upgrade.level))).await?;
    }
    globals.output().item("cluster.finalize-upgrade", &upgrade, |_| upgrade.page())?;
    Ok(ExitCode::SUCCESS)
}

/// The brokers that keep the cluster at `level`: they support no higher one, and others do.
fn behind(cluster: &ClusterFacts, level: FeatureLevel) -> Vec<u32> {
    let newest = |broker: &BrokerFacts| {
        broker.software.as_ref().map_or(FeatureLevel::FIRST, |software| software.levels.max)
    };
    if cluster.brokers.iter().all(|broker| newest(broker) <= level) {
        return Vec::new();
    }
    let behind = cluster.brokers.iter().filter(|broker| newest(broker) <= level);
    behind.map(|broker| broker.id.0).collect()
}

impl Upgrade {
    fn new(dry_run: bool, would: Finalized, behind: Vec<u32>) -> Self {
        let features = would.features.into_iter().map(|feature| FeatureView {
            level: feature.level.0,
            name: feature.name,
            allows: feature.allows,
        });
        Self {
            dry_run,
            previous_level: would.previous.0,
            level: would.level.0,
            features: features.collect(),
            behind,
        }
    }

    const fn is_change(&self) -> bool {
        self.level != self.previous_level
    }

    fn consequence(&self) -> String {
        let (from, to) = (self.previous_level, self.level);
        let names: Vec<&str> = self.features.iter().map(|feature| feature.name.as_str()).collect();
        let allows = match names.is_empty() {
            true => String::new(),
            false => format!(" ({})", names.join(", ")),
        };
        format!(
            "the feature level of the cluster goes from {from} to {to}{allows}, and there is no way \
             back: no broker can run a version again that does not support {to}"
        )
    }

    fn page(&self) -> Page {
        let (from, to) = (self.previous_level, self.level);
        if !self.is_change() {
            let sentence = format!("the cluster is at feature level {to}, and stays there");
            let page = Page::new().verdict(true, sentence);
            return match self.behind.is_empty() {
                true => page,
                false => page
                    .sentence(format!("brokers that support no higher one: {}", ids(&self.behind))),
            };
        }
        let verb = if self.dry_run { "would go" } else { "went" };
        let sentence = format!("the feature level of the cluster {verb} from {from} to {to}");
        let rows = self
            .features
            .iter()
            .map(|one| vec![one.level.to_string(), one.name.clone(), one.allows.clone()]);
        let page = Page::new().sentence(sentence).table(FEATURES, rows);
        match self.dry_run {
            true => page.sentence(format!(
                "there is no way back from it: no broker can run a version again that does not \
                 support {to}"
            )),
            false => page,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgrade(previous_level: u32, level: u32) -> Upgrade {
        let feature = |level: u32| FeatureView {
            level,
            name: format!("f{level}"),
            allows: "something".to_owned(),
        };
        let features = (previous_level + 1..=level).map(feature).collect();
        Upgrade { dry_run: true, previous_level, level, features, behind: Vec::new() }
    }

    #[test]
    fn what_is_asked_names_both_levels_their_features_and_that_there_is_no_way_back() {
        let text = upgrade(1, 3).consequence();
        assert!(text.contains("from 1 to 3 (f2, f3), and there is no way back"), "{text}");
        assert!(upgrade(1, 3).is_change() && !upgrade(3, 3).is_change());
    }
}
