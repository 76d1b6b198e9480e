//! How a broker finds out which cluster it belongs to, and how a cluster begins.
//!
//! A broker with an identity knows. One with an empty directory asks all other initial brokers, and
//! nothing is decided before all of them have answered:
//! - they are empty too, with the same list: the lowest id forms the cluster, the others wait for it;
//! - they belong to a cluster that does not know this broker: it joins, as it was meant to;
//! - they belong to a cluster that knows it: its disk was wiped, and it must not come back as if
//!   nothing had happened, since it may have voted;
//! - one has an identity, but has just come back and does not know yet what its cluster knows: wait.
//!
//! A broker with `seeds` instead joins a cluster that is there: see `join`.
//!
//! A list that differs from that of the broker that forms, or of a cluster, is refused, and so is a broker
//! that does not support the cluster's feature level.
//!
//! Not covered: a broker that joins, votes, and loses its disk before it has registered is not known
//! yet and would join a second time. No record can be lost by it: it hosts no partition so early.
//! And when the broker that forms loses its disk before a majority has joined, and those who had
//! joined start again, everybody waits: their directories must be emptied, and hold nothing yet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use tidelog_raft::{Introduction, introduce};
use tidelog_state::metadata::check_levels;
use tidelog_types::{BrokerId, FeatureLevel, Incarnation, NodeId, canary};
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::config::{Config, InitialBroker};
use crate::environment::Environment;
use crate::identity::{self, Identity, IdentityError};
use crate::introducer::Introducer;
use crate::join::{self, Joined};

/// Pause between two rounds of questions.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// How often a waiting broker says again for whom.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// The incarnation that initial brokers begin with.
const FIRST: Incarnation = Incarnation(1);

/// Why a broker does not take part.
#[derive(Debug, thiserror::Error)]
pub enum FormationError {
    /// The others say that it does not belong to them.
    #[error("{0}")]
    Refused(String),
    /// The identity cannot be written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Who this broker is, for good.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) identity: Identity,
    /// The first members of the metadata group, when it is this broker that makes it.
    pub(crate) initialize: Option<BTreeSet<NodeId>>,
}

/// What another initial broker answered.
type Answers = BTreeMap<BrokerId, Result<Introduction, String>>;

/// What follows from the answers.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// Ask again; the text says for whom the broker waits.
    Wait(String),
    /// Choose the cluster's id and begin.
    Form,
    /// Belong to this cluster.
    Join(String),
    /// Stop, for this reason.
    Refuse(String),
}

/// The nodes of the initial brokers.
pub(crate) fn initial_nodes(config: &Config) -> BTreeSet<NodeId> {
    let node = |one: &InitialBroker| NodeId { broker: one.id, incarnation: FIRST };
    config.initial_brokers.iter().map(node).collect()
}

/// Finds out who this broker is, however long that takes; `waiting` is told for whom it waits.
pub(crate) async fn settle(
    config: &Config,
    env: &Environment,
    identity: Option<Identity>,
    introducer: &Introducer,
    waiting: impl Fn(&str),
) -> Result<Settled, FormationError> {
    if let Some(identity) = identity {
        let answers = ask(config, env, introducer).await;
        refuse_other_cluster(&identity, &answers)?;
        let others: Vec<Introduction> = match config.seeds.is_empty() {
            true => answers.into_values().flatten().collect(),
            false => others(config, env, introducer).await,
        };
        refuse_removed(&others)?;
        let same = |other: &&Introduction| other.cluster_id.as_ref() == Some(&identity.cluster_id);
        refuse_level(config, introducer, others.iter().filter(same))?;
        let initialize = identity.forming.then(|| initial_nodes(config));
        return Ok(Settled { identity, initialize });
    }
    let mut said: Option<(String, Instant)> = None;
    let token = token(env, config).await?;
    loop {
        let decision = if config.seeds.is_empty() {
            let answers = ask(config, env, introducer).await;
            refuse_level(config, introducer, answers.values().flatten())?;
            decide(config, &answers)
        } else {
            match join::join(config, env, introducer, token).await {
                Joined::As(identity) => return join_as(config, env, introducer, identity).await,
                Joined::Wait(reason) => Decision::Wait(reason),
                Joined::Refuse(reason) => Decision::Refuse(reason),
            }
        };
        let (cluster_id, forming) = match decision {
            Decision::Refuse(reason) => return Err(FormationError::Refused(reason)),
            Decision::Form => (uuid(env), true),
            Decision::Join(cluster_id) => (cluster_id, false),
            Decision::Wait(reason) => {
                let old =
                    |(text, at): &(String, Instant)| *text != reason || at.elapsed() > SAY_EVERY;
                if said.as_ref().is_none_or(old) {
                    info!(reason, "waiting for the cluster to form");
                    waiting(&reason);
                    said = Some((reason, Instant::now()));
                }
                sleep(ASK_EVERY).await;
                continue;
            }
        };
        let node = NodeId { broker: config.broker(), incarnation: FIRST };
        let identity = Identity::new(cluster_id, node, forming);
        return join_as(config, env, introducer, identity).await;
    }
}

/// Writes down who this broker is, before it does anything as such.
async fn join_as(
    config: &Config,
    env: &Environment,
    introducer: &Introducer,
    identity: Identity,
) -> Result<Settled, FormationError> {
    write(env, config, identity.clone()).await?;
    let forming = identity.forming;
    info!(cluster = identity.cluster_id, forming, "joined a cluster");
    introducer.join(&identity);
    let initialize = forming.then(|| initial_nodes(config));
    Ok(Settled { identity, initialize })
}

/// Writes the identity off the tasks.
pub(crate) async fn write(
    env: &Environment,
    config: &Config,
    identity: Identity,
) -> Result<(), IdentityError> {
    let (disk, data) = (env.node.disk.clone(), config.data_dir.clone());
    let path = data.clone();
    let written = env.blocking(move || identity.write(&*disk, &data)).await;
    written.map_err(|source| IdentityError::Io { doing: "write the identity in", path, source })?
}

/// With which token this broker asks to join.
async fn token(env: &Environment, config: &Config) -> Result<u128, IdentityError> {
    let fresh = env.random_uuid();
    if config.broker_id.is_some() {
        return Ok(fresh);
    }
    let (disk, data) = (env.node.disk.clone(), config.data_dir.clone());
    let path = data.clone();
    let read = env.blocking(move || identity::joining(&*disk, &data, fresh)).await;
    read.map_err(|source| IdentityError::Io { doing: "write the token in", path, source })?
}

fn uuid(env: &Environment) -> String {
    tidelog_state::metadata::ClusterId(env.random_uuid()).to_string()
}

async fn ask(config: &Config, env: &Environment, introducer: &Introducer) -> Answers {
    let me = introducer.question();
    let others = config.initial_brokers.iter().filter(|one| one.id != config.broker());
    let questions = others.map(|one| {
        let me = &me;
        async move {
            let address = one.address.to_string();
            let answer = introduce(&*env.node.connector, &address, me).await;
            (one.id, answer.map_err(|err| err.to_string()))
        }
    });
    let answers: Answers = join_all(questions).await.into_iter().collect();
    let meant = answers.iter().filter_map(|(id, answer)| Some((id, answer.as_ref().ok()?)));
    meant
        .filter(|(id, answer)| answer.broker == **id)
        .for_each(|(_, answer)| introducer.hear(answer));
    answers
}

/// What those say who can be asked: the other initial brokers, or the seeds.
pub(crate) async fn others(
    config: &Config,
    env: &Environment,
    introducer: &Introducer,
) -> Vec<Introduction> {
    if config.seeds.is_empty() {
        return ask(config, env, introducer).await.into_values().flatten().collect();
    }
    let answers = join::ask(config, env, introducer).await;
    answers.into_iter().filter_map(|(_, answer)| answer.ok()).collect()
}

/// A broker that was removed while it was down does not hear of it any other way.
pub(crate) fn refuse_removed(others: &[Introduction]) -> Result<(), FormationError> {
    match others.iter().find(|other| other.removed) {
        None => Ok(()),
        Some(other) => Err(FormationError::Refused(format!(
            "broker {} says that this broker was removed from the cluster: its data directory is of no \
             use any more. To join again, empty it and give seeds",
            other.broker
        ))),
    }
}

/// A broker that does not support the cluster's feature level could not read what the others write.
pub(crate) fn refuse_level<'a>(
    config: &Config,
    introducer: &Introducer,
    others: impl IntoIterator<Item = &'a Introduction>,
) -> Result<(), FormationError> {
    let mut levels = others.into_iter().filter_map(|other| other.feature_level);
    let check = |level| check_levels(level, introducer.levels(), config.broker());
    levels.try_for_each(check).map_err(FormationError::Refused)
}

/// The newest feature level that all initial brokers support; `None` while some have not said.
///
/// # Errors
/// One line, when there is none.
pub(crate) fn founding_level(
    config: &Config,
    introducer: &Introducer,
) -> Result<Option<FeatureLevel>, String> {
    let said = config.initial_brokers.iter().map(|one| introducer.heard(one.id));
    let Some(said) = said.collect::<Option<Vec<_>>>() else { return Ok(None) };
    let newest = said.iter().map(|levels| levels.max).min().unwrap_or_default();
    if said.iter().all(|levels| levels.contains(newest)) {
        return Ok(Some(newest));
    }
    let each = config.initial_brokers.iter().zip(said);
    let each: Vec<_> = each.map(|(one, levels)| format!("broker {} {levels}", one.id)).collect();
    Err(format!(
        "the initial brokers have no feature level in common: {}: start all with versions that do",
        each.join(", ")
    ))
}

fn decide(config: &Config, answers: &Answers) -> Decision {
    let me = config.broker();
    let list = config.initial_list();
    let founder = config.initial_brokers.iter().map(|one| one.id).min().unwrap_or(me);
    let address = |id: &BrokerId| {
        let of = config.initial_brokers.iter().find(|one| one.id == *id);
        of.map(|one| one.address.to_string()).unwrap_or_default()
    };
    let mut missing = Vec::new();
    let mut clusters = BTreeMap::new();
    for (id, answer) in answers {
        let Ok(answer) = answer else {
            missing.push(format!("broker {id} at {}", address(id)));
            continue;
        };
        if answer.broker != *id {
            return Decision::Wait(format!(
                "broker {id}: broker {} answers at {}",
                answer.broker,
                address(id)
            ));
        }
        let foreign = answer.initial_brokers != list;
        if foreign && (answer.cluster_id.is_some() || *id == founder) {
            return Decision::Refuse(format!(
                "initial_brokers is {}, but broker {id} at {} has {}: all must have the same list",
                list.join(","),
                address(id),
                answer.initial_brokers.join(",")
            ));
        }
        if foreign {
            return Decision::Wait(format!(
                "broker {id} at {}, whose initial_brokers is {} instead of {}",
                address(id),
                answer.initial_brokers.join(","),
                list.join(",")
            ));
        }
        let Some(cluster) = &answer.cluster_id else {
            if answer.incarnation.is_some() {
                missing.push(format!("broker {id} at {} to catch up", address(id)));
            }
            continue;
        };
        if answer.known_brokers.contains(&me) && !canary!(WipedNodeAccepted) {
            return Decision::Refuse(format!(
                "data directory {} is empty, but cluster {cluster} knows broker {me}: its disk was \
                 wiped or is not mounted. Put the disk back; an empty one may return only as a new \
                 incarnation",
                config.data_dir.display()
            ));
        }
        if answer.removed {
            return Decision::Refuse(format!(
                "broker {me} was removed from cluster {cluster}: to join it again, give seeds instead \
                 of initial_brokers"
            ));
        }
        clusters.entry(cluster.clone()).or_insert(*id);
    }
    if clusters.len() > 1 {
        let each = clusters.iter().map(|(cluster, id)| format!("broker {id} to {cluster}"));
        let each: Vec<_> = each.collect();
        return Decision::Refuse(format!(
            "the initial brokers belong to different clusters: {}",
            each.join(", ")
        ));
    }
    if !missing.is_empty() {
        return Decision::Wait(missing.join(", "));
    }
    match clusters.into_keys().next() {
        Some(cluster) => Decision::Join(cluster),
        None if founder == me => Decision::Form,
        None => Decision::Wait(format!("broker {founder} at {} to form it", address(&founder))),
    }
}

fn refuse_other_cluster(identity: &Identity, answers: &Answers) -> Result<(), FormationError> {
    for (id, answer) in answers {
        let Ok(Introduction { cluster_id: Some(cluster), broker, .. }) = answer else { continue };
        if broker == id && *cluster != identity.cluster_id {
            return Err(FormationError::Refused(format!(
                "data directory belongs to cluster {}, but broker {id} to cluster {cluster}: wrong \
                 disk or wrong initial_brokers",
                identity.cluster_id
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tidelog_types::FeatureLevels;

    use super::*;

    fn config(me: u32) -> Config {
        let broker = |id: u32| format!("{id}@h{id}:7171").parse().unwrap();
        Config {
            broker_id: Some(me),
            initial_brokers: [1, 2, 3].map(broker).to_vec(),
            data_dir: "d".into(),
            ..Config::default()
        }
    }

    fn empty(id: u32) -> Introduction {
        Introduction {
            broker: BrokerId(id),
            incarnation: None,
            cluster_id: None,
            initial_brokers: config(id).initial_list(),
            known_brokers: Vec::new(),
            removed: false,
            levels: FeatureLevels::SUPPORTED,
            feature_level: None,
        }
    }

    fn member(id: u32, cluster: &str, known: &[u32]) -> Introduction {
        let known_brokers = known.iter().map(|id| BrokerId(*id)).collect();
        Introduction { cluster_id: Some(cluster.to_owned()), known_brokers, ..empty(id) }
    }

    fn decided(me: u32, answers: Vec<(u32, Option<Introduction>)>) -> Decision {
        let answer = |(id, answer): (u32, Option<Introduction>)| {
            (BrokerId(id), answer.ok_or_else(|| "refused".to_owned()))
        };
        decide(&config(me), &answers.into_iter().map(answer).collect())
    }

    fn wait(text: &str) -> Decision {
        Decision::Wait(text.to_owned())
    }

    #[test]
    fn the_lowest_forms_once_all_others_are_there_and_empty() {
        let both = |a, b| vec![(a, Some(empty(a))), (b, Some(empty(b)))];
        assert_eq!(decided(1, both(2, 3)), Decision::Form);
        assert_eq!(decided(2, both(1, 3)), wait("broker 1 at h1:7171 to form it"));
        assert_eq!(
            decided(1, vec![(2, None), (3, None)]),
            wait("broker 2 at h2:7171, broker 3 at h3:7171")
        );
        assert_eq!(decided(1, vec![(2, Some(empty(2))), (3, None)]), wait("broker 3 at h3:7171"));
    }

    #[test]
    fn who_was_not_registered_joins_once_all_have_answered() {
        let joined = Decision::Join("c".to_owned());
        let forming = vec![(1, Some(member(1, "c", &[]))), (3, Some(empty(3)))];
        assert_eq!(decided(2, forming), joined);
        let formed = vec![(1, Some(member(1, "c", &[1, 3]))), (3, Some(member(3, "c", &[1, 3])))];
        assert_eq!(decided(2, formed), joined);
        let one = vec![(1, Some(member(1, "c", &[1, 3]))), (3, None)];
        assert_eq!(decided(2, one), wait("broker 3 at h3:7171"));
        // The broker that forms lost its disk before the cluster formed.
        let others = vec![(2, Some(member(2, "c", &[]))), (3, Some(empty(3)))];
        assert_eq!(decided(1, others), joined);
    }

    /// Seed 30 of the simulation once: all brokers lost power, the one with the lowest id its disk,
    /// too, and the others answered before they had read who they are.
    #[test]
    fn who_has_just_come_back_is_waited_for() {
        let back = |id| Introduction { incarnation: Some(FIRST), ..empty(id) };
        let one = vec![(2, Some(back(2))), (3, Some(empty(3)))];
        assert_eq!(decided(1, one), wait("broker 2 at h2:7171 to catch up"));
        let both = vec![(1, Some(member(1, "c", &[1]))), (3, Some(back(3)))];
        assert_eq!(decided(2, both), wait("broker 3 at h3:7171 to catch up"));
    }

    #[test]
    fn wiped_foreign_and_divided_are_refused() {
        let check = |me, answers, expected: &str| match decided(me, answers) {
            Decision::Refuse(reason) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{other:?}"),
        };
        let known = vec![(1, Some(member(1, "c", &[1, 2, 3]))), (3, None)];
        check(2, known, "disk was wiped");
        let removed = Introduction { removed: true, ..member(1, "c", &[1, 3]) };
        check(2, vec![(1, Some(removed)), (3, None)], "give seeds instead");
        let two = vec![(1, Some(member(1, "c", &[1]))), (3, Some(member(3, "e", &[3])))];
        check(2, two, "broker 1 to c, broker 3 to e");
        let mut other = empty(1);
        other.initial_brokers.pop();
        check(2, vec![(1, Some(other.clone())), (3, None)], "all must have the same list");
        // A list that differs elsewhere is that broker's mistake: the founder waits.
        other.broker = BrokerId(3);
        let reason = "broker 3 at h3:7171, whose initial_brokers is 1@h1:7171,2@h2:7171 instead of \
                      1@h1:7171,2@h2:7171,3@h3:7171";
        assert_eq!(decided(1, vec![(2, Some(empty(2))), (3, Some(other))]), wait(reason));
    }

    #[test]
    fn an_address_of_somebody_else_is_waited_for() {
        let swapped = vec![(2, Some(empty(3))), (3, Some(empty(3)))];
        assert_eq!(decided(1, swapped), wait("broker 2: broker 3 answers at h2:7171"));
    }

    #[test]
    fn a_directory_of_another_cluster_is_refused() {
        let identity = Identity::new("c".to_owned(), NodeId::new(2, 1), false);
        let answers = |cluster| {
            let answer: Result<_, String> = Ok(member(1, cluster, &[1, 2, 3]));
            BTreeMap::from([(BrokerId(1), answer), (BrokerId(3), Err("refused".to_owned()))])
        };
        assert!(refuse_other_cluster(&identity, &answers("c")).is_ok());
        let err = refuse_other_cluster(&identity, &answers("e")).unwrap_err().to_string();
        assert!(err.contains("belongs to cluster c, but broker 1 to cluster e"), "{err}");
    }

    fn levels(min: u32, max: u32) -> FeatureLevels {
        FeatureLevels { min: FeatureLevel(min), max: FeatureLevel(max) }
    }

    #[test]
    fn a_cluster_begins_at_the_newest_level_that_all_founders_support() {
        let config = config(1);
        let founding = |mine, two: Option<FeatureLevels>, three: Option<FeatureLevels>| {
            let introducer = Introducer::new(&config, mine, None);
            for (id, said) in [(2, two), (3, three)] {
                let said = said.map(|levels| Introduction { levels, ..empty(id) });
                said.iter().for_each(|said| introducer.hear(said));
            }
            founding_level(&config, &introducer)
        };
        let newest = |level| Ok(Some(FeatureLevel(level)));
        assert_eq!(founding(levels(1, 2), Some(levels(1, 2)), Some(levels(1, 3))), newest(2));
        assert_eq!(
            founding(levels(1, 2), Some(FeatureLevels::UNSAID), Some(levels(1, 3))),
            newest(1)
        );
        assert_eq!(founding(levels(1, 2), Some(levels(1, 2)), None), Ok(None));
        let divided = founding(levels(3, 4), Some(levels(1, 2)), Some(levels(1, 4))).unwrap_err();
        assert!(divided.contains("broker 1 3 to 4, broker 2 1 to 2, broker 3 1 to 4"), "{divided}");
    }

    #[test]
    fn a_broker_that_does_not_support_the_level_of_its_cluster_is_refused() {
        let config = config(1);
        let refused = |mine, level: Option<u32>| {
            let introducer = Introducer::new(&config, mine, None);
            let other = Introduction { feature_level: level.map(FeatureLevel), ..empty(2) };
            refuse_level(&config, &introducer, [&empty(3), &other]).map_err(|err| err.to_string())
        };
        assert_eq!(refused(levels(1, 2), Some(2)), Ok(()));
        assert_eq!(refused(levels(3, 4), None), Ok(()));
        let too_old = refused(levels(1, 2), Some(3)).unwrap_err();
        assert_eq!(
            too_old,
            "the cluster is at feature level 3, but broker 1 supports 1 to 2: start it with a newer \
             version of tidelog"
        );
        let too_new = refused(levels(2, 3), Some(1)).unwrap_err();
        assert!(too_new.contains("at feature level 1, but broker 1 supports 2 to 3"), "{too_new}");
        assert!(too_new.contains("finalize-upgrade"), "{too_new}");
    }
}
