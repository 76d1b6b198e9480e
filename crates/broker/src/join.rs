//! How a broker becomes part of a cluster that is there: `seeds` names some of its brokers.
//!
//! 1. It asks them which cluster that is, and whether it is known there: then its disk was wiped, and it
//!    must not come back as if nothing had happened.
//! 2. It asks for an incarnation, and for an id if it has none, writes down who it is, and only then takes
//!    part in anything.
//! 3. It tells where it is reached. The leader of the metadata dials it there and makes it a learner of
//!    them; from then on it is a broker like any other.
//!
//! A broker that dies between 2 and 3 goes on with 3 when it starts again, one that dies within 2 asks
//! once more: it has promised nothing yet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tidelog_raft::{Introduction, introduce};
use tidelog_state::metadata::{Command, Outcome, decode_reply};
use tidelog_types::{BrokerId, ErrorCode, Incarnation, NodeId};
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use crate::cluster::Cluster;
use crate::config::Config;
use crate::controller::{self, CommandRequest};
use crate::environment::Environment;
use crate::formation;
use crate::identity::Identity;
use crate::introducer::Introducer;
use crate::others::Others;
use crate::registry::Advertised;

/// How long a seed may take to have a command carried out.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(6);

/// Pause between two tries to tell where this broker is.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What became of a question to the seeds.
#[derive(Debug)]
pub(crate) enum Joined {
    /// Who this broker is from now on.
    As(Identity),
    /// Ask again; the text says for whom the broker waits.
    Wait(String),
    /// Stop, for this reason.
    Refuse(String),
}

/// Asks the seeds once. Who asks again has the same `token`: an answer may have been lost.
pub(crate) async fn join(
    config: &Config,
    env: &Environment,
    introducer: &Introducer,
    token: u128,
) -> Joined {
    let answers = ask(config, env, introducer).await;
    let said = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    if let Err(err) = formation::refuse_level(config, introducer, said) {
        return Joined::Refuse(err.to_string());
    }
    let cluster_id = match decide(config, &answers) {
        Ok(Some(cluster_id)) => cluster_id,
        Ok(None) => return Joined::Wait(format!("one of its seeds, {}", seeds(config))),
        Err(reason) => return Joined::Refuse(reason),
    };
    let command = match config.broker_id.map(BrokerId) {
        Some(broker) => Command::RenewBroker { broker, token },
        None => Command::JoinBroker { token },
    };
    let node = match tell(config, env, &command).await {
        Ok(Outcome::Incarnation { incarnation }) => NodeId { broker: config.broker(), incarnation },
        Ok(Outcome::Joined { node }) => node,
        Ok(other) => return Joined::Wait(format!("a seed that knows the way: one said {other:?}")),
        Err(Told::Refused(reason)) => return Joined::Refuse(reason),
        Err(Told::NotYet(reason)) => {
            return Joined::Wait(format!("cluster {cluster_id} to take it: {reason}"));
        }
    };
    info!(%node, cluster = cluster_id, "joins a cluster");
    Joined::As(Identity::new(cluster_id, node, false))
}

/// Tells the seeds where this broker is reached, until the metadata shows it here.
///
/// # Errors
/// One line, when the cluster does not take this broker.
pub(crate) async fn announce(
    cluster: Arc<Cluster>,
    config: Config,
    env: Environment,
    advertised: Advertised,
) -> Result<(), String> {
    let broker = advertised.spec(&config, cluster.me.incarnation);
    let command = Command::RegisterBroker { broker };
    // Once it is a member it registers by itself.
    while cluster.machine().broker(config.broker()).is_none() {
        match tell(&config, &env, &command).await {
            Ok(_) => debug!("told the cluster where this broker is"),
            Err(Told::NotYet(err)) => debug!(err, "the cluster does not hear where this broker is"),
            Err(Told::Refused(reason)) => {
                return Err(format!("the cluster refuses this broker: {reason}"));
            }
        }
        sleep(AGAIN_AFTER).await;
    }
    Ok(())
}

/// The nodes among the seeds that answer, with their addresses.
pub(crate) async fn known(
    config: &Config,
    env: &Environment,
    introducer: &Introducer,
) -> BTreeMap<NodeId, String> {
    let answers = ask(config, env, introducer).await;
    let node = |(address, answer): (String, Result<Introduction, String>)| {
        let answer = answer.ok()?;
        let incarnation: Incarnation = answer.incarnation?;
        Some((NodeId { broker: answer.broker, incarnation }, address))
    };
    answers.into_iter().filter_map(node).collect()
}

fn seeds(config: &Config) -> String {
    config.seeds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

type Answers = Vec<(String, Result<Introduction, String>)>;

pub(crate) async fn ask(config: &Config, env: &Environment, introducer: &Introducer) -> Answers {
    let me = introducer.question();
    let questions = config.seeds.iter().map(|seed| {
        let me = &me;
        async move {
            let address = seed.to_string();
            let answer = introduce(&*env.node.connector, &address, me).await;
            (address, answer.map_err(|err| err.to_string()))
        }
    });
    join_all(questions).await
}

/// The cluster of the seeds, once one of them names it and knows its feature level: who does not support that
/// must not be given an incarnation.
fn decide(config: &Config, answers: &Answers) -> Result<Option<String>, String> {
    let me: BrokerId = config.broker();
    let answered = || answers.iter().filter_map(|(at, answer)| Some((at, answer.as_ref().ok()?)));
    if let Some((address, _)) = answered().find(|(_, answer)| answer.broker == me) {
        return Err(format!("broker {me} is at {address} already: give this one another id"));
    }
    let mut clusters = BTreeMap::new();
    for (address, answer) in answered() {
        let Some(cluster) = &answer.cluster_id else { continue };
        if answer.known_brokers.contains(&me) {
            return Err(format!(
                "data directory {} is empty, but cluster {cluster} knows broker {me}: its disk was \
                 wiped or is not mounted. Put the disk back, or give this broker another id",
                config.data_dir.display()
            ));
        }
        clusters.entry(cluster.clone()).or_insert(address);
    }
    if clusters.len() > 1 {
        let each = clusters.iter().map(|(cluster, seed)| format!("{seed} to {cluster}"));
        let each: Vec<_> = each.collect();
        return Err(format!("the seeds belong to different clusters: {}", each.join(", ")));
    }
    let mut named = answered().filter(|(_, answer)| answer.cluster_id.is_some());
    let is_known = named.any(|(_, answer)| answer.feature_level.is_some());
    Ok(clusters.into_keys().next().filter(|_| is_known))
}

/// Why a command was not carried out.
enum Told {
    /// It may be tried again.
    NotYet(String),
    /// It never will be.
    Refused(String),
}

/// Has a command carried out by whichever seed can.
async fn tell(config: &Config, env: &Environment, command: &Command) -> Result<Outcome, Told> {
    let others = Others::new(Arc::clone(&env.node.connector));
    let mut problem = "no seed is given".to_owned();
    for seed in &config.seeds {
        let request = CommandRequest { command: command.encode().into(), forward: true };
        let channel = match others.channel(&seed.to_string()) {
            Ok(channel) => channel,
            Err(err) => {
                problem = format!("{seed}: {err}");
                continue;
            }
        };
        let response = match timeout(COMMAND_TIMEOUT, controller::call(channel, request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(status)) => {
                problem = format!("{seed}: {}", status.message());
                continue;
            }
            Err(_) => {
                problem = format!("{seed}: no answer in time");
                continue;
            }
        };
        return match decode_reply(&response.reply) {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(refusal)) if refusal.code == ErrorCode::ClusterNotFormed => {
                Err(Told::NotYet(refusal.message))
            }
            Ok(Err(refusal)) => Err(Told::Refused(refusal.message)),
            Err(err) => Err(Told::NotYet(format!("{seed}: {err}"))),
        };
    }
    Err(Told::NotYet(problem))
}

#[cfg(test)]
mod tests {
    use tidelog_types::FeatureLevels;

    use super::*;

    fn config() -> Config {
        let seeds = ["h1:7171", "h2:7171"].map(|seed| seed.parse().unwrap());
        Config {
            broker_id: Some(4),
            data_dir: "d".into(),
            seeds: seeds.to_vec(),
            ..Config::default()
        }
    }

    fn member(id: u32, cluster: Option<&str>, known: &[u32]) -> Result<Introduction, String> {
        Ok(Introduction {
            broker: BrokerId(id),
            incarnation: Some(Incarnation(1)),
            cluster_id: cluster.map(str::to_owned),
            initial_brokers: Vec::new(),
            known_brokers: known.iter().map(|id| BrokerId(*id)).collect(),
            removed: false,
            levels: FeatureLevels::SUPPORTED,
            feature_level: cluster.map(|_| FeatureLevels::SUPPORTED.min),
        })
    }

    fn not_caught_up(id: u32) -> Result<Introduction, String> {
        Ok(Introduction { feature_level: None, ..member(id, Some("c"), &[1, 2, 3])? })
    }

    fn decided(answers: [Result<Introduction, String>; 2]) -> Result<Option<String>, String> {
        let addresses = ["h1:7171", "h2:7171"].map(str::to_owned);
        decide(&config(), &addresses.into_iter().zip(answers).collect())
    }

    #[test]
    fn one_seed_that_names_its_cluster_is_enough() {
        let down = || Err("refused".to_owned());
        assert_eq!(decided([down(), down()]), Ok(None));
        assert_eq!(decided([down(), member(2, None, &[])]), Ok(None));
        let joined = decided([down(), member(2, Some("c"), &[1, 2, 3])]);
        assert_eq!(joined, Ok(Some("c".to_owned())));
    }

    #[test]
    fn a_cluster_is_joined_only_at_a_level_that_is_known() {
        assert_eq!(decided([not_caught_up(1), not_caught_up(2)]), Ok(None));
        let joined = decided([not_caught_up(1), member(2, Some("c"), &[1, 2, 3])]);
        assert_eq!(joined, Ok(Some("c".to_owned())));
    }

    #[test]
    fn known_doubled_and_divided_are_refused() {
        let check = |answers, expected: &str| {
            let reason = decided(answers).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        };
        let there = || member(1, Some("c"), &[1, 2, 3]);
        check([there(), member(2, Some("c"), &[1, 2, 3, 4])], "disk was wiped");
        check([there(), member(4, Some("c"), &[1, 2, 3])], "is at h2:7171 already");
        check([there(), member(2, Some("e"), &[2])], "h1:7171 to c, h2:7171 to e");
    }
}
