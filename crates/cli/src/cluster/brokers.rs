//! `tidelog cluster brokers`.

use std::process::ExitCode;

use serde::Serialize;
use tidelog_client::Client;
use tidelog_client::admin::{BrokerFacts, Listener};
use tidelog_types::{FeatureLevel, FeatureLevels};

use crate::args::Globals;
use crate::connect::connect;
use crate::topic::{TopicView, describe};
use crate::{Column, Failure, Page};

/// A broker and what it carries.
#[derive(Debug, Serialize)]
pub(crate) struct BrokerView {
    broker: u32,
    incarnation: u32,
    alive: bool,
    controller: bool,
    draining: bool,
    rack: Option<String>,
    leaders: usize,
    replicas: u32,
    version: Option<String>,
    commit: Option<String>,
    feature_levels: Option<LevelsView>,
    addresses: Vec<AddressView>,
}

/// The feature levels that a broker supports.
#[derive(Debug, Serialize)]
struct LevelsView {
    min: u32,
    max: u32,
}

/// Where a broker is reached on one listener.
#[derive(Debug, Serialize)]
struct AddressView {
    listener: String,
    address: String,
}

const COLUMNS: &[Column] = &[
    Column::number("BROKER"),
    Column::text("STATUS"),
    Column::text("RACK"),
    Column::number("LEADERS"),
    Column::number("REPLICAS"),
    Column::text("CLIENT"),
    Column::text("INTERNAL").only_wide(),
    Column::text("HTTP").only_wide(),
    Column::number("INCARNATION").only_wide(),
    Column::text("VERSION").only_wide(),
    Column::text("COMMIT").only_wide(),
    Column::text("LEVELS").only_wide(),
];

pub(super) async fn run(globals: &Globals) -> Result<ExitCode, Failure> {
    let brokers = look(&connect(globals).await?).await?;
    globals.output().items("cluster.brokers", &brokers, |_| {
        Page::new().table(COLUMNS, brokers.iter().map(BrokerView::cells))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Asks for them.
pub(crate) async fn look(client: &Client) -> Result<Vec<BrokerView>, Failure> {
    let cluster = client.admin().cluster().await?;
    let mut all: Vec<TopicView> = Vec::new();
    for (_, topic) in describe(client, &[]).await? {
        all.push(topic?);
    }
    let partitions = || all.iter().flat_map(|topic| &topic.partitions);
    let view = |broker: BrokerFacts| {
        let id = broker.id.0;
        let address = |listener: Listener| AddressView {
            address: format!("{}:{}", listener.host, listener.port),
            listener: listener.name,
        };
        let levels = broker.software.as_ref().map(|software| software.levels);
        let software = broker.software.map(|software| (software.version, software.commit));
        let (version, commit) = software.unzip();
        BrokerView {
            broker: id,
            incarnation: broker.incarnation,
            alive: broker.alive,
            controller: cluster.controller == Some(broker.id),
            draining: broker.draining,
            rack: broker.rack,
            leaders: partitions().filter(|p| p.leader == Some(id)).count(),
            replicas: broker.replicas,
            version,
            commit,
            feature_levels: levels
                .map(|levels| LevelsView { min: levels.min.0, max: levels.max.0 }),
            addresses: broker.listeners.into_iter().map(address).collect(),
        }
    };
    Ok(cluster.brokers.into_iter().map(view).collect())
}

impl LevelsView {
    fn show(&self) -> String {
        let (min, max) = (FeatureLevel(self.min), FeatureLevel(self.max));
        FeatureLevels { min, max }.to_string()
    }
}

impl BrokerView {
    fn cells(&self) -> Vec<String> {
        let mut status = vec![if self.alive { "alive" } else { "dead" }];
        status.extend((self.alive && self.controller).then_some("controller"));
        status.extend(self.draining.then_some("draining"));
        vec![
            self.broker.to_string(),
            status.join(", "),
            self.rack.clone().unwrap_or_else(|| "-".to_owned()),
            self.leaders.to_string(),
            self.replicas.to_string(),
            self.address("client"),
            self.address("internal"),
            self.address("http"),
            self.incarnation.to_string(),
            self.version.clone().unwrap_or_else(|| "-".to_owned()),
            self.commit.clone().unwrap_or_else(|| "-".to_owned()),
            self.feature_levels.as_ref().map_or_else(|| "-".to_owned(), LevelsView::show),
        ]
    }

    fn address(&self, listener: &str) -> String {
        let found = self.addresses.iter().find(|address| address.listener == listener);
        found.map_or_else(|| "-".to_owned(), |found| found.address.clone())
    }
}
