//! The cluster's formation, and the registration of its brokers.

use std::collections::BTreeSet;

use tidelog_types::{BrokerId, ErrorCode, Incarnation};

use super::{BROKERS_MAX, Broker, BrokerSpec, Change, ClusterId, Machine, Outcome, Refusal, Reply};

impl Machine {
    /// Forms the cluster, once.
    pub(super) fn form(
        &mut self,
        cluster: ClusterId,
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
        if let Some(problem) = brokers.iter().find_map(BrokerSpec::problem) {
            return invalid(problem);
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = brokers.iter().find(|broker| !seen.insert(broker.id)) {
            return invalid(format!("broker {} is given twice", twice.id));
        }
        self.cluster = Some(cluster);
        changes.push(Change::Formed);
        for spec in brokers {
            changes.push(Change::Broker(spec.id));
            self.brokers.insert(spec.id, Broker::new(spec.clone()));
        }
        Ok(Outcome::Formed { cluster })
    }

    /// Takes over where a broker is reached.
    pub(super) fn register(&mut self, spec: &BrokerSpec, changes: &mut Vec<Change>) -> Reply {
        let invalid = |message| Err(Refusal::new(ErrorCode::InvalidRequest, message));
        if let Some(problem) = spec.problem() {
            return invalid(problem);
        }
        let Some(broker) = self.brokers.get_mut(&spec.id) else {
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
        if broker.describe(spec.rack.clone(), spec.addresses.clone()) {
            changes.push(Change::Broker(spec.id));
        }
        Ok(Outcome::Registered { incarnation: broker.incarnation })
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
        let incarnation = known.map_or(Incarnation(0), |broker| broker.incarnation);
        let Some(incarnation) = incarnation.0.checked_add(1).map(Incarnation) else {
            let message = format!("broker {id} has used up its incarnations");
            return Err(Refusal::new(ErrorCode::ResourceExhausted, message));
        };
        let empty = BrokerSpec { id, incarnation, rack: None, addresses: Vec::new() };
        let broker = self.brokers.entry(id).or_insert_with(|| Broker::new(empty));
        broker.incarnation = incarnation;
        broker.incarnation_token = token;
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
}
