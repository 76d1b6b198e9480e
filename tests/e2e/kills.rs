//! SIGKILL at random moments under load.

use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;
use tidelog::demo::Load;

use crate::stage::{PARTITIONS, PATIENCE, Stage, acks_go_on, leader, rounds};
use crate::witness::Witness;

/// Whom a round kills.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Leader,
    Follower,
    Majority,
    All,
}

impl Kind {
    /// Whether the other brokers can go on without the killed ones.
    fn leaves_a_majority(self) -> bool {
        matches!(self, Self::Leader | Self::Follower)
    }

    async fn victims(self, stage: &mut Stage) -> Vec<u32> {
        let all = [1, 2, 3];
        let others = |id: u32| all.into_iter().filter(move |other| *other != id);
        match self {
            Self::Leader | Self::Follower => {
                let partition = stage.rng.random_range(0..PARTITIONS);
                let leader = leader(&stage.client().await, partition).await;
                let followers: Vec<u32> = others(leader).collect();
                match self {
                    Self::Leader => vec![leader],
                    _ => vec![*followers.choose(&mut stage.rng).unwrap()],
                }
            }
            Self::Majority => others(*all.choose(&mut stage.rng).unwrap()).collect(),
            Self::All => all.to_vec(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_leaders_lose_nothing() {
    same_kind(Kind::Leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_followers_lose_nothing() {
    same_kind(Kind::Follower).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_majorities_lose_nothing() {
    same_kind(Kind::Majority).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_clusters_killed_at_once_lose_nothing() {
    same_kind(Kind::All).await;
}

async fn same_kind(kind: Kind) {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load().await;
    let witness = Witness::start(&stage.cluster.bootstrap()).await;
    for round in 0..rounds(10) {
        let victims = kill(&mut stage, kind, &load).await;
        println!("round {round}: killed {victims:?}");
        if kind.leaves_a_majority() {
            acks_go_on(&load, 20).await;
        }
        stage.start_all().await;
        acks_go_on(&load, 20).await;
    }
    stage.audit_with(load, &acks, witness).await;
}

/// Kills when a random number of records more is acked.
async fn kill(stage: &mut Stage, kind: Kind, load: &Load) -> Vec<u32> {
    let tide = load.tide();
    let moment = tide.acked() + stage.rng.random_range(1..400);
    let reached = tide.until(|tide| tide.acked() >= moment);
    tokio::time::timeout(PATIENCE, reached).await.expect("acks go on");
    let victims = kind.victims(stage).await;
    stage.cluster.kill_many(&victims).unwrap();
    victims
}

/// All kinds in random order, brokers that come back at different times, and with each third kill the
/// views of the victims deleted: they can be rebuilt from the log.
#[tokio::test(flavor = "multi_thread")]
async fn random_kills_and_deleted_views_lose_nothing() {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load().await;
    let witness = Witness::start(&stage.cluster.bootstrap()).await;
    let mut deleted = 0;
    for round in 0..rounds(10) {
        let kinds = [Kind::Leader, Kind::Follower, Kind::Majority, Kind::All];
        let kind = *kinds.choose(&mut stage.rng).unwrap();
        let victims = kill(&mut stage, kind, &load).await;
        println!("round {round}: killed {victims:?}, {kind:?}");
        if round % 3 == 2 {
            deleted += victims.iter().filter(|id| delete_view(&stage, **id)).count();
        }
        for id in victims {
            stage.cluster.broker_mut(id).start().unwrap();
            if stage.rng.random_ratio(1, 3) {
                // Once more, at some moment of its recovery.
                let moment = Duration::from_millis(stage.rng.random_range(0..300));
                tokio::time::sleep(moment).await;
                stage.cluster.broker_mut(id).kill().unwrap();
                stage.cluster.broker_mut(id).start().unwrap();
            }
            if stage.rng.random() && kind.leaves_a_majority() {
                stage.cluster.ready(PATIENCE).await.unwrap();
            }
        }
        if stage.rng.random() {
            stage.cluster.ready(PATIENCE).await.unwrap();
        }
        acks_go_on(&load, 20).await;
    }
    assert!(deleted > 0, "some view was deleted");
    stage.cluster.ready(PATIENCE).await.unwrap();
    stage.audit_with(load, &acks, witness).await;
}

fn delete_view(stage: &Stage, id: u32) -> bool {
    let view = stage.cluster.broker(id).data_dir().join("view");
    let exists = view.exists();
    if exists {
        std::fs::remove_dir_all(&view).unwrap();
    }
    exists
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_on_the_same_data_keeps_everything() {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load().await;
    acks_go_on(&load, 100).await;
    load.finish().await.unwrap();
    stage.audit_acks(&acks).await;
    stage.cluster.stop_all(PATIENCE).await.unwrap();
    stage.start_all().await;
    stage.audit_acks(&acks).await;
    stage.cluster.kill_all().unwrap();
    stage.start_all().await;
    stage.audit_acks(&acks).await;
}

/// A planned restart of one broker after the other: no send fails, nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn rolling_restart_loses_nothing() {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load().await;
    let witness = Witness::start(&stage.cluster.bootstrap()).await;
    for id in 1..=3 {
        acks_go_on(&load, 50).await;
        stage.cluster.broker_mut(id).stop(PATIENCE).await.unwrap();
        acks_go_on(&load, 50).await;
        stage.start_all().await;
    }
    stage.audit_with(load, &acks, witness).await;
}
