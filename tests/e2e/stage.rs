//! What most tests need: a cluster of the binary under test, a topic, a load, and the audit.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tidelog::audit::{Ledger, Read};
use tidelog::demo::order::Orders;
use tidelog::demo::{Error, Load, LoadSetup, connect, ledger_of, read_all};
use tidelog::local::{LocalCluster, Setup};
use tidelog_client::Client;
use tidelog_client::admin::NewTopic;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep};

use crate::command::BINARY;
use crate::witness::Witness;

/// Two clusters at a time keep two cores busy; more would only make deadlines miss.
static STAGES: Semaphore = Semaphore::const_new(STAGES_MAX);
const STAGES_MAX: usize = 2;

/// A long time for anything that should take a second: a loaded machine must not fail a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const POLL: Duration = Duration::from_millis(10);
pub(crate) const TOPIC: &str = "orders";
pub(crate) const PARTITIONS: u32 = 3;
pub(crate) const PRODUCERS: u32 = 2;

/// A cluster and its directory, which is kept when the test panics.
pub(crate) struct Stage {
    pub(crate) cluster: LocalCluster,
    pub(crate) rng: StdRng,
    dir: Option<TempDir>,
    loads: u32,
    _permit: SemaphorePermit<'static>,
}

impl Stage {
    /// Three brokers, not started.
    pub(crate) async fn new() -> Self {
        Self::with(3, |_| ()).await
    }

    /// `nodes` brokers, not started, after changes to their setup.
    pub(crate) async fn with(nodes: u32, change: impl FnOnce(&mut Setup)) -> Self {
        Self::taking(1, nodes, change).await
    }

    /// Three brokers as with [`Stage::ready`], and no other cluster beside them: to measure.
    pub(crate) async fn alone() -> Self {
        let mut stage = Self::taking(STAGES_MAX, 3, |_| ()).await;
        stage.start_all().await;
        stage.create_topic().await;
        stage
    }

    async fn taking(places: usize, nodes: u32, change: impl FnOnce(&mut Setup)) -> Self {
        let permit = STAGES.acquire_many(places as u32).await.unwrap();
        let seed = match std::env::var("TIDELOG_E2E_SEED") {
            Ok(seed) => seed.parse().expect("TIDELOG_E2E_SEED is a number"),
            Err(_) => rand::random(),
        };
        println!("seed {seed}: replay with TIDELOG_E2E_SEED={seed}");
        let dir = tempfile::Builder::new().prefix("tidelog-e2e-").tempdir().unwrap();
        let mut setup = Setup::new(dir.path(), nodes).unwrap();
        setup.binary = PathBuf::from(BINARY);
        change(&mut setup);
        let cluster = LocalCluster::create(&setup).unwrap();
        let rng = StdRng::seed_from_u64(seed);
        Self { cluster, rng, dir: Some(dir), loads: 0, _permit: permit }
    }

    /// Three brokers up and ready, with the topic and a leader for each partition.
    pub(crate) async fn ready() -> Self {
        let mut stage = Self::new().await;
        stage.start_all().await;
        stage.create_topic().await;
        stage
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }

    /// Starts whoever does not run and waits until all are ready.
    pub(crate) async fn start_all(&mut self) {
        self.cluster.start_all().unwrap();
        self.cluster.ready(PATIENCE).await.unwrap();
    }

    /// Starts a new broker that joins, and no other that may be down.
    pub(crate) async fn join(&mut self) -> u32 {
        let id = self.cluster.join().unwrap();
        let new = self.cluster.broker_mut(id);
        new.start().unwrap();
        new.ready(PATIENCE).await.unwrap();
        id
    }

    pub(crate) async fn client(&self) -> Client {
        connect(&self.cluster.bootstrap(), "e2e").await.unwrap()
    }

    pub(crate) async fn create_topic(&self) {
        let client = self.client().await;
        let topic = NewTopic::new(TOPIC.parse().unwrap()).partitions(PARTITIONS);
        for (_, created) in client.admin().create_topics([topic]).await.unwrap() {
            created.unwrap();
        }
        for partition in 0..PARTITIONS {
            leader(&client, partition).await;
        }
    }

    /// Producers that go on until [`Load::finish`], at a pace that leaves the machine some air: many
    /// in flight slowly, or few as fast as acks come.
    pub(crate) async fn load(&mut self) -> (Load, PathBuf) {
        let paces = [(1_000, Duration::from_millis(1)), (40, Duration::ZERO)];
        let pace = *paces.choose(&mut self.rng).unwrap();
        self.load_at(pace).await
    }

    /// Producers with so many records in flight and such a pause after each send.
    pub(crate) async fn load_at(
        &mut self,
        (in_flight_max, pause): (usize, Duration),
    ) -> (Load, PathBuf) {
        self.loads += 1;
        let dir = self.dir().join(format!("load-{}", self.loads));
        std::fs::create_dir(&dir).unwrap();
        let setup = LoadSetup {
            bootstrap: self.cluster.bootstrap(),
            topic: TOPIC.to_owned(),
            partitions: PARTITIONS,
            producers: PRODUCERS,
            records: None,
            in_flight_max,
            pause,
            seed: self.rng.random(),
            dir: dir.clone(),
        };
        (Load::start(setup).await.unwrap(), dir)
    }

    /// Ends a load and compares the whole topic with it. No other load may have used the topic.
    pub(crate) async fn audit(&mut self, load: Load, acks: &Path) {
        self.finish(load).await;
        self.audit_acks(acks).await;
    }

    /// The same, and what a consumer saw meanwhile must be there too.
    pub(crate) async fn audit_with(&mut self, load: Load, acks: &Path, witness: Witness) {
        self.finish(load).await;
        let sightings = witness.testimony().await;
        println!("a consumer saw {} records", sightings.iter().map(Vec::len).sum::<usize>());
        assert!(sightings.iter().all(|seen| !seen.is_empty()), "it saw nothing of a partition");
        self.compare(acks, sightings).await;
    }

    pub(crate) async fn finish(&self, load: Load) {
        let tide = std::sync::Arc::clone(load.tide());
        within("every ack is there", load.finish()).await.unwrap();
        assert_eq!((tide.failed(), tide.failures()), (0, Vec::new()), "a send failed for good");
    }

    /// Compares the whole topic with the acks of an ended load.
    pub(crate) async fn audit_acks(&self, acks: &Path) {
        self.compare(acks, Vec::new()).await;
    }

    async fn compare(&self, acks: &Path, sightings: Vec<Vec<Read>>) {
        let (mut ledger, orders) = self.ledger(acks).await;
        ledger.sightings = sightings;
        let verdict = ledger.check(|id| orders.expected(id));
        println!("{verdict}\nfigure records audited: {}", verdict.acked);
        assert!(verdict.holds() && verdict.acked > 0, "{verdict}");
    }

    /// What an ended load wrote down, and what the topic holds now.
    pub(crate) async fn ledger(&self, acks: &Path) -> (Ledger, Orders) {
        let client = self.client().await;
        let (mut ledger, orders) = ledger_of(acks, PRODUCERS).unwrap();
        let read = read_all(&client, TOPIC, |_| ());
        ledger.reads = within("the topic is read", read).await.unwrap();
        (ledger, orders)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            println!("kept: {}", dir.keep().display());
        }
    }
}

/// Waits for `what`, for a time that only something broken uses up.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Asks until the answer is yes.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(POLL).await;
    }
}

/// The leader of a partition of the topic, as soon as there is one.
pub(crate) async fn leader(client: &Client, partition: u32) -> u32 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match leader_now(client, partition).await {
            Ok(Some(leader)) => return leader,
            seen => assert!(Instant::now() < deadline, "partition {partition} has {seen:?}"),
        }
        sleep(POLL).await;
    }
}

async fn leader_now(client: &Client, partition: u32) -> Result<Option<u32>, Error> {
    tidelog::demo::leader_now(client, TOPIC, partition).await
}

/// Waits until `more` records of every partition were acked after now.
pub(crate) async fn acks_go_on(load: &Load, more: u64) {
    let tide = load.tide();
    let goals: Vec<u64> = (0..PARTITIONS).map(|p| tide.acked_of(p) + more).collect();
    let reached = tide.until(|tide| (0..).zip(&goals).all(|(p, goal)| tide.acked_of(p) >= *goal));
    within("acks of every partition go on", reached).await;
}

/// The number of rounds that a random test makes.
pub(crate) fn rounds(default: u32) -> u32 {
    let rounds = std::env::var("TIDELOG_E2E_ROUNDS").ok();
    rounds.map_or(default, |rounds| rounds.parse().expect("TIDELOG_E2E_ROUNDS is a number"))
}
