//! Random faults: whatever happens, what is acknowledged is there, once and in order.

use std::collections::HashSet;
use std::time::Duration;

use tidelog_client::{ErrorCode, PartitionId, Record};
use tidelog_proto::v1::Error;
use tokio::time::timeout;

use crate::fake::{Cluster, Fault, PATIENCE};

/// A small generator, so that a seed means the same for ever.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn fault(&mut self) -> Fault {
        match self.below(12) {
            0 => Fault::LoseAnswer,
            1 => Fault::LoseRequest,
            2 => Fault::AnswerUnknown,
            3 => Fault::Move { to: self.below(3) as u32 + 1, hint: self.below(2) == 0 },
            4 => Fault::Refuse(Error::new(ErrorCode::ResourceExhausted, "full")),
            5 => Fault::Refuse(Error::new(ErrorCode::InvalidRecord, "bad")),
            _ => Fault::Pass,
        }
    }
}

async fn run(seed: u64) {
    let mut random = Random(seed);
    let cluster = Cluster::start(3);
    cluster.world.create("t", 2);
    for partition in 0..2 {
        let faults = (0..100).map(|_| random.fault()).collect::<Vec<_>>();
        cluster.world.plant("t", partition, faults);
    }
    let client = cluster.client().connect().await.unwrap();
    let producer = client.producer().linger(Duration::ZERO).batch_bytes(150).build().await.unwrap();
    let mut deliveries = Vec::new();
    for n in 0..1_000_u32 {
        let partition = PartitionId(n % 2);
        let record = Record::to("t").value(n.to_string()).partition(partition);
        deliveries.push((n, producer.enqueue(record).await.unwrap()));
    }
    let mut acked = HashSet::new();
    let mut refused = HashSet::new();
    for (n, delivery) in deliveries {
        match timeout(PATIENCE * 3, delivery).await.unwrap() {
            Ok(written) => assert!(acked.insert((n, written.offset.0)), "seed {seed}"),
            Err(error) if error.maybe_written() => {}
            Err(_) => assert!(refused.insert(n), "seed {seed}"),
        }
    }
    for partition in 0..2 {
        let values = cluster.world.values("t", partition);
        let values = values.iter().map(|value| value.parse::<u32>().unwrap()).collect::<Vec<_>>();
        assert!(
            values.is_sorted_by(|a, b| a < b),
            "seed {seed}: twice, or out of order: {values:?}"
        );
        for (offset, n) in values.iter().enumerate() {
            assert!(!refused.contains(n), "seed {seed}: {n} is there though it was refused");
            acked.remove(&(*n, offset as u64));
        }
    }
    assert!(acked.is_empty(), "seed {seed}: acknowledged and not there: {acked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_there_once_and_in_order() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..4).map(|_| u64::from(rand_seed())).collect(),
    };
    for seed in seeds {
        eprintln!("SEED={seed}");
        run(seed).await;
    }
}

/// A seed from the hasher that the standard library seeds at random.
fn rand_seed() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as u32
}
