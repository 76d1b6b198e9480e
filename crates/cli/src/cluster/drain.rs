//! `tidelog cluster drain`: has a broker emptied, and shows how far it is.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tidelog_client::admin::Admin;
use tidelog_types::BrokerId;
use tokio::time::{Instant, sleep};

use crate::args::Globals;
use crate::connect::connect;
use crate::interrupt::Interrupt;
use crate::moment::parse_duration;
use crate::output::plural;
use crate::progress::Teller;
use crate::{Exit, Failure, Page};

/// Between two looks at how far it is.
const PAUSE: Duration = Duration::from_millis(300);
const KIND: &str = "cluster.drain";

/// Arguments of `cluster drain`.
#[derive(Args, Debug)]
pub(crate) struct DrainArgs {
    /// Id of the broker
    #[arg(value_name = "ID")]
    broker: u32,
    /// Drain it no more: what it has it keeps, and it may be given replicas again
    #[arg(long, conflicts_with_all = ["wait", "detach"])]
    cancel: bool,
    /// Wait for so long at most until nothing is left, and not as long as it takes
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// Do not wait: the cluster goes on by itself
    #[arg(long, conflicts_with = "wait")]
    detach: bool,
}

/// How far it is.
#[derive(Debug, Serialize)]
struct Drained {
    broker: u32,
    draining: bool,
    /// Partitions that have a replica there.
    replicas: u32,
    drained: bool,
}

pub(super) async fn run(globals: &Globals, args: &DrainArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let (admin, broker) = (client.admin(), BrokerId(args.broker));
    let id = args.broker;
    if args.cancel {
        let replicas = admin.cancel_drain(broker).await?;
        let told = Drained { broker: id, draining: false, replicas, drained: false };
        let there = plural(replicas.into(), "partition");
        let sentence = format!("broker {id} is drained no more; {there} on it");
        globals.output().item(KIND, &told, |_| Page::new().sentence(sentence))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut replicas = admin.drain_broker(broker).await?;
    if !args.detach {
        replicas = wait(&admin, args, replicas).await?;
    }
    let drained = replicas == 0 && !args.detach;
    let told = Drained { broker: id, draining: true, replicas, drained };
    let page = match drained {
        true => Page::new()
            .verdict(true, format!("broker {id} is drained"))
            .sentence(format!("take it out of the cluster: tidelog cluster remove {id}")),
        false => Page::new()
            .sentence(format!(
                "broker {id} is being drained of {}",
                plural(replicas.into(), "partition")
            ))
            .sentence("see how far: tidelog cluster brokers"),
    };
    globals.output().item(KIND, &told, |_| page)?;
    Ok(ExitCode::SUCCESS)
}

/// Waits until the broker holds nothing, and gives what it still holds: nothing.
async fn wait(admin: &Admin, args: &DrainArgs, replicas: u32) -> Result<u32, Failure> {
    let id = args.broker;
    let mut interrupt = Interrupt::listen()?;
    let deadline = args.wait.map(|wait| Instant::now() + wait);
    let mut step = Teller::new().step("draining", replicas.into());
    let mut left = replicas;
    // A broker that is asked may lag behind: it does not know of the drain yet.
    let mut was_seen = false;
    loop {
        match admin.cluster().await {
            Ok(cluster) => {
                let known = cluster.brokers.iter().find(|known| known.id == BrokerId(id));
                let draining = known.filter(|known| known.draining);
                if was_seen && draining.is_none() {
                    return Err(Failure::new(format!("broker {id} is being drained no more")));
                }
                if let Some(draining) = draining {
                    was_seen = true;
                    left = draining.replicas;
                }
            }
            Err(error) if error.is_retriable() => step.say(&error.to_string()),
            Err(error) => return Err(error.into()),
        }
        step.reach(replicas.saturating_sub(left).into());
        if was_seen && left == 0 {
            step.end(replicas.into());
            return Ok(0);
        }
        let rest = format!("{} left on broker {id}", plural(left.into(), "partition"));
        if deadline.is_some_and(|deadline| Instant::now() + PAUSE >= deadline) {
            return Err(goes_on(Failure::new(rest), id));
        }
        tokio::select! {
            biased;
            () = interrupt.asked() => {
                return Err(goes_on(Failure::new(format!("interrupted with {rest}")), id));
            }
            () = sleep(PAUSE) => {}
        }
    }
}

fn goes_on(failure: Failure, id: u32) -> Failure {
    failure.exit(Exit::Failed).next_step(format!(
        "the cluster goes on; run it again to watch, or stop it: tidelog cluster drain {id} --cancel"
    ))
}
