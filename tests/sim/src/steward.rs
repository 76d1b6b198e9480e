//! The operator of a cluster whose brokers come and go: it drains those that are to leave, calls that
//! off and begins again, removes them once they are empty, and looks in the end whether nothing names
//! them any more.
//!
//! It goes by what the cluster says alone, as a command line would that was interrupted and called again.

use std::collections::BTreeSet;
use std::time::Duration;

use tidelog_client::admin::{Admin, BrokerFacts, ClusterFacts, TopicFacts};
use tidelog_client::{BrokerId, TopicName, TopicPartition};
use tokio::time::{sleep, timeout};

use crate::cluster::{COORDINATORS, REPLICAS};
use crate::dice::Dice;
use crate::invariants::the_removed_hold_nothing::{self, Seen, SeenPartition};
use crate::roster::Roster;
use crate::viewing::VIEW;
use crate::workload::{Failure, OPERATOR_PATIENCE, Stage, TOPIC, now};

/// How soon after healing whoever is to leave has left, one after the other.
const LEAVES_WITHIN: Duration = Duration::from_secs(30);

/// How soon after that those that are left have all there is, and nothing names who has left.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);

/// One look in so many at a broker that is being drained has the drain called off, while it may be.
const LOOKS_PER_CALL_OFF: u64 = 2;

/// One look in so many has the broker removed, whatever it holds: that must be refused.
const LOOKS_PER_HASTE: u64 = 2;

/// What is done about a broker that is to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Wait,
    Drain,
    CallOff,
    Remove,
    RemoveTooSoon,
}

impl Step {
    /// The step that follows from what is `known` of the broker.
    fn next(known: &BrokerFacts, may_call_off: bool, dice: &mut Dice) -> Self {
        if known.draining && known.replicas == 0 {
            return Self::Remove;
        }
        if dice.within(0..LOOKS_PER_HASTE) == 0 {
            return Self::RemoveTooSoon;
        }
        if !known.draining {
            return Self::Drain;
        }
        let calls_off = may_call_off && dice.within(0..LOOKS_PER_CALL_OFF) == 0;
        if calls_off { Self::CallOff } else { Self::Wait }
    }
}

impl Stage {
    /// Has the brokers of a roster leave.
    pub(crate) async fn change_brokers(self, roster: Roster) -> Result<(), Failure> {
        self.opened().await;
        let client = self.client("steward").await;
        let admin = client.admin();
        sleep(roster.leaves_from.saturating_sub(now())).await;
        let mut dice = Dice::new(self.plan.seed, "steward");
        let mut calls_off = roster.calls_off_max;
        for id in &roster.leaves {
            if let Err(what) = self.leaves(&admin, *id, &mut calls_off, &mut dice).await {
                self.history.violated("changes_of_brokers_come_to_an_end", what);
                return Ok(());
            }
        }
        sleep(self.plan.heal.saturating_sub(now())).await;
        if let Err(what) = self.is_settled(&client.admin(), &roster).await {
            self.history.violated("the_removed_hold_nothing", what);
        }
        Ok(())
    }

    /// Has one broker leave, a step at each look.
    async fn leaves(
        &self,
        admin: &Admin,
        id: u32,
        calls_off: &mut u64,
        dice: &mut Dice,
    ) -> Result<(), String> {
        loop {
            let said = timeout(OPERATOR_PATIENCE, admin.cluster()).await;
            let said = said.map_err(|err| err.to_string());
            let said = said.and_then(|said| said.map_err(|err| err.to_string()));
            let told = match &said {
                Err(err) => err.clone(),
                Ok(cluster) => match cluster.brokers.iter().find(|known| known.id.0 == id) {
                    None => {
                        self.has_left(id);
                        return Ok(());
                    }
                    Some(known) => {
                        let may_call_off = *calls_off > 0 && now() < self.plan.heal;
                        let step = Step::next(known, may_call_off, dice);
                        *calls_off -= u64::from(step == Step::CallOff);
                        let told = self.take(step, admin, cluster, known.id).await;
                        format!("{} replicas to go, {step:?}: {told}", known.replicas)
                    }
                },
            };
            self.trace.line(format_args!("steward {id}: {told}"));
            if now() >= self.plan.heal + LEAVES_WITHIN {
                return Err(format!("broker {id}: {told}, of {said:?}"));
            }
            sleep(dice.ms(50..400)).await;
        }
    }

    fn has_left(&self, id: u32) {
        self.trace.line(format_args!("steward {id} has left"));
        let changes = &mut self.history.lock().changes;
        changes.drained.insert(id);
        changes.removed.insert(id, now());
    }

    /// Takes a step, and tells what came of it.
    async fn take(
        &self,
        step: Step,
        admin: &Admin,
        cluster: &ClusterFacts,
        broker: BrokerId,
    ) -> String {
        match step {
            Step::Wait => "no step".to_owned(),
            Step::Drain => self.drain_one(admin, cluster, broker).await,
            Step::CallOff => {
                let told = timeout(OPERATOR_PATIENCE, admin.cancel_drain(broker)).await;
                self.history.lock().changes.called_off += u64::from(matches!(told, Ok(Ok(_))));
                format!("{told:?}")
            }
            Step::Remove | Step::RemoveTooSoon => {
                if step == Step::Remove {
                    self.history.lock().changes.drained.insert(broker.0);
                }
                let told = timeout(OPERATOR_PATIENCE, admin.remove_broker(broker)).await;
                format!("{told:?}")
            }
        }
    }

    /// Has the broker drained. It is refused while too few others take replicas: in the end what a storm
    /// has left is called off.
    async fn drain_one(&self, admin: &Admin, cluster: &ClusterFacts, broker: BrokerId) -> String {
        let told = timeout(OPERATOR_PATIENCE, admin.drain_broker(broker)).await;
        let other = cluster.brokers.iter().find(|known| known.draining);
        match other.filter(|_| now() >= self.plan.heal && !matches!(told, Ok(Ok(_)))) {
            None => format!("drain: {told:?}"),
            Some(other) => {
                let other = other.id;
                let off = timeout(OPERATOR_PATIENCE, admin.cancel_drain(other)).await;
                format!("drain: {told:?}, that of {other} called off: {off:?}")
            }
        }
    }

    /// Waits until nothing names who has left, and those that are left have all there is.
    async fn is_settled(&self, admin: &Admin, roster: &Roster) -> Result<(), String> {
        let left: BTreeSet<u32> = roster.left(self.plan.brokers).collect();
        let deadline = now() + SETTLES_WITHIN;
        loop {
            let found = match timeout(SETTLES_WITHIN, self.seen(admin, roster)).await {
                Ok(Ok(seen)) => the_removed_hold_nothing::check(&left, &seen),
                Ok(Err(err)) => Err(err),
                Err(_) => Err("no answer".to_owned()),
            };
            match found {
                Ok(()) => {
                    let joined = roster.joins.keys().copied();
                    self.history.lock().changes.joined.extend(joined);
                    return Ok(());
                }
                Err(what) if now() >= deadline => return Err(what),
                Err(what) => self.trace.line(format_args!("steward not settled: {what}")),
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// What the cluster says of itself.
    async fn seen(&self, admin: &Admin, roster: &Roster) -> Result<Seen, String> {
        let said = |err: tidelog_client::Error| err.to_string();
        for id in &roster.leaves {
            // Once more is answered as the first time, unless it votes on the metadata.
            admin.remove_broker(BrokerId(*id)).await.map_err(said)?;
        }
        let cluster = admin.cluster().await.map_err(said)?;
        let mut partitions = Vec::new();
        for topic in [TOPIC].into_iter().chain(self.plan.views.then_some(VIEW)) {
            let topic: TopicName = topic.parse().expect("a name");
            let facts = admin.describe_topic(&topic).await.map_err(said)?;
            partitions.extend(self.seen_partitions(admin, facts).await?);
        }
        let mut needed = Vec::new();
        for broker in &cluster.brokers {
            let told = admin.can_stop(broker.id).await.map_err(said)?;
            if !told.can_stop {
                needed.push(format!("{}: {:?}", told.summary, told.risks));
            }
        }
        let health = admin.health().await.map_err(said)?;
        let coordinators = if self.plan.groups { COORDINATORS as usize } else { 0 };
        Ok(Seen {
            brokers: cluster.brokers.iter().map(|broker| broker.id.0).collect(),
            replicas: cluster.brokers.iter().map(|broker| broker.replicas as usize).sum(),
            replicas_wanted: (partitions.len() + coordinators) * REPLICAS as usize,
            partitions,
            needed,
            is_well: health.dead_brokers.is_empty()
                && health.leaderless_count == 0
                && health.under_replicated_count == 0,
        })
    }

    /// Whom the partitions of a topic name, by the metadata and by their groups.
    async fn seen_partitions(
        &self,
        admin: &Admin,
        topic: TopicFacts,
    ) -> Result<Vec<SeenPartition>, String> {
        let name = &topic.name;
        let place = |partition| TopicPartition { topic: name.clone(), partition };
        let places = topic.partitions.iter().map(|facts| place(facts.partition));
        let groups = admin.describe_rafts(places).await;
        let seen = topic.partitions.iter().zip(groups).map(|(facts, (place, group))| {
            let group = group.map_err(|err| err.to_string())?;
            let told = [&facts.replicas, &facts.leaving_replicas, &facts.joining_replicas];
            let told = told.into_iter().flatten().copied();
            let members = group.replicas.iter().map(|member| member.broker);
            let votes = |broker: &&BrokerId| {
                group.replicas.iter().any(|member| member.broker == **broker && member.voter)
            };
            Ok(SeenPartition {
                name: format!("{}/{}", place.topic, place.partition),
                named: told.chain(members).map(|broker| broker.0).collect(),
                vote: facts.alive_replicas.iter().filter(votes).count(),
            })
        });
        seen.collect()
    }
}
