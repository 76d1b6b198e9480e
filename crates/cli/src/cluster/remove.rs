//! `tidelog cluster remove`.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use tidelog_types::BrokerId;

use crate::args::Globals;
use crate::confirm::confirm;
use crate::connect::connect;
use crate::{Failure, Page};

/// Arguments of `cluster remove`.
#[derive(Args, Debug)]
pub(crate) struct RemoveArgs {
    /// Id of the broker, which has been drained
    #[arg(value_name = "ID")]
    broker: u32,
}

#[derive(Debug, Serialize)]
struct Removed {
    broker: u32,
}

pub(super) async fn run(globals: &Globals, args: &RemoveArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let id = args.broker;
    confirm(
        globals,
        &format!("broker {id} leaves the cluster for good, with this data directory"),
    )?;
    client.admin().remove_broker(BrokerId(id)).await?;
    let removed = Removed { broker: id };
    let sentence = format!("broker {id} is no part of the cluster any more; its process ends");
    globals.output().item("cluster.remove", &removed, |_| Page::new().sentence(sentence))?;
    Ok(ExitCode::SUCCESS)
}
