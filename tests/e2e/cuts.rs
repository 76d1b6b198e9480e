//! Brokers that cannot reach each other, or clients: symmetric, one-way, the leader alone, clients alone.
//! Needs network namespaces, which take root; elsewhere it says so and tests nothing.

use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;
use tokio::time::sleep;

use crate::network::{CLIENTS, Network};
use crate::stage::{PARTITIONS, PATIENCE, Stage, acks_go_on, leader, rounds};
use crate::witness::Witness;

const BROKERS: u32 = 3;

/// How long a cut goes on after what must go on has gone on.
const CUT_MAX: Duration = Duration::from_secs(2);

const PACE: (usize, Duration) = (500, Duration::from_millis(1));

/// What is lost.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Everything between the leader and all other brokers; clients still reach it.
    Leader,
    /// What the leader sends to other brokers.
    LeaderIsMute,
    /// What other brokers send to the leader.
    LeaderIsDeaf,
    /// Everything between the leader and one follower.
    Follower,
    /// Everything from and to the leader, clients included.
    Machine,
    /// Everything between clients and the leader. It leads on, so its partitions wait.
    Clients,
}

const CUTS: [Cut; 6] =
    [Cut::Leader, Cut::LeaderIsMute, Cut::LeaderIsDeaf, Cut::Follower, Cut::Machine, Cut::Clients];

impl Cut {
    fn make(self, network: &Network, leader: u32, follower: u32) {
        let brokers = (1..=BROKERS).filter(|host| *host != leader);
        match self {
            Self::Leader => brokers.for_each(|other| both_ways(network, leader, other)),
            Self::LeaderIsMute => brokers.for_each(|other| network.cut(leader, other)),
            Self::LeaderIsDeaf => brokers.for_each(|other| network.cut(other, leader)),
            Self::Follower => both_ways(network, leader, follower),
            Self::Machine => network
                .hosts()
                .filter(|host| *host != leader)
                .for_each(|other| both_ways(network, leader, other)),
            Self::Clients => both_ways(network, leader, CLIENTS),
        }
    }
}

fn both_ways(network: &Network, one: u32, other: u32) {
    network.cut(one, other);
    network.cut(other, one);
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_cannot_reach_each_other_lose_nothing() {
    let network = match Network::new(BROKERS) {
        Ok(network) => network,
        Err(why) => {
            println!("skipped: no network namespaces here: {why}");
            return;
        }
    };
    let mut stage = Stage::with(BROKERS, |setup| {
        for (id, ports) in (1..).zip(&mut setup.ports) {
            ports.host = network.address(id);
            setup.launchers.push(network.launcher(id));
        }
    })
    .await;
    stage.start_all().await;
    stage.create_topic().await;
    let (load, acks) = stage.load_at(PACE).await;
    let witness = Witness::start(&stage.cluster.bootstrap()).await;
    let client = stage.client().await;
    acks_go_on(&load, 100).await;

    for round in 0..rounds(CUTS.len() as u32) {
        let cut = CUTS[round as usize % CUTS.len()];
        let partition = round % PARTITIONS;
        let victim = leader(&client, partition).await;
        let others: Vec<u32> = (1..=BROKERS).filter(|id| *id != victim).collect();
        let follower = *others.choose(&mut stage.rng).unwrap();
        load.tide().watch(partition);
        cut.make(&network, victim, follower);
        if !matches!(cut, Cut::Clients) {
            acks_go_on(&load, 100).await;
        }
        let pause = load.tide().longest_pause(partition);
        sleep(stage.rng.random_range(Duration::ZERO..CUT_MAX)).await;
        network.heal();
        acks_go_on(&load, 100).await;
        println!("{cut:?} of broker {victim}: no ack of its partition for {pause:?} at most");
    }
    stage.cluster.ready(PATIENCE).await.unwrap();
    stage.audit_with(load, &acks, witness).await;
    stage.cluster.kill_all().unwrap();
}
