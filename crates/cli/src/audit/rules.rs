//! The rules of an audit, one function each, all linear or sort-and-scan.

use std::collections::HashMap;

use tidelog_types::{Offset, PartitionId};

use super::{Ack, Fault, Read, RecordId, Verdict};

/// Where a record of the run was read.
pub(super) type Place = (RecordId, PartitionId, Offset);

/// Every recognised record's place, sorted by record.
pub(super) fn places(reads: &[Read]) -> Vec<Place> {
    let mut places: Vec<Place> =
        reads.iter().filter_map(|r| r.id.map(|id| (id, r.partition, r.offset))).collect();
    places.sort_unstable();
    places
}

/// P3, P6: the complete read of each partition starts at 0 and meets every offset once, in order.
pub(super) fn density(reads: &[Read], verdict: &mut Verdict) {
    let mut next: HashMap<PartitionId, Offset> = HashMap::new();
    for read in reads {
        let next = next.entry(read.partition).or_default();
        follow(next, read, verdict);
    }
}

/// P6: one reader of one partition may start anywhere, and from there meets every offset once.
pub(super) fn continuity(seen: &[Read], verdict: &mut Verdict) {
    let Some(first) = seen.first() else { return };
    let mut next = first.offset;
    for read in seen {
        follow(&mut next, read, verdict);
    }
}

fn follow(next: &mut Offset, read: &Read, verdict: &mut Verdict) {
    let (expected, found) = (*next, read.offset);
    if found != expected {
        // A hole counts each missing offset, a step back counts once.
        let missing = found.0.saturating_sub(expected.0).max(1);
        verdict.blame(Fault::Gap, missing, || {
            format!("partition {}: read offset {found}, expected {expected}", read.partition)
        });
    }
    *next = found.next();
}

/// P7: no record is stored twice.
pub(super) fn uniqueness(places: &[Place], verdict: &mut Verdict) {
    for pair in places.windows(2) {
        let ((first, p1, o1), (second, p2, o2)) = (pair[0], pair[1]);
        if first == second {
            verdict.blame(Fault::Duplicated, 1, || {
                format!("{} is stored at {p1}@{o1} and at {p2}@{o2}", name(first))
            });
        }
    }
}

/// P1, P2: every acked record is where its ack says, as it was sent.
pub(super) fn durability(acks: &[Ack], reads: &[Read], places: &[Place], verdict: &mut Verdict) {
    for ack in acks {
        let at = || format!("{} acked at {}@{}", name(ack.id), ack.partition, ack.offset);
        match at_offset(reads, ack.partition, ack.offset) {
            Some(read) if read.id == Some(ack.id) && read.hash == ack.hash => {}
            Some(read) if read.id == Some(ack.id) => {
                verdict.blame(Fault::Changed, 1, || format!("{} has other bytes now", at()));
            }
            _ => match place_of(places, ack.id) {
                Some((partition, offset)) => verdict.blame(Fault::Changed, 1, || {
                    format!("{} is at {partition}@{offset} now", at())
                }),
                None => verdict.blame(Fault::Lost, 1, || format!("{} is gone", at())),
            },
        }
    }
}

/// Nothing is read or acked that nobody sent, and what nobody acked is still as it was sent.
pub(super) fn origin(
    sent: &[u64],
    acks: &[Ack],
    reads: &[Read],
    expected: &impl Fn(RecordId) -> u64,
    verdict: &mut Verdict,
) {
    let was_sent =
        |id: RecordId| sent.get(id.producer as usize).is_some_and(|count| id.sequence < *count);
    for ack in acks.iter().filter(|ack| !was_sent(ack.id)) {
        verdict.blame(Fault::Invented, 1, || format!("{} was acked, never sent", name(ack.id)));
    }
    for read in reads {
        let (partition, offset) = (read.partition, read.offset);
        let Some(id) = read.id.filter(|id| was_sent(*id)) else {
            verdict.blame(Fault::Invented, 1, || {
                format!("{partition}@{offset} holds a record that nobody sent")
            });
            continue;
        };
        // An acked record was compared with its ack already.
        if ack_at(acks, partition, offset).is_some() {
            continue;
        }
        verdict.unacked_stored += 1;
        if read.hash != expected(id) {
            verdict.blame(Fault::Changed, 1, || {
                format!("{} at {partition}@{offset} has other bytes than were sent", name(id))
            });
        }
    }
}

/// P4: the records of one producer stand in each partition in the order of sending, and a key stays
/// in its partition.
pub(super) fn producer_order(reads: &[Read], verdict: &mut Verdict) {
    let mut newest: HashMap<(u32, PartitionId), u64> = HashMap::new();
    let mut homes: HashMap<u64, PartitionId> = HashMap::new();
    for read in reads {
        let Some(id) = read.id else { continue };
        let newest = newest.entry((id.producer, read.partition)).or_default();
        if id.sequence < *newest {
            let (newest, partition, offset) = (*newest, read.partition, read.offset);
            verdict.blame(Fault::OutOfOrder, 1, || {
                format!("{} at {partition}@{offset} stands behind sequence {newest}", name(id))
            });
        }
        *newest = id.sequence.max(*newest);
        let home = *homes.entry(read.key).or_insert(read.partition);
        if home != read.partition {
            verdict.blame(Fault::OutOfOrder, 1, || {
                format!("{} is in partition {}, its key in {home}", name(id), read.partition)
            });
        }
    }
}

/// P3: of two sends to a partition, the one completed before the other was invoked comes first.
///
/// `acks` is sorted by partition and offset. A later offset must not have completed before the
/// latest invocation among the earlier ones, so one maximum per partition is enough.
pub(super) fn time_order(acks: &[Ack], verdict: &mut Verdict) {
    let mut latest: Option<Ack> = None;
    for ack in acks {
        let before = latest.filter(|before| before.partition == ack.partition);
        if let Some(before) = before
            && ack.completed_us < before.invoked_us
        {
            verdict.blame(Fault::OutOfOrder, 1, || {
                format!(
                    "{} was acked before {} was sent, and has offset {} behind {} in partition {}",
                    name(ack.id),
                    name(before.id),
                    ack.offset,
                    before.offset,
                    ack.partition,
                )
            });
        }
        if before.is_none_or(|before| ack.invoked_us > before.invoked_us) {
            latest = Some(*ack);
        }
    }
}

/// P2, P5: what a reader saw during the run is what the complete read found.
pub(super) fn permanence(seen: &[Read], reads: &[Read], verdict: &mut Verdict) {
    for sighting in seen {
        let (partition, offset) = (sighting.partition, sighting.offset);
        let now = at_offset(reads, partition, offset);
        if now.is_none_or(|now| (now.id, now.hash) != (sighting.id, sighting.hash)) {
            verdict.blame(Fault::Retracted, 1, || {
                let was = sighting.id.map_or_else(|| "a foreign record".to_owned(), name);
                let is = match now.map(|now| now.id) {
                    None => "nothing".to_owned(),
                    Some(None) => "a foreign record".to_owned(),
                    Some(Some(id)) => name(id),
                };
                format!("a reader saw {was} at {partition}@{offset}, where now is {is}")
            });
        }
    }
}

fn at_offset(reads: &[Read], partition: PartitionId, offset: Offset) -> Option<&Read> {
    let found = reads.binary_search_by_key(&(partition, offset), |r| (r.partition, r.offset));
    found.ok().map(|at| &reads[at])
}

fn ack_at(acks: &[Ack], partition: PartitionId, offset: Offset) -> Option<&Ack> {
    let found = acks.binary_search_by_key(&(partition, offset), |a| (a.partition, a.offset));
    found.ok().map(|at| &acks[at])
}

fn place_of(places: &[Place], id: RecordId) -> Option<(PartitionId, Offset)> {
    let found = places.binary_search_by_key(&id, |place| place.0);
    found.ok().map(|at| (places[at].1, places[at].2))
}

fn name(id: RecordId) -> String {
    format!("record {} of producer {}", id.sequence, id.producer)
}
