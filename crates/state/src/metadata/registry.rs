//! The cluster's formation, the registration of its brokers, and how they leave.

use std::collections::BTreeSet;

use tidelog_types::{BrokerId, ErrorCode, FeatureLevel, GroupId, Incarnation, NodeId, canary};

use super::machine::unknown_broker;
use super::{
    BROKER_ID_MAX, BROKERS_MAX, Broker, BrokerSpec, Change, ClusterId, Machine, Outcome, Partition,
    Refusal, Reply,
};

impl Machine {
    /// Forms the cluster, once.
    pub(super) fn form(
        &mut self,
        cluster: ClusterId,
        level: FeatureLevel,
        brokers: &[BrokerSpec],
        changes: &mut Vec<Change>,
    ) -> Reply {
        match self.cluster {
            Some(formed) if formed == cluster => return Ok(Outcome::Formed { cluster }),
            Some(formed) => {
                let message = format!("the cluster has formed as {formed}");
                return Err(Refusal::new(ErrorCode::InconsistentClusterId, message));
            }
            None => {}
        }
        let invalid = |message: String| Err(Refusal::new(ErrorCode::InvalidRequest, message));
        if brokers.is_empty() || brokers.len() > BROKERS_MAX {
            let count = brokers.len();
            return invalid(format!("{count} brokers given, 1 to {BROKERS_MAX} are allowed"));
        }
        if level < FeatureLevel::FIRST {
            return invalid(format!(
                "a cluster begins at feature level 1 or above, not at {level}"
            ));
        }
        if let Some(problem) = brokers.iter().find_map(BrokerSpec::problem) {
            return invalid(problem);
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = brokers.iter().find(|broker| !seen.insert(broker.id)) {
            return invalid(format!("broker {} is given twice", twice.id));
        }
        self.cluster = Some(cluster);
        self.feature_level = level;
        changes.push(Change::Formed);
        for spec in brokers {
            changes.push(Change::Broker(spec.id));
            self.brokers.insert(spec.id, Broker::new(spec.clone()));
        }
        Ok(Outcome::Formed { cluster })
    }

    /// Takes over where a broker is reached and what it runs.
    pub(super) fn register(&mut self, spec: &BrokerSpec, changes: &mut Vec<Change>) -> Reply {
        let invalid = |message| Err(Refusal::new(ErrorCode::InvalidRequest, message));
        if let Some(problem) = spec.problem() {
            return invalid(problem);
        }
        let level = self.feature_level;
        let Some(broker) = self.brokers.get_mut(&spec.id) else {
            if self.removed.contains_key(&spec.id) {
                return invalid(format!("broker {} was removed from the cluster", spec.id));
            }
            return invalid(format!(
                "broker {} is not in the cluster: it has to ask for an incarnation first",
                spec.id
            ));
        };
        if broker.incarnation != spec.incarnation {
            return invalid(format!(
                "broker {} is in incarnation {}, but this data directory is of incarnation {}",
                spec.id, broker.incarnation, spec.incarnation
            ));
        }
        if let Err(problem) = super::check_levels(level, spec.levels(), spec.id) {
            return invalid(problem);
        }
        if broker.describe(spec.clone()) {
            changes.push(Change::Broker(spec.id));
        }
        Ok(Outcome::Registered { incarnation: broker.incarnation })
    }

    /// Gives a broker that has no id one that nobody ever had, once per token.
    pub(super) fn join(&mut self, token: u128, changes: &mut Vec<Change>) -> Reply {
        let joined = self.brokers.values().find(|broker| broker.incarnation_token == token);
        let id = match joined.filter(|_| token != 0) {
            Some(broker) => broker.id,
            None => self.next_id()?,
        };
        match self.renew(id, token, changes)? {
            Outcome::Incarnation { incarnation } => {
                Ok(Outcome::Joined { node: NodeId { broker: id, incarnation } })
            }
            other => Ok(other),
        }
    }

    fn next_id(&self) -> Result<BrokerId, Refusal> {
        let here = self.brokers.last_key_value().map(|(id, _)| id.0);
        let removed = self.removed.last_key_value().map(|(id, _)| id.0);
        let id = here.max(removed).unwrap_or(0).saturating_add(1);
        if id > BROKER_ID_MAX {
            let message =
                format!("broker ids up to {BROKER_ID_MAX} are used up: give one that is free");
            return Err(Refusal::new(ErrorCode::ResourceExhausted, message));
        }
        Ok(BrokerId(id))
    }

    /// Gives a broker its next incarnation, once per token.
    pub(super) fn renew(&mut self, id: BrokerId, token: u128, changes: &mut Vec<Change>) -> Reply {
        // Zero is what a broker has that never asked.
        if token == 0 {
            let message = "the token of a new incarnation is not zero";
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        let known = self.brokers.get(&id);
        if let Some(broker) = known.filter(|broker| broker.incarnation_token == token) {
            return Ok(Outcome::Incarnation { incarnation: broker.incarnation });
        }
        if known.is_none() && self.brokers.len() >= BROKERS_MAX {
            let message = format!("the cluster has {BROKERS_MAX} brokers, the most allowed");
            return Err(Refusal::new(ErrorCode::ResourceExhausted, message));
        }
        let incarnation = known.map(|broker| broker.incarnation);
        let incarnation = incarnation.or_else(|| self.removed.get(&id).copied());
        let incarnation = incarnation.unwrap_or(Incarnation(0));
        let Some(incarnation) = incarnation.0.checked_add(1).map(Incarnation) else {
            let message = format!("broker {id} has used up its incarnations");
            return Err(Refusal::new(ErrorCode::ResourceExhausted, message));
        };
        let empty =
            BrokerSpec { id, incarnation, rack: None, addresses: Vec::new(), software: None };
        let broker = self.brokers.entry(id).or_insert_with(|| Broker::new(empty));
        broker.incarnation = incarnation;
        broker.incarnation_token = token;
        self.removed.remove(&id);
        changes.push(Change::Broker(id));
        changes.extend(self.hosted_by(id).map(|(group, _)| Change::Partition(group)));
        // Its earlier disk is gone, and with it what was left of deleted topics and of partitions that
        // have moved away.
        self.forget_left(|node| node.broker == id && node.incarnation != incarnation);
        self.forget_deleted(
            |node, _| node.broker == id && node.incarnation != incarnation,
            changes,
        );
        Ok(Outcome::Incarnation { incarnation })
    }

    /// Tells whether a broker's replicas are to go elsewhere.
    pub(super) fn drain(
        &mut self,
        id: BrokerId,
        draining: bool,
        changes: &mut Vec<Change>,
    ) -> Reply {
        let Some(known) = self.brokers.get(&id) else { return Err(unknown_broker(id)) };
        if draining && !known.is_draining {
            self.check_drain(id)?;
        }
        let replicas = u32::try_from(self.hosted_by(id).count()).unwrap_or(u32::MAX);
        let broker = self.brokers.get_mut(&id).expect("it was there above");
        if broker.is_draining != draining {
            broker.is_draining = draining;
            changes.push(Change::Broker(id));
        }
        Ok(Outcome::BrokerDrains { replicas })
    }

    /// Whether the brokers that take replicas without this one are as many as each partition has that is
    /// to leave some broker.
    fn check_drain(&self, id: BrokerId) -> Result<(), Refusal> {
        let others = self.takers().filter(|broker| broker.id != id).count();
        let refused = |message| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        if others == 0 {
            return refused(format!("broker {id} is the last that takes replicas"));
        }
        let leaves = |broker: &BrokerId| {
            *broker == id || self.brokers.get(broker).is_some_and(|known| known.is_draining)
        };
        let is_stuck = |(_, partition): &(GroupId, &Partition)| {
            partition.replicas.len() > others && partition.replicas.iter().any(leaves)
        };
        match self.live_partitions().find(is_stuck) {
            None => Ok(()),
            Some((group, partition)) => refused(format!(
                "{} has {} replicas, and without broker {id} {others} brokers take any: add a \
                 broker, or move it to fewer",
                self.shown(group),
                partition.replicas.len()
            )),
        }
    }

    /// Takes a drained broker out of the cluster.
    pub(super) fn remove(&mut self, id: BrokerId, changes: &mut Vec<Change>) -> Reply {
        let Some(broker) = self.brokers.get(&id) else {
            let gone = self.removed.contains_key(&id);
            return if gone { Ok(Outcome::BrokerRemoved) } else { Err(unknown_broker(id)) };
        };
        if !broker.is_draining {
            let message = format!("broker {id} takes part in the cluster: drain it first");
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        let incarnation = broker.incarnation;
        let on = self.live_partitions().filter(|(_, partition)| partition.brokers().contains(&id));
        let on: Vec<GroupId> = on.map(|(group, _)| group).collect();
        if let Some(first) = on.first().filter(|_| !canary!(RemovedWhileNeeded)) {
            let (first, more) = (self.shown(*first), on.len() - 1);
            let more = if more > 0 { format!(" and of {more} more") } else { String::new() };
            let message = format!("broker {id} still holds a replica of {first}{more}");
            return Err(Refusal::new(ErrorCode::ReassignmentInProgress, message));
        }
        self.brokers.remove(&id);
        self.removed.insert(id, incarnation);
        changes.push(Change::Broker(id));
        // Whatever its disk still holds belongs to a node that nobody will ever be again.
        self.forget_left(|node| node.broker == id);
        self.forget_deleted(|node, _| node.broker == id, changes);
        Ok(Outcome::BrokerRemoved)
    }
}
