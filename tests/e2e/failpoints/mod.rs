//! Brokers that end themselves in the middle of what they do: before, within and after every write,
//! fsync, rename, removal, ack, apply, vote and snapshot step; one alone, or with all others at the
//! same moment. Between deaths some steps fail with `EIO`, some disks are slow, and bits of one broker
//! flip. All under load; after each storm the audit.
//!
//! `TIDELOG_E2E_ROUNDS=2400` makes so many deaths at failpoints instead of the default.

mod storm;
mod tally;
mod traffic;

use crate::stage::{Stage, TOPIC, leader, rounds};
use storm::Storm;
use tally::Tally;
use tidelog_client::admin::NewTopic;
use traffic::Traffic;

use crate::stage::PARTITIONS;
use crate::witness::Witness;

/// Deaths that one cluster goes through before its audit, and before the next is formed.
const DEATHS_OF_CLUSTER: u32 = 120;

/// Small, so that segments, their indexes and their start points come and go.
const SEGMENT_BYTES: &str = "65536";

/// Records in flight of one producer, and its pause after each: many small steps rather than few large.
const PACE: (usize, std::time::Duration) = (100, std::time::Duration::from_millis(1));

/// Each site ends so many brokers before the long run counts as one that went everywhere.
const KILLS_OF_SITE: u32 = 20;

/// From so many deaths on, every site must have had its turn.
const LONG: u32 = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_die_at_any_step_lose_nothing() {
    let deaths = rounds(60);
    let mut tally = Tally::new(deaths);
    let last = if deaths >= LONG { u32::MAX } else { deaths };
    while !tally.is_full() && tally.kills() < last {
        let goal = last.min(tally.kills() + DEATHS_OF_CLUSTER);
        one_cluster(&mut tally, goal).await;
        println!("{tally}");
    }
    println!("{}", tally.figures());
    if deaths >= LONG {
        assert_eq!(tally.rarer_than(KILLS_OF_SITE), Vec::<String>::new(), "{tally}");
    }
}

/// Forms a cluster, ends its brokers until there were `deaths` in all or every site had its share, and
/// audits it.
async fn one_cluster(tally: &mut Tally, deaths: u32) {
    let clean = toml::toml! {
        [storage]
        clean_every = "300ms"
    };
    let mut stage = Stage::with(3, |setup| setup.settings = clean).await;
    Storm::of_formation(&mut stage, tally).await;
    let client = stage.client().await;
    let topic = NewTopic::new(TOPIC.parse().unwrap()).partitions(PARTITIONS);
    let topic = topic.config("segment.bytes", SEGMENT_BYTES);
    for (_, created) in client.admin().create_topics([topic]).await.unwrap() {
        created.unwrap();
    }
    for partition in 0..PARTITIONS {
        leader(&client, partition).await;
    }
    let (load, acks) = stage.load_at(PACE).await;
    let witness = Witness::start(&stage.cluster.bootstrap()).await;
    let rotting = stage.cluster.broker(storm::ROTTING).ports().client_address();
    let traffic = Traffic::start(client, rotting).await;

    let mut storm = Storm::new(&mut stage, tally);
    while storm.kills() < deaths && storm.is_due() {
        storm.rage().await;
        storm.calm(&load).await;
    }
    traffic.finish().await;
    stage.audit_with(load, &acks, witness).await;
}
