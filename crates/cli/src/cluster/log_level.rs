//! `tidelog cluster log-level`.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use tidelog_broker::config::HostPort;
use tidelog_client::Client;
use tidelog_client::admin::BrokerFacts;

use crate::args::Globals;
use crate::connect::connect;
use crate::outcomes::Outcomes;
use crate::{Column, Failure, Page};

/// Arguments of `cluster log-level`.
#[derive(Args, Debug)]
#[command(after_help = "It holds until the broker stops; its configuration stays as it is.")]
pub(crate) struct LogLevelArgs {
    /// What to log: error, warn, info, debug, trace, or a list as info,tidelog_raft=debug
    filter: String,
    /// Only these brokers; may be repeated or have commas
    #[arg(long = "broker", value_name = "ID", value_delimiter = ',')]
    brokers: Vec<u32>,
}

/// A broker that logs something else now.
#[derive(Debug, Serialize)]
struct Changed {
    broker: u32,
    filter: String,
    previous: String,
}

const COLUMNS: &[Column] =
    &[Column::number("BROKER"), Column::text("FILTER"), Column::text("BEFORE")];

/// Changes what brokers log, one after the other.
pub(super) async fn run(globals: &Globals, args: &LogLevelArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let cluster = client.admin().cluster().await?;
    for id in &args.brokers {
        if !cluster.brokers.iter().any(|broker| broker.id.0 == *id) {
            return Err(Failure::usage(format!("there is no broker {id}"))
                .next_step("see the brokers: tidelog cluster brokers"));
        }
    }
    let (mut changed, mut outcomes) = (Vec::new(), Outcomes::default());
    for broker in &cluster.brokers {
        let id = broker.id.0;
        if !args.brokers.is_empty() && !args.brokers.contains(&id) {
            continue;
        }
        match change(&client, broker, &args.filter).await {
            Ok(previous) => {
                changed.push(Changed { broker: id, filter: args.filter.clone(), previous });
                outcomes.succeed();
            }
            Err(failure) => outcomes.fail(failure.at(|why| format!("broker {id}: {why}"))),
        }
    }
    let row = |changed: &Changed| {
        vec![changed.broker.to_string(), changed.filter.clone(), changed.previous.clone()]
    };
    globals.output().items("cluster.log-level", &changed, |_| {
        Page::new().table(COLUMNS, changed.iter().map(row))
    })?;
    outcomes.finish()
}

async fn change(client: &Client, broker: &BrokerFacts, filter: &str) -> Result<String, Failure> {
    let listener = broker.listeners.iter().find(|listener| listener.name == "client");
    let listener = listener.ok_or_else(|| Failure::new("it has no listener for clients"))?;
    let address = HostPort { host: listener.host.clone(), port: listener.port };
    Ok(client.admin().set_log_level(&address.to_string(), filter).await?)
}
