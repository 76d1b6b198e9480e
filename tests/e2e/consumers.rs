//! Consumers of the client crate over real brokers: a planned restart of all of them moves nothing and
//! shows no error, and a large group settles with no more moves than it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidelog_client::admin::{GroupFacts, NewTopic};
use tidelog_client::{Client, PartitionId, Position, Record, StartPolicy, Until};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::command::tidelog;
use crate::stage::{PATIENCE, POLL, Stage, until, within};

const GROUP: &str = "billing";
const TOPIC: &str = "bills";

/// A consumer that marks what it gets, and the time of its newest record.
struct Member {
    newest: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<String>>,
}

impl Member {
    /// Joins; `clock` is when the test began.
    async fn start(client: &Client, clock: Instant) -> Self {
        let consumer = client.consumer(GROUP).topics([TOPIC]).start(StartPolicy::Earliest);
        let mut consumer = consumer.build().await.unwrap();
        let (newest, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, stopped) = (Arc::clone(&newest), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut errors = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                match consumer.recv_batch(500, Duration::from_millis(50)).await {
                    Ok(Some(records)) => {
                        records.iter().for_each(|record| consumer.mark(record));
                        if !records.is_empty() {
                            seen.store(clock.elapsed().as_micros() as u64, Ordering::Relaxed);
                        }
                    }
                    Ok(None) => break,
                    Err(error) => errors.push(error.to_string()),
                }
            }
            if let Err(error) = consumer.close().await {
                errors.push(error.to_string());
            }
            errors
        });
        Self { newest, stop, task }
    }

    fn newest(&self) -> Duration {
        Duration::from_micros(self.newest.load(Ordering::Relaxed))
    }

    /// Leaves; gives the errors that it was shown.
    async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        within("a consumer closes", self.task).await.unwrap()
    }
}

async fn topic(client: &Client, partitions: u32) {
    let topic = NewTopic::new(TOPIC.parse().unwrap()).partitions(partitions);
    for (_, created) in client.admin().create_topics([topic]).await.unwrap() {
        created.unwrap();
    }
}

/// The group, once it has so many members, everything in its place.
async fn settled(client: &Client, members: usize, partitions: u32) -> GroupFacts {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let group = client.admin().describe_group(GROUP).await;
        match group {
            Ok(group) if is_settled(&group, members, partitions) => return group,
            seen => assert!(Instant::now() < deadline, "the group does not settle: {seen:?}"),
        }
        sleep(POLL).await;
    }
}

fn is_settled(group: &GroupFacts, members: usize, partitions: u32) -> bool {
    let holdings = group.members.iter().flat_map(|member| &member.holdings);
    let held = holdings.clone().count();
    let revoking = holdings.filter(|holding| holding.revoking).count();
    group.members.len() == members && held == partitions as usize && revoking == 0
}

/// The epoch of each member, and what it holds under which grants.
type HeldBy = BTreeMap<String, (u32, BTreeSet<(u32, u32)>)>;

fn holdings(group: &GroupFacts) -> HeldBy {
    let member = |member: &tidelog_client::admin::MemberFacts| {
        let held = member.holdings.iter();
        let held = held.map(|held| (held.partition.partition.0, held.granted_epoch)).collect();
        (member.id.clone(), (member.epoch, held))
    };
    group.members.iter().map(member).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_restart_moves_no_partition_and_shows_no_error() {
    const PARTITIONS: u32 = 12;
    const MEMBERS: usize = 4;
    let mut stage = Stage::new().await;
    stage.start_all().await;
    let client = stage.client().await;
    topic(&client, PARTITIONS).await;
    let clock = Instant::now();
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        members.push(Member::start(&client, clock).await);
    }
    let before = holdings(&settled(&client, MEMBERS, PARTITIONS).await);
    let load = Load::start(&client, PARTITIONS).await;

    let mut pauses = Vec::new();
    for id in 1..=3 {
        let stopping = clock.elapsed();
        stage.cluster.broker_mut(id).stop(PATIENCE).await.unwrap();
        let stopped = clock.elapsed();
        until("every consumer goes on", async || members.iter().all(|m| m.newest() > stopped))
            .await;
        pauses.push((stopped - stopping, clock.elapsed() - stopped));
        stage.start_all().await;
        let started = clock.elapsed();
        until("every consumer goes on", async || members.iter().all(|m| m.newest() > started))
            .await;
    }
    println!("stops took, and every consumer had a record after: {pauses:?}");
    let after = holdings(&settled(&client, MEMBERS, PARTITIONS).await);
    assert_eq!(after, before, "a planned restart rebalances nobody");
    load.finish().await;
    for member in members {
        assert_eq!(member.stop().await, [] as [String; 0], "consumers are shown no error");
    }
}

/// A few hundred records a second, round the partitions, until finished.
struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Load {
    async fn start(client: &Client, partitions: u32) -> Self {
        let producer = client.producer().build().await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let record = |p| Record::to(TOPIC).value("x").partition(PartitionId(p));
                let sent = producer.send_all((0..partitions).map(record)).await;
                sent.into_iter().for_each(|acked| drop(acked.unwrap()));
                sleep(Duration::from_millis(20)).await;
            }
        });
        Self { stop, task }
    }

    async fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        within("every send is acked", self.task).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_group_settles_with_the_fewest_moves() {
    const PARTITIONS: u32 = 256;
    const MEMBERS: usize = 63;
    /// Members in processes of their own.
    const COMMANDS: usize = 2;
    let mut stage = Stage::new().await;
    stage.start_all().await;
    topic(&stage.client().await, PARTITIONS).await;
    let clock = Instant::now();
    let mut members = Vec::new();
    // Several clients, for each has one connection to each broker.
    let mut clients = Vec::new();
    for n in 0..MEMBERS - COMMANDS {
        if n % 8 == 0 {
            clients.push(stage.client().await);
        }
        members.push(Member::start(clients.last().unwrap(), clock).await);
    }
    let bootstrap = stage.cluster.bootstrap().join(",");
    let commands: Vec<_> = (0..COMMANDS).map(|_| Command::start(&bootstrap)).collect();
    let client = clients[0].clone();
    let before = holdings(&settled(&client, MEMBERS, PARTITIONS).await);

    let joining = Instant::now();
    members.push(Member::start(&client, clock).await);
    let after = holdings(&settled(&client, MEMBERS + 1, PARTITIONS).await);
    println!(
        "64 members with 256 partitions: settled {:?} after the last one joined",
        joining.elapsed()
    );
    let quota = PARTITIONS as usize / (MEMBERS + 1);
    let owed: usize = before.values().map(|(_, held)| held.len().saturating_sub(quota)).sum();
    let owner = |holdings: &HeldBy| -> BTreeMap<u32, String> {
        let pairs = holdings.iter();
        pairs.flat_map(|(id, (_, held))| held.iter().map(|(p, _)| (*p, id.clone()))).collect()
    };
    let (old, new) = (owner(&before), owner(&after));
    let moves = old.iter().filter(|(partition, id)| new[partition] != **id).count();
    assert_eq!(moves, owed, "a member gives up what is above its quota, and no more");
    drop(commands);
    for member in members {
        assert_eq!(member.stop().await, [] as [String; 0], "consumers are shown no error");
    }
}

/// A member in a process of its own; killed when dropped.
struct Command(Child);

impl Command {
    fn start(bootstrap: &str) -> Self {
        let args = ["consume", TOPIC, "-g", GROUP, "--from", "start", "-b", bootstrap];
        let mut command = tidelog(&args);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has seen by then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How fast a group of one catches up, against a reader of the same records. Printed, not asserted.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_catches_up_about_as_fast_as_a_reader() {
    const PARTITIONS: u32 = 4;
    const RECORDS: usize = 200_000;
    let mut stage = Stage::alone().await;
    let client = stage.client().await;
    topic(&client, PARTITIONS).await;
    let producer = client.producer().build().await.unwrap();
    let record = |n: usize| {
        Record::to(TOPIC).value(vec![b'x'; 200]).partition(PartitionId(n as u32 % PARTITIONS))
    };
    for acked in producer.send_all((0..RECORDS).map(record)).await {
        acked.unwrap();
    }
    let mut ratios = Vec::new();
    for round in 0..3 {
        let reader = client.reader().topic(TOPIC, Position::Earliest).until(Until::End);
        let (begun, mut reader, mut read) = (Instant::now(), reader.build().await.unwrap(), 0);
        while let Some(records) = reader.recv_batch(1_000, PATIENCE).await.unwrap() {
            read += records.len();
        }
        let by_reader = begun.elapsed();
        assert_eq!(read, RECORDS);

        let consumer = client.consumer(format!("catch-up-{round}")).topics([TOPIC]);
        let consumer = consumer.start(StartPolicy::Earliest);
        let (begun, mut consumer) = (Instant::now(), consumer.build().await.unwrap());
        let mut seen = 0;
        while seen < RECORDS {
            let records = consumer.recv_batch(1_000, PATIENCE).await.unwrap().unwrap();
            records.iter().for_each(|record| consumer.mark(record));
            seen += records.len();
        }
        let by_group = begun.elapsed();
        assert_eq!(seen, RECORDS);
        consumer.close().await.unwrap();
        ratios.push(by_reader.as_secs_f64() / by_group.as_secs_f64());
        println!("reader {by_reader:?}, group {by_group:?} from joining on");
    }
    println!("a group is {ratios:.2?} times as fast as a reader");
    stage.cluster.stop_all(PATIENCE).await.unwrap();
}
