//! The relations between values, checked once.

use super::{Config, ConfigError};
use crate::limits;

pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    match problem(config) {
        None => Ok(()),
        Some(problem) => Err(ConfigError { place: "configuration".to_owned(), problem }),
    }
}

fn problem(config: &Config) -> Option<String> {
    members(config)
        .or_else(|| listeners(config))
        .or_else(|| limits_of(config))
        .or_else(|| timings(config))
}

/// Either the brokers that form the cluster are named, or some of one that is there.
fn members(config: &Config) -> Option<String> {
    match (config.initial_brokers.is_empty(), config.seeds.is_empty()) {
        (true, true) => Some(
            "initial_brokers and seeds are both missing: give the brokers that form a cluster, or \
             the internal addresses of some whose cluster this one joins"
                .to_owned(),
        ),
        (false, false) => Some(
            "initial_brokers and seeds are both given: a broker forms a cluster or joins one"
                .to_owned(),
        ),
        (false, true) => initial_brokers(config),
        (true, false) => seeds(config),
    }
}

fn seeds(config: &Config) -> Option<String> {
    let undialable = config.seeds.iter().any(|seed| seed.port == 0 || seed.is_unspecified());
    undialable.then(|| "seeds must be addresses that can be dialed".to_owned())
}

fn initial_brokers(config: &Config) -> Option<String> {
    let brokers = &config.initial_brokers;
    let Some(id) = config.broker_id else {
        return Some(
            "broker_id is missing: give the number of this broker in initial_brokers".to_owned(),
        );
    };
    if ![1, 3, 5].contains(&brokers.len()) {
        return Some(format!(
            "initial_brokers lists {} brokers, 1, 3 or 5 are allowed: they vote on the metadata",
            brokers.len()
        ));
    }
    if let Some(pair) = brokers.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Some(format!("initial_brokers lists broker {} twice", pair[0].id));
    }
    let mut addresses: Vec<_> = brokers.iter().map(|broker| &broker.address).collect();
    addresses.sort_unstable();
    if let Some(pair) = addresses.windows(2).find(|pair| pair[0] == pair[1]) {
        return Some(format!("initial_brokers lists address {} twice", pair[0]));
    }
    if brokers.iter().any(|broker| broker.id.0 == 0 || broker.address.port == 0) {
        return Some("initial_brokers needs ids and ports above 0".to_owned());
    }
    if !brokers.iter().any(|broker| broker.id.0 == id) {
        return Some(format!(
            "initial_brokers does not list this broker (broker_id = {id}): add {id}@host:port"
        ));
    }
    None
}

fn listeners(config: &Config) -> Option<String> {
    let listener = &config.listener;
    let all =
        [("client", &listener.client), ("internal", &listener.internal), ("http", &listener.http)];
    for (n, (name, one)) in all.iter().enumerate() {
        let same = |other: &&(&str, &super::ListenerConfig)| other.1.bind == one.bind;
        if let Some((other, _)) = all[..n].iter().find(same).filter(|_| one.bind.port != 0) {
            return Some(format!(
                "listener.{other}.bind and listener.{name}.bind are both {}",
                one.bind
            ));
        }
        let advertised = one.advertised.as_ref();
        if advertised.is_some_and(|to| to.port == 0 || to.is_unspecified()) {
            return Some(format!(
                "listener.{name}.advertised must be an address that others can dial"
            ));
        }
        let told_by_initial_brokers = *name == "internal" && config.seeds.is_empty();
        if !told_by_initial_brokers && advertised.is_none() && one.bind.is_unspecified() {
            return Some(format!(
                "listener.{name}.advertised is missing: nobody can dial {}",
                one.bind
            ));
        }
    }
    None
}

fn limits_of(config: &Config) -> Option<String> {
    let limits = &config.limits;
    if limits.in_flight_bytes_per_partition > limits.in_flight_bytes {
        return Some(format!(
            "limits.in_flight_bytes_per_partition = {} is larger than limits.in_flight_bytes = {}",
            limits.in_flight_bytes_per_partition, limits.in_flight_bytes
        ));
    }
    if limits.in_flight_bytes_per_partition.0 < limits::BATCH_BYTES_MAX as u64 {
        return Some(format!(
            "limits.in_flight_bytes_per_partition = {} is smaller than the largest batch of {}",
            limits.in_flight_bytes_per_partition,
            super::ByteSize(limits::BATCH_BYTES_MAX as u64)
        ));
    }
    if limits.receive_bytes.0 < limits::MESSAGE_BYTES_MAX as u64 {
        return Some(format!(
            "limits.receive_bytes = {} is smaller than the largest message of {}",
            limits.receive_bytes,
            super::ByteSize(limits::MESSAGE_BYTES_MAX as u64)
        ));
    }
    None
}

fn timings(config: &Config) -> Option<String> {
    let raft = &config.raft;
    if raft.election_min >= raft.election_max {
        return Some(format!(
            "raft.election_min = {} must be shorter than raft.election_max = {}",
            raft.election_min, raft.election_max
        ));
    }
    if raft.heartbeat.0 * 2 > raft.election_min.0 {
        return Some(format!(
            "raft.election_min = {} must be at least twice raft.heartbeat = {}",
            raft.election_min, raft.heartbeat
        ));
    }
    if raft.probe.0 * 2 > raft.probe_missed.0 {
        return Some(format!(
            "raft.probe_missed = {} must be at least twice raft.probe = {}",
            raft.probe_missed, raft.probe
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ByteSize, HostPort, InitialBroker, Span};
    use tidelog_types::BrokerId;

    fn broker(id: u32, port: u16) -> InitialBroker {
        let address = HostPort { host: "h".to_owned(), port };
        InitialBroker { id: BrokerId(id), address }
    }

    fn check(change: impl FnOnce(&mut Config), expected: &str) {
        let mut config = Config {
            broker_id: Some(1),
            initial_brokers: vec![broker(1, 1), broker(2, 2), broker(3, 3)],
            ..Config::default()
        };
        assert_eq!(config.check(), Ok(()));
        change(&mut config);
        let problem = config.check().unwrap_err().problem;
        assert!(problem.contains(expected), "{problem}");
    }

    #[test]
    fn values_that_contradict_each_other_are_refused() {
        check(|c| c.initial_brokers.truncate(2), "lists 2 brokers");
        check(|c| c.initial_brokers[1].id = BrokerId(1), "broker 1 twice");
        check(|c| c.initial_brokers[2].address.port = 1, "address h:1 twice");
        check(|c| c.broker_id = Some(7), "add 7@host:port");
        check(|c| c.broker_id = None, "give the number of this broker in initial_brokers");
        check(|c| c.initial_brokers.clear(), "are both missing");
        let seed = HostPort { host: "h".to_owned(), port: 7171 };
        check(|c| c.seeds.push(seed.clone()), "are both given");
        let joins = |seeds: &[&str]| {
            let seeds = seeds.iter().map(|seed| seed.parse().unwrap()).collect();
            move |c: &mut Config| (c.initial_brokers, c.seeds) = (Vec::new(), seeds)
        };
        check(joins(&["h:7171", "0.0.0.0:7171"]), "can be dialed");
        check(
            |c| {
                joins(&["h:7171"])(c);
                c.listener.internal.bind.host = "0.0.0.0".to_owned();
            },
            "listener.internal.advertised is missing",
        );
        check(|c| c.listener.http.bind.port = 7071, "are both 127.0.0.1:7071");
        check(
            |c| c.listener.client.bind.host = "0.0.0.0".to_owned(),
            "nobody can dial 0.0.0.0:7071",
        );
        check(
            |c| c.limits.in_flight_bytes = ByteSize::mib(1),
            "larger than limits.in_flight_bytes",
        );
        check(|c| c.limits.in_flight_bytes_per_partition = ByteSize::mib(1), "the largest batch");
        check(|c| c.raft.election_max = Span::ms(900), "shorter than raft.election_max");
        check(|c| c.raft.heartbeat = Span::ms(900), "twice raft.heartbeat");
        check(|c| c.raft.probe = Span::ms(900), "twice raft.probe");
    }
}
