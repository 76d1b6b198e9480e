//! `tidelog bench failover`: how long a partition takes no records when its leader is lost.
//!
//! A cluster of its own, loaded at a rate. In each round the broker that leads partition 0 is killed or
//! frozen. Its pause is the longest time without an ack in that partition around that moment, so it can
//! be no finer than the partition's records are apart: 8 ms at 1000 records/s and 8 partitions. Then
//! the broker comes back, and the next round begins once all replicas are in sync. At the end all that
//! was acked must be there, once.

mod audited;
mod pulse;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use rand::RngCore;
use serde::Serialize;
use tidelog_client::admin::NewTopic;
use tidelog_client::{Client, TopicName};
use tokio::time::Instant;

use self::audited::Run;
use self::pulse::Pulse;
use super::latency::{Latencies, Percentiles};
use super::measured::Rate;
use super::nodes::{self, READY_WITHIN};
use super::payload::Payloads;
use super::source::Plan;
use super::topic::{self, Topic};
use crate::Failure;
use crate::args::Globals;
use crate::audit::Verdict;
use crate::local::LocalCluster;
use crate::output::{Column, Page};
use crate::progress::Teller;

/// Producers, each with connections of its own.
const CLIENTS: u32 = 2;
/// How long another broker may take to lead, and acks to go on.
const LEADER_WITHIN: Duration = Duration::from_secs(120);
/// How long a broker may take to come back.
const BACK_WITHIN: Duration = Duration::from_secs(300);
/// Acks of the partition that show that it takes records again.
const ACKS: usize = 3;
/// Entries that a follower may lack under load and be called in sync.
const LAG_ENTRIES_MAX: u64 = 64;

/// Arguments of `tidelog bench failover`.
#[derive(Args, Debug)]
pub(crate) struct FailoverArgs {
    /// How often a leader is lost
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Freeze the leader with SIGSTOP instead of killing it with SIGKILL
    #[arg(long)]
    freeze: bool,
    /// Partitions of the topic
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    partitions: u32,
    /// Bytes of each value, random
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(20..=1_000_000))]
    size: u32,
    /// Records per second, over all partitions
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// Brokers of the cluster that is started for it
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..=9))]
    nodes: u32,
    /// Directory for data and logs, kept at the end; without it a temporary one, which is kept only when
    /// something fails
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// One leader that was lost.
#[derive(Debug, Serialize)]
struct Round {
    broker: u32,
    new_leader: u32,
    /// The longest time without an ack around the loss, until the broker was started or went on.
    pause_ms: f64,
    /// The same from then until all replicas were in sync.
    return_pause_ms: f64,
    /// From the start until all replicas were in sync.
    in_sync_ms: f64,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    nodes: u32,
    partitions: u32,
    clients: u32,
    value_bytes: u32,
    freeze: bool,
    rounds: Vec<Round>,
    /// Of `pause_ms`.
    #[serde(flatten)]
    pauses: Percentiles,
    #[serde(flatten)]
    rate: Rate,
    /// Whether all that was acked was read back once.
    holds: bool,
    #[serde(flatten)]
    verdict: Verdict,
}

/// Measures with a cluster of its own.
pub(crate) async fn run(globals: &Globals, args: FailoverArgs) -> Result<ExitCode, Failure> {
    nodes::in_place(args.dir.as_deref(), "tidelog-failover-", async |dir| {
        let report = measure(globals, &args, dir).await?;
        globals.output().item("bench", &report, |_| report.page())?;
        match report.holds {
            true => Ok(ExitCode::SUCCESS),
            false => {
                Err(Failure::new("the cluster broke a promise: what was acked is not there once"))
            }
        }
    })
    .await
}

async fn measure(globals: &Globals, args: &FailoverArgs, dir: &Path) -> Result<Report, Failure> {
    Teller::new().say(&format!("starting {} brokers in {}", args.nodes, dir.display()));
    let mut cluster = nodes::start(dir, args.nodes).await?;
    let client = nodes::connect(globals, &cluster).await?;
    let topic = create(&client, args.partitions).await?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(nodes::connect(globals, &cluster).await?);
    }

    let run = Run { id: rand::rng().next_u64(), payloads: Payloads::random(args.size) };
    let pulse = Arc::new(Pulse::new());
    let plan = Plan { rate: Some(args.rate), ..Plan::new(&topic) };
    let sources = plan.start(&clients, |client, _| run.cargo(client, &pulse)).await?;
    let mut sources = pin!(sources.join());
    let rounds = tokio::select! {
        biased;
        // They go on until they are told to stop: this is an error.
        ended = &mut sources => return Err(ended.err().unwrap_or_else(|| Failure::new("it ended"))),
        rounds = lose_leaders(&mut cluster, &client, &topic, &pulse, args) => rounds?,
    };
    plan.stop.store(true, Ordering::Relaxed);
    let (cargo, took) = sources.await?;
    let verdict = run.audit(&client, &topic, cargo).await?;
    let pauses = rounds.iter().map(|round| Duration::from_secs_f64(round.pause_ms / 1e3));
    Ok(Report {
        nodes: args.nodes,
        partitions: topic.partitions,
        clients: CLIENTS,
        value_bytes: args.size,
        freeze: args.freeze,
        pauses: pauses.collect::<Latencies>().percentiles(),
        rounds,
        rate: Rate::new(plan.counter.records(), plan.counter.bytes(), took),
        holds: verdict.holds() && verdict.acked == plan.counter.records(),
        verdict,
    })
}

async fn create(client: &Client, partitions: u32) -> Result<Topic, Failure> {
    let name = TopicName::new("failover").expect("it is a topic name");
    let new = NewTopic::new(name.clone()).partitions(partitions).replication_factor(3);
    let partitions = topic::create(client, new).await?;
    Ok(Topic { name, partitions })
}

/// All rounds.
async fn lose_leaders(
    cluster: &mut LocalCluster,
    client: &Client,
    topic: &Topic,
    pulse: &Pulse,
    args: &FailoverArgs,
) -> Result<Vec<Round>, Failure> {
    let mut rounds = Vec::new();
    for number in 1..=args.rounds {
        let round = lose_leader(cluster, client, topic, pulse, args.freeze).await?;
        Teller::new().say(&round.line(number, args));
        rounds.push(round);
    }
    Ok(rounds)
}

/// One round: the cluster is in sync when it begins and when it ends.
async fn lose_leader(
    cluster: &mut LocalCluster,
    client: &Client,
    topic: &Topic,
    pulse: &Pulse,
    freeze: bool,
) -> Result<Round, Failure> {
    goes_on(pulse).await?;
    let leader = nodes::leader(client, topic, 0, LEADER_WITHIN, |_| true).await?;
    let lost_us = pulse.now_us();
    let broker = cluster.broker_mut(leader);
    match freeze {
        true => broker.pause(),
        false => broker.kill(),
    }
    .map_err(nodes::local)?;
    let new_leader =
        nodes::leader(client, topic, 0, LEADER_WITHIN, |other| other != leader).await?;
    goes_on(pulse).await?;

    let (back, back_us) = (Instant::now(), pulse.now_us());
    let broker = cluster.broker_mut(leader);
    match freeze {
        true => broker.resume(),
        false => broker.start(),
    }
    .map_err(nodes::local)?;
    broker.ready(READY_WITHIN).await.map_err(nodes::local)?;
    nodes::caught_up(client, topic, broker, BACK_WITHIN).await?;
    nodes::in_sync(client, topic, LAG_ENTRIES_MAX, BACK_WITHIN).await?;
    let in_sync_ms = back.elapsed().as_secs_f64() * 1e3;
    let in_sync_us = pulse.now_us();
    goes_on(pulse).await?;
    Ok(Round {
        broker: leader,
        new_leader,
        pause_ms: pulse.longest_pause_ms(lost_us, back_us),
        return_pause_ms: pulse.longest_pause_ms(back_us, in_sync_us),
        in_sync_ms,
    })
}

/// Waits until the partition has taken some more records.
async fn goes_on(pulse: &Pulse) -> Result<(), Failure> {
    let goal = pulse.count() + ACKS;
    let missed = "partition 0 has taken no more records";
    nodes::until(missed, LEADER_WITHIN, async || Ok(pulse.count() >= goal)).await
}

impl Round {
    fn line(&self, number: u32, args: &FailoverArgs) -> String {
        let (of, broker, pause, in_sync) =
            (args.rounds, self.broker, self.pause_ms, self.in_sync_ms);
        let lost = if args.freeze { "froze" } else { "killed" };
        format!(
            "round {number} of {of}: {lost} broker {broker}, broker {} leads now; pause {pause:.0} ms, \
             in sync {:.1} s after it came back",
            self.new_leader,
            in_sync / 1e3
        )
    }
}

const COLUMNS: &[Column] = &[
    Column::number("BROKER"),
    Column::number("NEW LEADER"),
    Column::number("PAUSE MS"),
    Column::number("PAUSE ON RETURN MS"),
    Column::number("IN SYNC MS"),
];

impl Report {
    fn page(&self) -> Page {
        let rows = self.rounds.iter().map(|round| {
            let ms = |ms: f64| format!("{ms:.0}");
            vec![
                round.broker.to_string(),
                round.new_leader.to_string(),
                ms(round.pause_ms),
                ms(round.return_pause_ms),
                ms(round.in_sync_ms),
            ]
        });
        let page = Page::new()
            .table(COLUMNS, rows)
            .facts(self.pauses.facts().into_iter().chain(self.rate.facts()));
        let verdict =
            if self.holds { "every acked record was read back once" } else { "not all holds" };
        page.verdict(self.holds, format!("{verdict}: {}", self.verdict))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::payload::Stamp;

    #[test]
    fn the_least_size_has_room_for_a_stamp() {
        use clap::Parser;
        #[derive(Debug, Parser)]
        struct Line {
            #[command(flatten)]
            args: FailoverArgs,
        }
        let least = Stamp::BYTES.to_string();
        assert_eq!(Line::parse_from(["failover", "--size", &least]).args.size, Stamp::BYTES);
        let below = (Stamp::BYTES - 1).to_string();
        assert!(Line::try_parse_from(["failover", "--size", &below]).is_err());
    }
}
