//! What the cluster and its brokers tell.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tidelog_client::Client;
use tidelog_client::admin::{BrokerFacts, Listener};
use tokio::net::lookup_host;

use super::bundle::{Bundle, json, json_list};
use crate::args::Globals;
use crate::connect::connect;
use crate::group::{GroupView, PartitionLag};
use crate::local::http_get;
use crate::topic::{TopicView, describe_with_offsets};
use crate::{Failure, cluster, group, partition};

/// How long a broker may take for its page of metrics.
const METRICS_TIMEOUT: Duration = Duration::from_secs(5);

/// The parts that need a cluster that answers.
const CLUSTER_PARTS: [&str; 6] = ["info", "health", "brokers", "topics", "raft", "groups"];

/// All topics, and why some could not be described.
#[derive(Debug, Serialize)]
struct Topics {
    topics: Vec<TopicView>,
    problems: BTreeMap<String, String>,
}

/// A group as it is and how far it is.
#[derive(Debug, Serialize)]
struct Group {
    group: GroupView,
    lag: Vec<PartitionLag>,
    /// What leaders did not tell.
    untold: Vec<String>,
}

/// All groups, and why some could not be described.
#[derive(Debug, Serialize)]
struct Groups {
    groups: Vec<Group>,
    problems: BTreeMap<String, String>,
}

pub(super) async fn gather(globals: &Globals, bundle: &mut Bundle) -> Result<(), Failure> {
    let client = match connect(globals).await {
        Ok(client) => client,
        Err(failure) => {
            for part in CLUSTER_PARTS {
                bundle.put(name(part), Err(Failure::new(failure.to_string())))?;
            }
            return Ok(());
        }
    };
    let info = async { json("cluster.info", &cluster::info(&client).await?) };
    bundle.take(name("info"), info).await?;
    let health = async { json("cluster.health", &cluster::health(&client).await?) };
    bundle.take(name("health"), health).await?;
    let brokers = async { json_list("cluster.brokers", &cluster::brokers(&client).await?) };
    bundle.take(name("brokers"), brokers).await?;
    let topics = async { json("debug.topics", &topics(&client).await?) };
    bundle.take(name("topics"), topics).await?;
    let rafts = async { json_list("debug.rafts", &partition::rafts(&client).await?) };
    bundle.take(name("raft"), rafts).await?;
    let groups = async { json("debug.groups", &groups(&client).await?) };
    bundle.take(name("groups"), groups).await?;
    match client.admin().cluster().await {
        Ok(cluster) => {
            for broker in cluster.brokers {
                ask_broker(&client, &broker, bundle).await?;
            }
            Ok(())
        }
        Err(error) => bundle.put("brokers".to_owned(), Err(error.into())),
    }
}

fn name(part: &str) -> String {
    format!("cluster/{part}.json")
}

async fn ask_broker(
    client: &Client,
    broker: &BrokerFacts,
    bundle: &mut Bundle,
) -> Result<(), Failure> {
    let name = |part: &str| format!("brokers/{}/{part}", broker.id);
    let configuration = async {
        let told = client.admin().configuration_at(&broker.address).await?;
        Ok(told.into_bytes())
    };
    bundle.take(name("configuration.toml"), configuration).await?;
    bundle.take(name("metrics.txt"), metrics(&broker.listeners)).await
}

async fn metrics(listeners: &[Listener]) -> Result<Vec<u8>, Failure> {
    let http = listeners.iter().find(|listener| listener.name == "http");
    let Some(Listener { host, port, .. }) = http else {
        return Err(Failure::new("the broker has not said where it listens for HTTP"));
    };
    let failed =
        |error: std::io::Error| Failure::because(format!("GET {host}:{port}/metrics"), &error);
    let found = lookup_host((host.as_str(), *port)).await.map_err(failed)?.next();
    let at: SocketAddr = found.ok_or_else(|| Failure::new(format!("{host} has no address")))?;
    let (status, page) = http_get(at, "/metrics", METRICS_TIMEOUT).await.map_err(failed)?;
    match status {
        200 => Ok(page.into_bytes()),
        status => Err(Failure::new(format!("GET {host}:{port}/metrics: status {status}"))),
    }
}

async fn topics(client: &Client) -> Result<Topics, Failure> {
    let (mut topics, mut problems) = (Vec::new(), BTreeMap::new());
    for (name, described) in describe_with_offsets(client, &[]).await? {
        match described {
            Ok(topic) => topics.push(topic),
            Err(failure) => {
                problems.insert(name.to_string(), failure.to_string());
            }
        }
    }
    Ok(Topics { topics, problems })
}

async fn groups(client: &Client) -> Result<Groups, Failure> {
    let admin = client.admin();
    let (mut groups, mut problems) = (Vec::new(), BTreeMap::new());
    for listed in admin.list_groups().await? {
        let name = listed.group.to_string();
        match admin.describe_group(&name).await {
            Ok(facts) => {
                let (group, lag, untold) = group::views(facts);
                let untold = untold.iter().map(ToString::to_string).collect();
                groups.push(Group { group, lag, untold });
            }
            Err(error) => {
                problems.insert(name, Failure::from(error).to_string());
            }
        }
    }
    Ok(Groups { groups, problems })
}
