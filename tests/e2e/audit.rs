//! The audit of these tests can fail: faults planted in what a real cluster gave are found.

use tidelog::audit::{Ledger, Verdict};

use crate::stage::{Stage, acks_go_on};

#[tokio::test(flavor = "multi_thread")]
async fn audit_finds_what_is_planted_in_a_real_run() {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load().await;
    acks_go_on(&load, 50).await;
    stage.finish(load).await;
    let (ledger, orders) = stage.ledger(&acks).await;
    let check = |plant: &dyn Fn(&mut Ledger)| -> Verdict {
        let mut ledger = ledger.clone();
        plant(&mut ledger);
        ledger.check(|id| orders.expected(id))
    };
    assert!(check(&|_| ()).holds());

    let lost = check(&|ledger| {
        ledger.reads.remove(20);
    });
    assert_eq!((lost.lost, lost.gaps), (1, 1), "{lost}");
    let duplicated = check(&|ledger| {
        let mut again = ledger.reads[0];
        let same = ledger.reads.iter().filter(|read| read.partition == again.partition);
        again.offset = same.map(|read| read.offset).max().unwrap().next();
        ledger.reads.push(again);
    });
    assert_eq!(duplicated.duplicated, 1, "{duplicated}");
    let swapped = check(&|ledger| {
        let second = ledger.reads[21];
        let first = std::mem::replace(&mut ledger.reads[20], second);
        ledger.reads[20].offset = first.offset;
        ledger.reads[21] = tidelog::audit::Read { offset: second.offset, ..first };
    });
    assert_eq!(swapped.changed, 2, "{swapped}");
    let changed = check(&|ledger| ledger.reads[30].hash ^= 1);
    assert_eq!(changed.changed, 1, "{changed}");
}
