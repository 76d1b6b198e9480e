//! The checker can fail: each fault, planted alone in a good run, is found and counted.

use tidelog_types::{Offset, PartitionId};

use super::{Ack, EXAMPLES_MAX, Ledger, Read, RecordId, Verdict, fingerprint};

const PARTITIONS: u64 = 3;
const PRODUCERS: u32 = 4;

fn id(producer: u32, sequence: u64) -> RecordId {
    RecordId { producer, sequence }
}

/// What a record of these runs hashes to.
fn content(id: RecordId) -> u64 {
    fingerprint(&[&id.producer.to_le_bytes(), &id.sequence.to_le_bytes()])
}

/// A run without a fault: `records` sends of each producer, interleaved over the partitions, the
/// last send of each producer stored but not acked.
fn good_run(records: u64) -> Ledger {
    let mut ledger = Ledger { sent: vec![records; PRODUCERS as usize], ..Ledger::default() };
    let mut ends = [0; PARTITIONS as usize];
    for sequence in 0..records {
        for producer in 0..PRODUCERS {
            let id = id(producer, sequence);
            let at = (sequence + u64::from(producer)) % PARTITIONS;
            let partition = PartitionId(at as u32);
            let offset = Offset(ends[at as usize]);
            ends[at as usize] += 1;
            let hash = content(id);
            ledger.reads.push(Read { partition, offset, id: Some(id), key: at, hash });
            if sequence + 1 < records {
                let invoked_us = sequence * 10;
                let completed_us = invoked_us + 25;
                ledger.acks.push(Ack { id, partition, offset, hash, invoked_us, completed_us });
            }
        }
    }
    for partition in 0..PARTITIONS {
        let of = |r: &&Read| u64::from(r.partition.0) == partition && r.offset.0 >= 5;
        ledger.sightings.push(ledger.reads.iter().filter(of).copied().collect());
    }
    ledger
}

fn check(plant: impl FnOnce(&mut Ledger)) -> Verdict {
    let mut ledger = good_run(100);
    plant(&mut ledger);
    ledger.check(content)
}

/// A verdict with the counts of `found`, for comparing one count at a time.
fn clean() -> Verdict {
    check(|_| {})
}

fn only(found: &Verdict, expected: Verdict) {
    let examples = found.examples.clone();
    assert!(!found.holds() && !examples.is_empty(), "{found}");
    assert_eq!(*found, Verdict { examples, ..expected });
}

fn position(ledger: &Ledger, partition: u32, offset: u64) -> usize {
    let is = |r: &Read| (r.partition.0, r.offset.0) == (partition, offset);
    ledger.reads.iter().position(is).unwrap()
}

#[test]
fn good_run_holds() {
    let verdict = clean();
    assert!(verdict.holds(), "{verdict}");
    assert_eq!((verdict.sent, verdict.acked, verdict.read), (400, 396, 400));
    assert_eq!(verdict.unacked_stored, 4);
}

#[test]
fn one_loss_at_the_end_is_found() {
    let found = check(|ledger| {
        ledger.sightings.clear();
        ledger.acks.push(Ack {
            id: id(3, 99),
            partition: PartitionId(0),
            offset: Offset(133),
            hash: content(id(3, 99)),
            invoked_us: 990,
            completed_us: 999,
        });
        let end = position(ledger, 0, 133);
        assert_eq!(ledger.reads.remove(end).id, Some(id(3, 99)));
    });
    only(&found, Verdict { acked: 397, read: 399, unacked_stored: 3, lost: 1, ..clean() });
}

#[test]
fn one_loss_in_the_middle_is_a_gap_too() {
    let found = check(|ledger| {
        ledger.sightings.clear();
        let at = position(ledger, 1, 50);
        ledger.reads.remove(at);
    });
    only(&found, Verdict { read: 399, lost: 1, gaps: 1, ..clean() });
}

#[test]
fn one_duplicate_is_found() {
    let found = check(|ledger| {
        let mut again = ledger.reads[position(ledger, 2, 20)];
        again.offset = Offset(ledger.reads.iter().filter(|r| r.partition.0 == 2).count() as u64);
        ledger.reads.push(again);
    });
    // A copy appended later also stands behind records that were sent after it, and no ack names it.
    let expected = Verdict { read: 401, duplicated: 1, out_of_order: 1, ..clean() };
    only(&found, Verdict { unacked_stored: 5, ..expected });
}

#[test]
fn one_duplicate_of_an_unacked_record_is_found() {
    let found = check(|ledger| {
        let unacked = |r: &&Read| r.id == Some(id(3, 99));
        let mut again = *ledger.reads.iter().find(unacked).unwrap();
        again.offset =
            Offset(ledger.reads.iter().filter(|r| r.partition == again.partition).count() as u64);
        ledger.reads.push(again);
    });
    only(&found, Verdict { read: 401, unacked_stored: 5, duplicated: 1, ..clean() });
}

#[test]
fn one_swap_is_found() {
    let found = check(|ledger| {
        let (first, second) = (position(ledger, 0, 60), position(ledger, 0, 64));
        let producer = |at: usize| ledger.reads[at].id.unwrap().producer;
        assert_eq!(producer(first), producer(second));
        for read in &mut ledger.reads {
            let offset = match (read.partition.0, read.offset.0) {
                (0, 60) => 64,
                (0, 64) => 60,
                _ => continue,
            };
            read.offset = Offset(offset);
        }
        ledger.reads.swap(first, second);
        ledger.sightings.clear();
        // The acks agree with the swapped log, so that only the order can give it away.
        for ack in &mut ledger.acks {
            match (ack.partition.0, ack.offset.0) {
                (0, 60) => ack.offset = Offset(64),
                (0, 64) => ack.offset = Offset(60),
                _ => {}
            }
            (ack.invoked_us, ack.completed_us) = (0, u64::MAX);
        }
    });
    only(&found, Verdict { out_of_order: 1, ..clean() });
}

#[test]
fn one_swap_after_the_acks_is_a_change() {
    let found = check(|ledger| {
        ledger.sightings.clear();
        let (a, b) = (position(ledger, 0, 60), position(ledger, 0, 61));
        let (first, second) = (ledger.reads[a], ledger.reads[b]);
        ledger.reads[a] = Read { offset: first.offset, ..second };
        ledger.reads[b] = Read { offset: second.offset, ..first };
    });
    only(&found, Verdict { changed: 2, ..clean() });
}

#[test]
fn one_changed_byte_is_found() {
    let found = check(|ledger| {
        ledger.sightings.clear();
        let at = position(ledger, 1, 7);
        ledger.reads[at].hash = fingerprint(&[b"other"]);
    });
    only(&found, Verdict { changed: 1, ..clean() });
}

#[test]
fn one_changed_byte_without_an_ack_is_found() {
    let found = check(|ledger| {
        ledger.sightings.clear();
        let unacked = |r: &&mut Read| r.id == Some(id(3, 99));
        ledger.reads.iter_mut().find(unacked).unwrap().hash ^= 1;
    });
    only(&found, Verdict { changed: 1, ..clean() });
}

#[test]
fn fingerprint_sees_every_byte_and_its_part() {
    let base = fingerprint(&[b"user7", b"order"]);
    for other in [[&b"user7"[..], b"orders"], [b"user7o", b"rder"], [b"user8", b"order"]] {
        assert_ne!(fingerprint(&other), base);
    }
}

#[test]
fn one_gap_in_the_offsets_is_found() {
    let found = check(|ledger| {
        ledger.sightings.clear();
        for read in ledger.reads.iter_mut().filter(|r| r.partition.0 == 1 && r.offset.0 >= 90) {
            read.offset = read.offset.next();
        }
        for ack in ledger.acks.iter_mut().filter(|a| a.partition.0 == 1 && a.offset.0 >= 90) {
            ack.offset = ack.offset.next();
        }
    });
    only(&found, Verdict { gaps: 1, ..clean() });
}

#[test]
fn read_that_goes_back_is_found() {
    let found = check(|ledger| {
        let at = position(ledger, 1, 30);
        let again = ledger.reads[position(ledger, 1, 29)];
        ledger.reads.insert(at + 1, again);
    });
    assert_eq!((found.gaps, found.duplicated), (2, 1), "{found}");
}

#[test]
fn one_foreign_record_is_found() {
    let found = check(|ledger| {
        let at = ledger.reads.iter().filter(|r| r.partition.0 == 0).count() as u64;
        let (partition, offset) = (PartitionId(0), Offset(at));
        ledger.reads.push(Read { partition, offset, id: None, key: 0, hash: 0 });
    });
    only(&found, Verdict { read: 401, invented: 1, ..clean() });
}

#[test]
fn one_record_beyond_what_was_sent_is_found() {
    let found = check(|ledger| ledger.sent[3] = 99);
    only(&found, Verdict { sent: 399, unacked_stored: 3, invented: 1, ..clean() });
}

#[test]
fn sends_that_ended_before_others_began_must_come_first() {
    let found = check(|ledger| {
        let at = |a: &&mut Ack| (a.partition.0, a.offset.0) == (1, 80);
        let ack = ledger.acks.iter_mut().find(at).unwrap();
        (ack.invoked_us, ack.completed_us) = (0, 1);
    });
    only(&found, Verdict { out_of_order: 1, ..clean() });
}

#[test]
fn key_that_changes_its_partition_is_found() {
    let found = check(|ledger| {
        let at = position(ledger, 1, 40);
        ledger.reads[at].key = 0;
    });
    only(&found, Verdict { out_of_order: 1, ..clean() });
}

#[test]
fn record_shown_and_taken_back_is_found() {
    let found = check(|ledger| {
        let next = ledger.sightings[0].last().unwrap().offset.next();
        ledger.sightings[0].push(Read {
            partition: PartitionId(0),
            offset: next,
            id: Some(id(0, 99)),
            key: 0,
            hash: content(id(0, 99)),
        });
    });
    only(&found, Verdict { retracted: 1, ..clean() });
}

#[test]
fn hole_in_what_a_reader_saw_is_found() {
    let found = check(|ledger| {
        ledger.sightings[2].remove(17);
    });
    only(&found, Verdict { gaps: 1, ..clean() });
}

#[test]
fn every_single_loss_is_found() {
    let records = good_run(20).reads.len();
    for victim in 0..records {
        let mut ledger = good_run(20);
        ledger.reads.remove(victim);
        let found = ledger.check(content);
        assert!(!found.holds(), "record {victim}: {found}");
    }
}

#[test]
fn examples_are_bounded() {
    let found = check(|ledger| ledger.reads.clear());
    assert_eq!((found.lost, found.examples.len()), (396, EXAMPLES_MAX));
}
