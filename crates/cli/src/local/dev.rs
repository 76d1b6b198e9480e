//! `tidelog dev`: a whole cluster in the foreground, until Ctrl-C.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::{Broker, BrokerPorts, Error, LocalCluster, Setup};
use crate::{Failure, runtime};

const READY_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// Pause between two looks at who still runs.
const WATCH: Duration = Duration::from_millis(200);

/// Arguments of `tidelog dev`.
#[derive(Clone, Debug, clap::Args)]
pub struct DevArgs {
    /// Number of brokers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    pub nodes: u32,
    /// Directory that keeps the data; without it a temporary one, removed at the end
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Listen on ports that are free now, instead of 7071, 7171, 8071 and those that follow
    #[arg(long)]
    pub free_ports: bool,
}

/// Runs a cluster in the foreground and says how to use it.
///
/// # Errors
/// The cluster cannot be started or stopped, or all its brokers ended.
pub fn dev(args: DevArgs) -> Result<ExitCode, Failure> {
    runtime::block_on(async move {
        let ended = run(args).await;
        ended.map_err(|err| Failure::because("the local cluster ended", &err))
    })?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the addresses are the result of the command")]
async fn run(args: DevArgs) -> Result<(), Error> {
    let mut interrupts =
        signal(SignalKind::interrupt()).map_err(Error::at("watch", Path::new("signals")))?;
    let mut terminations =
        signal(SignalKind::terminate()).map_err(Error::at("watch", Path::new("signals")))?;
    let temporary = match &args.dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("tidelog-dev-").tempdir())
            .transpose()
            .map_err(Error::at("create", &std::env::temp_dir()))?,
    };
    let dir = match (&args.dir, &temporary) {
        (Some(dir), _) => std::path::absolute(dir).map_err(Error::at("find", dir))?,
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => unreachable!("without a directory a temporary one was made"),
    };
    refuse_other_size(&dir, args.nodes)?;

    let mut setup = Setup::new(&dir, args.nodes)?;
    if !args.free_ports {
        setup.ports = (1..=args.nodes).map(BrokerPorts::default_of).collect();
    }
    let mut cluster = LocalCluster::create(&setup)?;
    cluster.start_all()?;
    tokio::select! {
        biased;
        _ = interrupts.recv() => return cluster.stop_all(STOP_WITHIN).await,
        _ = terminations.recv() => return cluster.stop_all(STOP_WITHIN).await,
        ready = cluster.ready(READY_WITHIN) => ready?,
    }
    println!("{}", welcome(&cluster, &dir));
    let ended = tokio::select! {
        biased;
        _ = interrupts.recv() => None,
        _ = terminations.recv() => None,
        last = watch(&mut cluster) => Some(last),
    };
    match ended {
        Some(error) => Err(error),
        None => {
            eprintln!("stopping");
            cluster.stop_all(STOP_WITHIN).await
        }
    }
}

/// Reports brokers that end by themselves or by somebody's `kill`; returns when none is left.
///
/// One broker less is not the end: to see that is what a local cluster is for.
async fn watch(cluster: &mut LocalCluster) -> Error {
    let mut ticks = interval(WATCH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let ids: Vec<u32> = cluster.brokers().iter().map(Broker::id).collect();
        for id in ids {
            let broker = cluster.broker_mut(id);
            if broker.was_started()
                && let Err(error) = broker.still_running()
            {
                if let Err(error) = broker.reap() {
                    return error;
                }
                if cluster.brokers().iter().all(|b| !b.was_started()) {
                    return error;
                }
                eprintln!("{error}\nthe others go on");
            }
        }
    }
}

/// A directory made for another number of brokers would form a cluster that never has been.
fn refuse_other_size(dir: &Path, nodes: u32) -> Result<(), Error> {
    let has = (1..=9).filter(|id| dir.join(format!("node{id}")).exists()).count();
    if has == 0 || has == nodes as usize {
        return Ok(());
    }
    let problem = format!("holds a cluster of {has} brokers, not {nodes}: use --nodes {has}");
    Err(Error::Unfit { dir: dir.to_owned(), problem })
}

fn welcome(cluster: &LocalCluster, dir: &Path) -> String {
    use std::fmt::Write;
    let mut text = format!("a cluster of {} brokers is up\n\n", cluster.brokers().len());
    for broker in cluster.brokers() {
        let (id, ports) = (broker.id(), broker.ports());
        let pid = broker.pid().unwrap_or_default();
        let (client, http) = (ports.client_address(), ports.http_address());
        writeln!(text, "  broker {id}  clients {client}  http {http}  pid {pid}")
            .expect("a string takes every line");
    }
    // Commands find a cluster on the default ports by themselves.
    let first = cluster.broker(1).ports();
    let at = match first == BrokerPorts::default_of(1) {
        true => String::new(),
        false => format!(" -b {}", first.client_address()),
    };
    write!(
        text,
        "\ndata and logs are in {}\n\ntry in another terminal:\n\n  \
         tidelog topic create orders --partitions 3{at}\n  \
         echo 'hello tide' | tidelog produce orders{at}\n  \
         tidelog consume orders --until end{at}\n\nCtrl-C stops it",
        dir.display()
    )
    .expect("a string takes every line");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_of_another_size_is_refused_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        refuse_other_size(dir.path(), 3).unwrap();
        for id in 1..=3 {
            std::fs::create_dir(dir.path().join(format!("node{id}"))).unwrap();
        }
        refuse_other_size(dir.path(), 3).unwrap();
        let error = refuse_other_size(dir.path(), 5).unwrap_err().to_string();
        assert!(error.ends_with("holds a cluster of 3 brokers, not 5: use --nodes 3"), "{error}");
    }
}
