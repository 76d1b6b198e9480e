//! `tidelog cluster info`.

use std::process::ExitCode;

use serde::Serialize;
use tidelog_client::Client;

use crate::args::Globals;
use crate::connect::connect;
use crate::topic::or_dash;
use crate::{Failure, Page};

/// The cluster in a few numbers.
#[derive(Debug, Serialize)]
pub(crate) struct Info {
    cluster_id: String,
    version: String,
    answered_by: u32,
    feature_level: u32,
    /// The newest level that all brokers support.
    feature_level_common: u32,
    controller: Option<u32>,
    brokers: usize,
    live_brokers: usize,
    topics: usize,
    partitions: u64,
}

pub(super) async fn run(globals: &Globals) -> Result<ExitCode, Failure> {
    let info = look(&connect(globals).await?).await?;
    globals.output().item("cluster.info", &info, |_| info.page())?;
    Ok(ExitCode::SUCCESS)
}

/// Asks for it.
pub(crate) async fn look(client: &Client) -> Result<Info, Failure> {
    let cluster = client.admin().cluster().await?;
    let topics = client.admin().list_topics().await?;
    Ok(Info {
        cluster_id: cluster.id,
        version: cluster.version,
        answered_by: cluster.answered_by.0,
        feature_level: cluster.feature_level.0,
        feature_level_common: cluster.feature_level_common.0,
        controller: cluster.controller.map(|broker| broker.0),
        brokers: cluster.brokers.len(),
        live_brokers: cluster.brokers.iter().filter(|broker| broker.alive).count(),
        topics: topics.len(),
        partitions: topics.iter().map(|topic| u64::from(topic.partitions)).sum(),
    })
}

impl Info {
    fn page(&self) -> Page {
        Page::new().facts([
            ("cluster", self.cluster_id.clone()),
            ("controller", or_dash(self.controller)),
            ("brokers", format!("{} ({} alive)", self.brokers, self.live_brokers)),
            ("version", format!("{} (broker {})", self.version, self.answered_by)),
            ("feature level", self.level()),
            ("topics", self.topics.to_string()),
            ("partitions", self.partitions.to_string()),
        ])
    }

    fn level(&self) -> String {
        let (level, common) = (self.feature_level, self.feature_level_common);
        match common > level {
            true => format!(
                "{level}; all brokers support {common}: tidelog cluster finalize-upgrade --dry-run"
            ),
            false => level.to_string(),
        }
    }
}
