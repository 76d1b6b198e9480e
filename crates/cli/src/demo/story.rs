//! What the demo does, in the order in which it does it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tidelog_client::admin::NewTopic;
use tidelog_client::{Client, TopicName};
use tokio::time::{Instant, sleep};

use super::load::{Load, LoadSetup, connect};
use super::read_back::{ledger_of, read_all};
use super::report::{Report, Shape};
use super::syncs::SyncWatch;
use super::{Args, BROKERS, Error, PARTITIONS, TOPIC};
use crate::audit::Verdict;
use crate::local::{LocalCluster, Setup};
use crate::progress::{Step, Teller, thousands};

/// The partition whose leader is killed.
const VICTIM: u32 = 1;
/// Records that must be in flight on it then, in a run large enough for them.
const IN_FLIGHT_AT_KILL: u64 = 1_000;
/// Records that one producer keeps in flight, at most: four of them keep thousands on each partition.
const IN_FLIGHT_MAX: u64 = 8_192;
const READY_WITHIN: Duration = Duration::from_secs(60);
const LEADER_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
const REDRAW: Duration = Duration::from_millis(50);

/// Runs the whole demo below `dir`.
pub(super) async fn tell(args: &Args, dir: &Path) -> Result<Report, Error> {
    let teller = Teller::new();
    let seed = args.seed.unwrap_or_else(rand::random);
    teller.say(&format!("starting {BROKERS} brokers in {} (seed {seed})", dir.display()));
    let setup = Setup::new(dir, BROKERS)?;
    let mut cluster = LocalCluster::create(&setup)?;
    cluster.start_all()?;
    cluster.ready(READY_WITHIN).await?;
    let client = connect(&cluster.bootstrap(), "demo").await?;
    create_topic(&client).await?;
    let syncs = SyncWatch::start(&cluster);

    let load = LoadSetup {
        bootstrap: cluster.bootstrap(),
        topic: TOPIC.to_owned(),
        partitions: PARTITIONS,
        producers: args.producers,
        records: Some(args.records),
        in_flight_max: in_flight_max(args),
        pause: Duration::ZERO,
        seed,
        dir: dir.to_owned(),
    };
    let mut step = teller.step("producing", args.records);
    let mut load = Load::start(load).await?;
    let kill = kill_under_load(&mut cluster, &client, &load, &mut step, args.records).await?;
    let tide = Arc::clone(load.tide());
    let finish = async {
        loop {
            step.reach(tide.acked());
            sleep(REDRAW).await;
        }
    };
    tokio::select! {
        joined = load.join() => joined?,
        () = finish => unreachable!("the redrawing never ends"),
    }
    let produce_s = tide.last_ack().as_secs_f64();
    step.end(tide.acked());
    cluster.ready(READY_WITHIN).await?;
    drop(client);
    let brokers = syncs.end().await;

    teller.say(&format!("killing all {BROKERS} brokers, starting them again"));
    cluster.kill_all()?;
    cluster.start_all()?;
    cluster.ready(READY_WITHIN).await?;
    let verdict = read_in_fresh_process(args, &setup, &cluster, dir).await?;

    Ok(Report {
        holds: verdict.holds() && tide.acked() == verdict.acked,
        verdict,
        failed: tide.failed(),
        failures: tide.failures(),
        killed_partition: VICTIM,
        killed_broker: kill.broker,
        new_leader: kill.new_leader,
        in_flight_at_kill: kill.in_flight,
        gap_ms_max: tide.longest_pause(VICTIM).as_secs_f64() * 1e3,
        records_per_s: tide.acked() as f64 / produce_s,
        mb_per_s: tide.acked_bytes() as f64 / 1e6 / produce_s,
        produce_s,
        brokers,
        seed,
        shape: Shape { brokers: BROKERS, partitions: PARTITIONS, producers: args.producers },
    })
}

/// All producers together have at most an eighth of the run in flight: when half of it is acked there
/// is more to come, and the partitions of the users are known.
fn in_flight_max(args: &Args) -> usize {
    let share = args.records / u64::from(args.producers) / 8;
    share.clamp(1, IN_FLIGHT_MAX) as usize
}

/// What was killed.
struct Kill {
    broker: u32,
    in_flight: u64,
    new_leader: Option<u32>,
}

/// SIGKILLs the leader of one partition when half of the records are acked and enough are in flight on
/// it; starts it again once another broker leads.
async fn kill_under_load(
    cluster: &mut LocalCluster,
    client: &Client,
    load: &Load,
    step: &mut Step,
    records: u64,
) -> Result<Kill, Error> {
    let tide = load.tide();
    let broker = leader(client, VICTIM).await?;
    // A run too small to have that many in flight on one of three partitions has its share.
    let in_flight_min = IN_FLIGHT_AT_KILL.min(records / 40);
    let mut told = Instant::now();
    tide.until(|tide| {
        if told.elapsed() >= REDRAW {
            told = Instant::now();
            step.reach(tide.acked());
        }
        // Late rather than never: when the load ends without it, the report says how many it were.
        let due = tide.acked() >= records / 2 && tide.in_flight(VICTIM) >= in_flight_min;
        due || load.is_done()
    })
    .await;
    let in_flight = tide.in_flight(VICTIM);
    tide.watch(VICTIM);
    cluster.broker_mut(broker).kill()?;
    step.say(&format!(
        "killed broker {broker}, leader of {TOPIC}/{VICTIM}, with {} records in flight on it",
        thousands(in_flight)
    ));
    let new_leader = until_another_leads(client, broker).await?;
    cluster.broker_mut(broker).start()?;
    step.say(&format!("broker {new_leader} leads {TOPIC}/{VICTIM}; started broker {broker} again"));
    Ok(Kill { broker, in_flight, new_leader: Some(new_leader) })
}

async fn create_topic(client: &Client) -> Result<(), Error> {
    let name = TopicName::new(TOPIC).map_err(tidelog_client::Error::from)?;
    let topic = NewTopic::new(name).partitions(PARTITIONS).replication_factor(BROKERS);
    let created = client.admin().create_topics([topic]).await?;
    created.into_iter().try_for_each(|(_, created)| created.map(drop))?;
    for partition in 0..PARTITIONS {
        leader(client, partition).await?;
    }
    Ok(())
}

/// Waits until a partition has a leader.
async fn leader(client: &Client, partition: u32) -> Result<u32, Error> {
    leader_that(client, partition, |_| true).await
}

async fn until_another_leads(client: &Client, dead: u32) -> Result<u32, Error> {
    leader_that(client, VICTIM, |leader| leader != dead).await
}

async fn leader_that(
    client: &Client,
    partition: u32,
    wanted: impl Fn(u32) -> bool,
) -> Result<u32, Error> {
    let deadline = Instant::now() + LEADER_WITHIN;
    loop {
        // A broker that is just being killed may answer with an error: only time decides.
        let found = leader_now(client, TOPIC, partition).await;
        match found {
            Ok(Some(leader)) if wanted(leader) => return Ok(leader),
            Err(err) if Instant::now() >= deadline => return Err(err),
            Ok(_) if Instant::now() >= deadline => {
                let what = format!("{TOPIC}/{partition} had no leader to go on with");
                return Err(Error::TimedOut { what, seconds: LEADER_WITHIN.as_secs() });
            }
            Ok(_) | Err(_) => sleep(POLL).await,
        }
    }
}

/// The leader of a partition as the cluster sees it now.
///
/// # Errors
/// The topic does not exist, or no broker answers.
pub async fn leader_now(
    client: &Client,
    topic: &str,
    partition: u32,
) -> Result<Option<u32>, Error> {
    let topic = TopicName::new(topic).map_err(tidelog_client::Error::from)?;
    let mut leader = None;
    for (_, described) in client.admin().describe_topics([topic]).await? {
        let partitions = described?.partitions;
        let found = partitions.into_iter().find(|p| p.partition.0 == partition);
        leader = found.and_then(|p| p.leader).map(|leader| leader.broker.0);
    }
    Ok(leader)
}

/// Runs this binary again to read and compare: a process that has seen nothing of the run.
async fn read_in_fresh_process(
    args: &Args,
    setup: &Setup,
    cluster: &LocalCluster,
    dir: &Path,
) -> Result<Verdict, Error> {
    let mut command = Command::new(&setup.binary);
    command
        .args(["demo", "--bootstrap", &cluster.bootstrap().join(",")])
        .args(["--records", &args.records.to_string()])
        .args(["--producers", &args.producers.to_string()])
        .arg("--read-back")
        .arg(dir)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let binary = setup.binary.clone();
    let ended = tokio::task::spawn_blocking(move || command.output());
    let output = ended.await.expect("a wait for a process does not panic");
    let output = output.map_err(Error::at("run", &binary))?;
    if !output.status.success() {
        return Err(Error::ReadBack(output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(Error::Verdict)
}

/// The part of that process.
pub(super) async fn read_back(
    bootstrap: &[String],
    args: &Args,
    dir: &Path,
) -> Result<Verdict, Error> {
    let client = connect(bootstrap, "demo-read-back").await?;
    let mut step = Teller::new().step("reading", args.records);
    let seen = |count| step.reach(count);
    let (mut ledger, orders) = ledger_of(dir, args.producers)?;
    ledger.reads = read_all(&client, TOPIC, seen).await?;
    step.end(ledger.reads.len() as u64);
    Ok(ledger.check(|id| orders.expected(id)))
}
