//! What clients share, and what the operator does: it makes the topic, moves leaderships, and looks at
//! everything in the end. Producers and readers stand beside.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidelog_client::admin::{
    Admin, BrokerFacts, NewTopic, PartitionFacts, PartitionMove, TopicFacts,
};
use tidelog_client::{
    BrokerId, Client, PartitionId, Position, Record, TopicName, TopicPartition, Until,
};
use tokio::time::{sleep, timeout};

use crate::cluster::{self, REPLICAS, Storms};
use crate::dice::Dice;
use crate::disk::TracedDisk;
use crate::history::{Place, Shared};
use crate::network::HostNetwork;
use crate::plan::Plan;
use crate::surroundings;
use crate::trace::Trace;

/// The topic.
pub(crate) const TOPIC: &str = "orders";

/// How often a client that waits looks again.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// How long a record may be on its way before its producer gives up on it.
pub(crate) const DELIVERY: Duration = Duration::from_secs(30);

/// How soon after healing each partition takes a write.
const WRITES_WITHIN: Duration = Duration::from_secs(10);

/// How soon after that all replicas are where they should be.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);

/// How long the operator waits for an answer.
pub(crate) const OPERATOR_PATIENCE: Duration = Duration::from_secs(2);

/// How long the last read may take.
const READ_WITHIN: Duration = Duration::from_secs(30);

pub(crate) type Failure = Box<dyn std::error::Error>;

/// What all clients share. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) plan: Arc<Plan>,
    pub(crate) history: Shared,
    pub(crate) disks: Arc<Vec<TracedDisk>>,
    pub(crate) storms: Storms,
    pub(crate) trace: Trace,
    /// The topic is there.
    pub(crate) open: Arc<AtomicBool>,
    /// Producers that have ended their work.
    pub(crate) done: Arc<std::sync::atomic::AtomicU32>,
}

/// The simulated time.
pub(crate) fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

impl Stage {
    pub(crate) async fn client(&self, name: &str) -> Client {
        let network = HostNetwork::new(name, self.trace.clone());
        let mut dice = Dice::new(self.plan.seed, name);
        loop {
            let env = surroundings::of_client(dice.roll(), network.clone());
            let joined = self.history.lock().changes.joined.clone();
            let bootstrap = cluster::bootstrap(&self.plan, &joined);
            match Client::builder(bootstrap).environment(env).connect().await {
                Ok(client) => return client,
                Err(err) => self.trace.line(format_args!("client {name} {err}")),
            }
            sleep(LOOK).await;
        }
    }

    /// The disks that matter, with their brokers: what is left on that of a broker that was removed is
    /// nobody's.
    pub(crate) fn disks_left(&self) -> Vec<(u32, &TracedDisk)> {
        let removed = &self.history.lock().changes.removed;
        let ids = (1..).zip(self.disks.iter());
        ids.filter(|(id, _)| !removed.contains_key(id)).collect()
    }

    pub(crate) async fn opened(&self) {
        while !self.open.load(Ordering::Relaxed) {
            sleep(LOOK).await;
        }
    }

    /// The operator: makes the topic, moves leaderships and replicas while a storm is on, and reads all
    /// in the end.
    pub(crate) async fn operate(self) -> Result<(), Failure> {
        let client = self.client("operator").await;
        self.create_topic(&client).await?;
        self.open.store(true, Ordering::Relaxed);
        let mut dice = Dice::new(self.plan.seed, "operator");
        while now() < self.plan.heal {
            if self.storms.transfers.is_on() {
                self.transfer(&client, &mut dice).await;
            }
            if self.storms.moves.is_on() {
                match dice.within(0..10) {
                    0 => self.drain(&client, &mut dice).await,
                    1 => self.rebalance(&client).await,
                    _ => self.move_replicas(&client, &mut dice).await,
                }
            }
            sleep(dice.ms(50..400)).await;
        }
        // What has just been healed is given the time that is promised.
        sleep(WRITES_WITHIN).await;
        self.write_everywhere(&client).await?;
        // Where brokers leave, whoever has them leave looks at more than this.
        if self.plan.moves && self.plan.roster.is_none() {
            self.drains_end(&client.admin()).await;
            self.replicas_settle(&client.admin()).await;
        }
        while self.done.load(Ordering::Relaxed) < self.plan.producers {
            sleep(LOOK).await;
        }
        if self.plan.groups {
            self.committed_in_the_end(&client).await;
        }
        self.read_in_the_end(&client).await;
        Ok(())
    }

    /// Reads the whole topic, against which everything is held that was seen before.
    pub(crate) async fn read_in_the_end(&self, client: &Client) {
        let read = timeout(READ_WITHIN, self.read_all(client)).await;
        match read {
            Ok(Ok(read)) => self.history.lock().end = Some(read),
            Ok(Err(err)) => self.history.violated("everything_is_readable", err.to_string()),
            Err(_) => self.history.violated("everything_is_readable", "not in time".to_owned()),
        }
    }

    async fn create_topic(&self, client: &Client) -> Result<(), Failure> {
        let topic: TopicName = TOPIC.parse()?;
        let new = || {
            let new = NewTopic::new(topic.clone()).partitions(self.plan.partitions);
            let segment = self.plan.segment_bytes.to_string();
            new.replication_factor(REPLICAS).config("segment.bytes", segment)
        };
        loop {
            let created = client.admin().create_topics([new()]).await;
            match created.map(|all| all.into_iter().next()) {
                Ok(Some((_, Ok(_)))) => return Ok(()),
                other => self.trace.line(format_args!("operator not created: {other:?}")),
            }
            sleep(LOOK).await;
        }
    }

    async fn transfer(&self, client: &Client, dice: &mut Dice) {
        let partition = PartitionId(dice.within(0..u64::from(self.plan.partitions)) as u32);
        let to = dice
            .percent(50)
            .then(|| BrokerId(dice.within(1..u64::from(self.plan.machines()) + 1) as u32));
        let item = TopicPartition { topic: TOPIC.parse().expect("a name"), partition };
        let admin = client.admin();
        let moved = timeout(OPERATOR_PATIENCE, admin.transfer_leaders([(item, to)]));
        let moved =
            moved.await.map(|moved| moved.into_iter().next().map(|(_, moved)| moved.is_ok()));
        self.trace.line(format_args!("operator transfer of {partition} to {to:?}: {moved:?}"));
    }

    async fn move_replicas(&self, client: &Client, dice: &mut Dice) {
        let partition = PartitionId(dice.within(0..u64::from(self.plan.partitions)) as u32);
        let mut brokers: Vec<_> = self.plan.ids().map(BrokerId).collect();
        let mut replicas = Vec::new();
        while replicas.len() < REPLICAS as usize {
            let at = dice.within(0..brokers.len() as u64) as usize;
            replicas.push(brokers.swap_remove(at));
        }
        let said = format!("move of {partition} to {replicas:?}");
        let partition = TopicPartition { topic: TOPIC.parse().expect("a name"), partition };
        let moves = [PartitionMove { partition, replicas }];
        let moved = timeout(OPERATOR_PATIENCE, client.admin().move_partitions(moves)).await;
        self.trace.line(format_args!("operator {said}: {moved:?}"));
    }

    /// Has a broker drained, or one that is being drained no more.
    async fn drain(&self, client: &Client, dice: &mut Dice) {
        let admin = client.admin();
        let known = timeout(OPERATOR_PATIENCE, admin.cluster()).await;
        let known = known.ok().and_then(Result::ok).map(|cluster| cluster.brokers);
        let draining = known.into_iter().flatten().find(|broker| broker.draining);
        let told = match draining {
            Some(broker) => {
                let told = timeout(OPERATOR_PATIENCE, admin.cancel_drain(broker.id)).await;
                format!("drain of {} called off: {told:?}", broker.id)
            }
            None => {
                let id = BrokerId(dice.within(1..u64::from(self.plan.machines()) + 1) as u32);
                let told = timeout(OPERATOR_PATIENCE, admin.drain_broker(id)).await;
                format!("drain of {id}: {told:?}")
            }
        };
        self.trace.line(format_args!("operator {told}"));
    }

    async fn rebalance(&self, client: &Client) {
        let told = timeout(OPERATOR_PATIENCE, client.admin().rebalance()).await;
        let moves = told.map(|told| told.map(|plan| plan.moves.len()));
        self.trace.line(format_args!("operator rebalance: {moves:?}"));
    }

    /// Brokers that are being drained hold nothing in the end.
    async fn drains_end(&self, admin: &Admin) {
        let deadline = now() + SETTLES_WITHIN;
        loop {
            let told = timeout(OPERATOR_PATIENCE, admin.cluster()).await;
            let is_empty = |broker: &BrokerFacts| !broker.draining || broker.replicas == 0;
            if let Ok(Ok(cluster)) = &told
                && cluster.brokers.iter().all(is_empty)
            {
                return;
            }
            if now() >= deadline {
                if !self.plan.wipes() {
                    self.history.violated("drains_come_to_an_end", format!("{told:?}"));
                }
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Tells partitions that wait for a broker that is gone for good to go to others: as long as they wait,
    /// whoever was told to take them before keeps what it has.
    async fn turn_round(&self, admin: &Admin, topic: &TopicFacts) {
        let Ok(Ok(cluster)) = timeout(OPERATOR_PATIENCE, admin.cluster()).await else { return };
        let is_gone =
            |id: &BrokerId| cluster.brokers.iter().any(|known| known.id == *id && !known.alive);
        let takers = cluster.brokers.iter().filter(|known| known.alive && !known.draining);
        let takers: Vec<_> = takers.map(|known| known.id).collect();
        let mut moves = Vec::new();
        for facts in topic.partitions.iter().filter(|it| it.joining_replicas.iter().any(is_gone)) {
            let mut replicas = facts.replicas.clone();
            replicas.retain(|id| !is_gone(id));
            let others = takers.iter().filter(|id| !facts.replicas.contains(id));
            replicas.extend(others.take(REPLICAS as usize - replicas.len()));
            let partition =
                TopicPartition { topic: topic.name.clone(), partition: facts.partition };
            moves.push(PartitionMove { partition, replicas });
        }
        if !moves.is_empty() {
            let told = timeout(OPERATOR_PATIENCE, admin.move_partitions(moves)).await;
            self.trace.line(format_args!("operator turns round: {told:?}"));
        }
    }

    /// All replicas are where they should be, unless one should be on a broker that is gone for good.
    async fn replicas_settle(&self, admin: &Admin) {
        let topic: TopicName = TOPIC.parse().expect("a name");
        let deadline = now() + SETTLES_WITHIN;
        loop {
            let told = timeout(OPERATOR_PATIENCE, admin.describe_topic(&topic)).await;
            if let Ok(Ok(topic)) = &told
                && topic.partitions.iter().all(PartitionFacts::is_settled)
            {
                return;
            }
            if let Ok(Ok(topic)) = &told
                && self.plan.wipes()
            {
                self.turn_round(admin, topic).await;
            }
            if now() >= deadline {
                if !self.plan.wipes() {
                    self.history.violated("moves_come_to_an_end", format!("{told:?}"));
                }
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// P12: every partition takes a write.
    pub(crate) async fn write_everywhere(&self, client: &Client) -> Result<(), Failure> {
        let producer = client.producer().delivery_timeout(DELIVERY).build().await?;
        for partition in 0..self.plan.partitions {
            let value = format!("healed-{partition}-{}", now().as_millis());
            self.history.lock().sent.insert(value.clone());
            let record = Record::to(TOPIC).value(value).partition(PartitionId(partition));
            let sent = producer.send(record).await;
            if let Err(err) = sent {
                let what = format!("partition {partition}, {WRITES_WITHIN:?} after the end: {err}");
                self.history.violated("healed_partitions_take_writes", what);
            }
        }
        Ok(())
    }

    async fn read_all(&self, client: &Client) -> Result<BTreeMap<Place, String>, Failure> {
        let reader = client.reader().topic(TOPIC, Position::Earliest).until(Until::End);
        let mut reader = reader.build().await?;
        let mut read = BTreeMap::new();
        let refused = |err| {
            self.refused("operator", &err);
            err
        };
        while let Some(record) = reader.recv().await.map_err(refused)? {
            let value = String::from_utf8(record.value.unwrap_or_default().to_vec())?;
            read.insert((record.partition, record.offset), value);
        }
        self.trace.line(format_args!("operator read {} records", read.len()));
        Ok(read)
    }
}
