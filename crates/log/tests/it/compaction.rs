//! Of each key the newest record stays, whatever is in between; and nothing else changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidelog_log::disk::Disk;
use tidelog_log::sim::SimDisk;
use tidelog_log::{
    CompactLimits, CompactStep, Compacted, Compaction, Kind, Log, NewEntry, Scrub, Scrubbed,
};
use tidelog_types::batch::{self, BatchView, Builder, Codec, NewRecord};
use tidelog_types::{LogIndex, Offset, Timestamp};

use crate::repair::sent;
use crate::support::*;

/// A record by its offset: its key and, unless it is a tombstone, its value.
type Model = BTreeMap<u64, (Option<String>, Option<String>)>;

/// A batch of these records, which may be compressed.
fn keyed(records: &[(Option<String>, Option<String>)], codec: Codec) -> Bytes {
    let mut builder = Builder::new();
    for (key, value) in records {
        let key = key.as_ref().map(String::as_bytes);
        let value = value.as_ref().map(String::as_bytes);
        let record = NewRecord { key, value, headers: &[], timestamp: Timestamp(1_000) };
        builder.push(&record).unwrap();
    }
    builder.finish(codec, None).unwrap()
}

/// Appends one entry of random batches, or something that holds no records.
fn append(log: &Log, dice: &mut Dice, model: &mut Model) {
    let frontier = log.frontier();
    let index = frontier.next_index().0;
    let term = frontier.last.map_or(1, |last| last.term.0) + u64::from(dice.roll(20) == 0);
    let is_same_term = frontier.last.is_some_and(|last| last.term.0 == term);
    let ordinal = if is_same_term { frontier.ordinal_next } else { 0 };
    let mut next = frontier.next_offset.0;
    let entry = match dice.roll(12) {
        0 => blank(term, index),
        1 => command(term, index, b"a command"),
        kind => {
            let is_void = kind == 2;
            let mut batches = Vec::new();
            for _ in 0..=dice.roll(3) {
                let codec = [Codec::None, Codec::Lz4, Codec::Zstd][dice.roll(3) as usize];
                let records: Vec<_> = (0..=dice.roll(8))
                    .map(|_| {
                        let key = (dice.roll(30) > 0).then(|| format!("key {}", dice.roll(25)));
                        let filler = "x".repeat(dice.roll(60) as usize);
                        let value = (dice.roll(5) > 0).then(|| format!("{next} {filler}"));
                        if !is_void {
                            model.insert(next, (key.clone(), value.clone()));
                            next += 1;
                        }
                        (key, value)
                    })
                    .collect();
                batches.push(keyed(&records, codec));
            }
            records(term, index, if is_void { ordinal + 7 } else { ordinal }, &batches)
        }
    };
    log.append(vec![entry], sure()).unwrap();
}

/// All records that a reader meets from `from` on, and that it gets to the end.
fn read_from(log: &Log, from: u64) -> Model {
    let (mut place, end) = (Offset(from), log.written_end());
    let mut seen = Model::new();
    while place < end {
        let read = log.read(place, end, 300).unwrap();
        assert!(read.next > place, "reading stands still at {place}");
        for bytes in &read.batches {
            batch::verify_crc(bytes).unwrap();
            for record in batch::records(bytes, 1 << 20).unwrap() {
                let record = record.unwrap();
                let text = |bytes: Option<Bytes>| {
                    bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
                };
                if record.offset.0 >= from {
                    let known = (text(record.key), text(record.value));
                    assert_eq!(seen.insert(record.offset.0, known), None, "twice");
                }
            }
        }
        place = read.next;
    }
    seen
}

/// What compaction to `goal` leaves.
fn expected(model: &Model, goal: Compacted) -> Model {
    let (to, tombstones_to) = (goal.to.0, goal.tombstones_to.0);
    let mut newest = BTreeMap::new();
    for (offset, (key, _)) in model.range(..to) {
        newest.insert(key.clone(), *offset);
    }
    let stays = |offset: u64, key: &Option<String>, is_tombstone: bool| {
        let is_newest = key.is_none() || newest.get(key) == Some(&offset);
        let is_over = key.is_some() && is_tombstone && offset < tombstones_to;
        offset >= to || (is_newest && !is_over)
    };
    let kept = model
        .iter()
        .filter(|(offset, (key, value))| stays(**offset, key, value.is_none()))
        .map(|(offset, record)| (*offset, record.clone()));
    kept.collect()
}

/// Two readings are the same; prints no more than where they differ first.
fn same(read: &Model, expected: &Model, what: &str) {
    let first = read.iter().zip(expected).find(|(read, expected)| read != expected);
    assert_eq!(first, None, "{what}");
    assert_eq!(read.len(), expected.len(), "{what}");
}

fn scrubbed(log: &Arc<Log>) {
    let mut pass = Scrub::new(Arc::clone(log));
    loop {
        match pass.step(2_000).unwrap() {
            Scrubbed::Clean(_) => {}
            Scrubbed::Damaged(damage) => panic!("{damage:?}"),
            Scrubbed::Over => return,
        }
    }
}

/// A random goal among what is committed; most often all closed segments, which is what leaders ask for.
fn goal(log: &Log, dice: &mut Dice) -> Compacted {
    let segments = log.segments();
    let at = if dice.roll(3) == 0 {
        dice.roll(segments.len() as u64) as usize
    } else {
        segments.len() - 1
    };
    let to = segments[at].base_offset.max(log.compacted().to);
    let before = log.compacted().tombstones_to;
    let tombstones_to = if dice.roll(2) == 0 { Offset(dice.roll(to.0 + 1)) } else { before };
    Compacted { to, tombstones_to: tombstones_to.max(before) }
}

#[test]
fn random_logs_keep_the_newest_record_of_each_key() {
    let mut removed = 0;
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let disk = SimDisk::new();
        let mut node = Node::start(&disk).segment_bytes(1500).cache_bytes(dice.roll(2) << 20);
        let mut log = node.create();
        let mut model = Model::new();
        for _ in 0..1 + dice.roll(4) {
            for _ in 0..dice.roll(60) {
                append(&log, &mut dice, &mut model);
            }
            let goal = goal(&log, &mut dice);
            let before = log.frontier();
            removed += compact(&log, goal).removed;
            assert_eq!(log.frontier(), before, "seed {seed}: the log is the same to Raft");
            assert_eq!(log.compacted(), goal, "seed {seed}");
            let expected = expected(&model, goal);
            same(&read_from(&log, 0), &expected, &format!("seed {seed}"));
            let from = dice.roll(log.written_end().0 + 1);
            let rest = expected.clone().split_off(&from);
            same(&read_from(&log, from), &rest, &format!("seed {seed} from {from}"));
            scrubbed(&log);
            assert_eq!(compact(&log, goal).removed, 0, "seed {seed}: nothing is left to take out");

            // What was taken out stays out, and the log is whole, after a restart.
            drop(log);
            node = Node::start(&disk).segment_bytes(1500);
            log = node.open().log;
            assert_eq!(log.compacted(), goal, "seed {seed}");
            same(&read_from(&log, 0), &expected, &format!("seed {seed}"));
        }
    }
    assert!(removed > 5_000, "{removed} records were taken out");
}

#[test]
fn a_replica_that_is_fed_compacted_entries_has_the_same_log() {
    for seed in 0..20 {
        let mut dice = Dice(1_000 + seed);
        let disk = SimDisk::new();
        let log = Node::start(&disk).create();
        let mut model = Model::new();
        for _ in 0..80 {
            append(&log, &mut dice, &mut model);
        }
        let goal = goal(&log, &mut dice);
        compact(&log, goal);
        let follower_disk = SimDisk::new();
        let follower_node = Node::start(&follower_disk).segment_bytes(1000 + dice.roll(4000));
        let follower = follower_node.create();
        let all = sent(&log, LogIndex::ZERO..log.frontier().next_index());
        assert!(all.iter().any(|entry| entry.original.is_some()), "seed {seed}");
        for entry in all {
            follower.append(vec![entry], sure()).unwrap();
        }
        assert_eq!(follower.frontier(), log.frontier(), "seed {seed}");
        same(&read_from(&follower, 0), &expected(&model, goal), &format!("seed {seed}"));
        scrubbed(&follower);
        drop(follower);
        let follower = Node::start(&follower_disk).open().log;
        assert_eq!(follower.frontier(), log.frontier(), "seed {seed}");
        same(&read_from(&follower, 0), &expected(&model, goal), &format!("seed {seed}"));
    }
}

/// What a follower would make of an entry whose body is not what it says.
#[test]
fn a_compacted_entry_of_another_history_is_refused() {
    let disk = SimDisk::new();
    let log = Node::start(&disk).create();
    let mut dice = Dice(5);
    for _ in 0..60 {
        append(&log, &mut dice, &mut Model::new());
    }
    let to = log.segments().last().unwrap().base_offset;
    compact(&log, Compacted { to, tombstones_to: Offset::ZERO });
    let entries = sent(&log, LogIndex::ZERO..log.frontier().next_index());
    let at = entries.iter().position(|entry| entry.original.is_some()).unwrap();
    let follower = Node::start(&SimDisk::new()).create();
    follower.append(entries[..at].to_vec(), sure()).unwrap();
    let whole = &entries[at];
    let original = whole.original.clone().unwrap();
    let mut other = original.clone();
    other[0].crc ^= 1;
    let longer = original.iter().copied().chain([original[0]]).collect();
    for original in [None, Some(other), Some(longer)] {
        let entry = NewEntry { original, ..whole.clone() };
        assert!(follower.append(vec![entry], any()).is_err());
    }
    let kind = Kind::Command;
    assert!(follower.append(vec![NewEntry { kind, ..whole.clone() }], any()).is_err());
    follower.append(vec![whole.clone()], sure()).unwrap();
}

#[test]
fn a_pass_whose_keys_do_not_fit_goes_on_with_the_next() {
    let disk = SimDisk::new();
    let log = Node::start(&disk).segment_bytes(1500).create();
    let (mut dice, mut model) = (Dice(3), Model::new());
    for _ in 0..150 {
        append(&log, &mut dice, &mut model);
    }
    let goal = Compacted {
        to: log.segments().last().unwrap().base_offset,
        tombstones_to: Offset(log.segments().last().unwrap().base_offset.0 / 2),
    };
    let limits = CompactLimits { keys_bytes_max: 600, inflate_bytes_max: 1 << 20 };
    let mut passes = 0;
    while log.compacted() != goal {
        let before = log.compacted();
        let mut pass = Compaction::new(Arc::clone(&log), goal, limits);
        while !matches!(pass.step(1_000).unwrap(), CompactStep::Over(_)) {}
        assert!(log.compacted().to > before.to, "each pass gets on");
        passes += 1;
    }
    assert!(passes > 3, "{passes} passes");
    same(&read_from(&log, 0), &expected(&model, goal), "");
}

#[test]
fn what_a_less_compacted_replica_mends_is_compacted_again() {
    let (mut dice, mut model) = (Dice(9), Model::new());
    let twin_disk = SimDisk::new();
    let twin = Node::start(&twin_disk).create();
    for _ in 0..80 {
        append(&twin, &mut dice, &mut model);
    }
    let disk = SimDisk::new();
    let log = Node::start(&disk).create();
    for entry in sent(&twin, LogIndex::ZERO..twin.frontier().next_index()) {
        log.append(vec![entry], sure()).unwrap();
    }
    let to = log.segments().last().unwrap().base_offset;
    let goal = Compacted { to, tombstones_to: Offset::ZERO };
    compact(&log, goal);
    let segment = log.segments().remove(1);
    disk.flip(&path(segment.first_index.0, "log"), (segment.bytes / 2) * 8).unwrap();
    let mut mending = log.mend(segment.first_index).unwrap();
    mending.push(&sent(&twin, mending.wanted())).unwrap();
    mending.finish().unwrap();
    scrubbed(&log);
    assert!(log.compacted().to <= segment.base_offset, "it says that it is less compacted");
    compact(&log, goal);
    same(&read_from(&log, 0), &expected(&model, goal), "");
}

#[test]
fn a_batch_that_lost_all_records_is_a_header_that_leads_behind_it() {
    let disk = SimDisk::new();
    let log = Node::start(&disk).segment_bytes(400).create();
    fill(&log, 1, 20);
    let to = log.segments().last().unwrap().base_offset;
    let before = log.bytes();
    let report = compact(&log, Compacted { to, tombstones_to: Offset::ZERO });
    assert_eq!(report.freed, before - log.bytes());
    let read = log.read(Offset::ZERO, log.written_end(), 1).unwrap();
    let batch = BatchView::new(&read.batches[0]).unwrap();
    assert_eq!((batch.records_held(), batch.as_bytes().len()), (0, batch::HEADER_BYTES));
    assert_eq!((batch.base_offset(), batch.next_offset()), (Offset(0), Offset(2)));
    assert_eq!(read.next, Offset(2));
    // All have one key, so one is left; and times are looked up among what is left.
    let found = log.offset_at(Timestamp(0), log.written_end()).unwrap();
    assert_eq!(found.map(|(offset, _)| offset), Some(Offset(to.0 - 1)));
}

#[test]
fn the_last_segment_is_closed_once_its_first_entry_is_old() {
    let disk = SimDisk::new();
    let log = Node::start(&disk).create();
    fill(&log, 1, 2);
    let age = Duration::from_secs(60);
    let first = log.segments().remove(0);
    log.roll_after(age, Timestamp(first.append_time.0 + 30_000)).unwrap();
    fill(&log, 1, 1);
    assert_eq!(log.segments().len(), 1, "it is young");
    log.roll_after(age, Timestamp(first.append_time.0 + 60_000)).unwrap();
    fill(&log, 1, 2);
    assert_eq!(log.segments().len(), 2, "one entry begins the next, and only one");
    assert_eq!(log.segments()[0].end_offset, Offset(6));
}

#[test]
fn segments_of_one_entry_are_compacted_too() {
    let disk = SimDisk::new();
    let log = Node::start(&disk).create();
    for _ in 0..9 {
        fill(&log, 1, 1);
        log.roll_below(Offset(u64::MAX));
    }
    assert_eq!(log.segments().len(), 9);
    let to = log.segments().last().unwrap().base_offset;
    let report = compact(&log, Compacted { to, tombstones_to: Offset::ZERO });
    assert_eq!(report.removed, 15);
    assert_eq!(log.compacted().to, to);
    let left = read_all(&log)
        .iter()
        .map(|batch| BatchView::new(batch).unwrap().records_held())
        .sum::<u32>();
    assert_eq!(left, 3);
}

/// A log of one key in several segments, with a pass over it that is about to write its first segment
/// anew.
fn about_to_write(disk: &SimDisk) -> (Node, Arc<Log>, Compaction) {
    let node = Node::start(disk).segment_bytes(900);
    let log = node.create();
    fill(&log, 1, 20);
    let to = log.segments().last().unwrap().base_offset;
    let goal = Compacted { to, tombstones_to: Offset::ZERO };
    let mut pass = Compaction::new(Arc::clone(&log), goal, LIMITS);
    while !rewritten(disk) {
        assert!(!matches!(pass.step(400).unwrap(), CompactStep::Over(_)));
    }
    (node, log, pass)
}

/// Whether a segment is being written anew.
fn rewritten(disk: &SimDisk) -> bool {
    disk.list(&dir()).unwrap().iter().any(|name| name.ends_with("rewritten"))
}

/// Goes on with a pass to its end, whatever that is.
fn finish(mut pass: Compaction) -> Result<(), tidelog_log::Error> {
    while !matches!(pass.step(400)?, CompactStep::Over(_)) {}
    Ok(())
}

#[test]
fn a_pass_over_a_log_that_was_closed_leaves_its_files_alone() {
    let disk = SimDisk::new();
    let (node, log, pass) = about_to_write(&disk);
    let before = contents(&log);
    log.retire();
    let reopened = node.open().log;
    finish(pass).unwrap_err();
    assert!(!rewritten(&disk), "what was begun is gone");
    assert_eq!(reopened.compacted(), Compacted::default());
    fill(&reopened, 1, 1);
    drop(reopened);
    let again = node.open().log;
    assert_eq!(contents(&again)[..before.len()], before);
    assert_eq!(contents(&again).len(), before.len() + 1);
    // Nor does it begin anything.
    again.retire();
    let to = again.segments().last().unwrap().base_offset;
    let goal = Compacted { to, tombstones_to: Offset::ZERO };
    finish(Compaction::new(again, goal, LIMITS)).unwrap_err();
    assert_eq!(node.open().log.compacted(), Compacted::default());
}

#[test]
fn a_segment_that_takes_entries_again_is_not_replaced() {
    let disk = SimDisk::new();
    let node = Node::start(&disk).segment_bytes(1000);
    let log = node.create();
    fill(&log, 1, 20);
    let closed = log.segments();
    let to = closed.last().unwrap().base_offset;
    // Every moment of a pass, with the log cut right behind its second segment.
    for steps in 0..60 {
        let disk = SimDisk::of(disk.image());
        let log = Node::start(&disk).segment_bytes(1000).open().log;
        let goal = Compacted { to, tombstones_to: Offset::ZERO };
        let mut pass = Compaction::new(Arc::clone(&log), goal, LIMITS);
        for _ in 0..steps {
            pass.step(300).unwrap();
        }
        let last = closed[1].end_index.previous();
        log.truncate_after(last).unwrap();
        // There is room for it in the segment that was closed.
        log.append(vec![blank(2, closed[1].end_index.0)], sure()).unwrap();
        assert_eq!(log.segments().len(), 2);
        let before = log.frontier();
        // Either way; the log is what counts.
        let _ended = finish(pass);
        fill(&log, 2, 3);
        assert_eq!(log.frontier().next_index().0, before.next_index().0 + 3);
        let seen = contents(&log);
        drop(log);
        let log = Node::start(&disk).segment_bytes(1000).open().log;
        assert_eq!(contents(&log), seen, "{steps} steps before the cut");
    }
}

#[test]
fn mending_and_compaction_of_one_segment_do_not_meet() {
    let (mut dice, mut model) = (Dice(21), Model::new());
    let twin = Node::start(&SimDisk::new()).create();
    for _ in 0..80 {
        append(&twin, &mut dice, &mut model);
    }
    for (steps, mends_last) in (0..80).flat_map(|steps| [(steps, false), (steps, true)]) {
        let disk = SimDisk::new();
        let log = Node::start(&disk).create();
        for entry in sent(&twin, LogIndex::ZERO..twin.frontier().next_index()) {
            log.append(vec![entry], sure()).unwrap();
        }
        let to = log.segments().last().unwrap().base_offset;
        let goal = Compacted { to, tombstones_to: Offset::ZERO };
        let first = log.segments()[1].first_index;
        let mut pass = Compaction::new(Arc::clone(&log), goal, LIMITS);
        let mut mending = log.mend(first).unwrap();
        for _ in 0..steps {
            pass.step(700).unwrap();
        }
        mending.push(&sent(&twin, mending.wanted())).unwrap();
        // One of the two may find the segment replaced under it; neither leaves half of one.
        if mends_last {
            let _ended = finish(pass);
            let _mended = mending.finish();
        } else {
            let _mended = mending.finish();
            let _ended = finish(pass);
        }
        scrubbed(&log);
        drop(log);
        let log = Node::start(&disk).open().log;
        // What it says of itself is true: another pass makes of it what it should be.
        compact(&log, goal);
        same(&read_from(&log, 0), &expected(&model, goal), &format!("{steps} {mends_last}"));
    }
}

#[test]
fn a_value_that_cannot_be_seen_keeps_the_tombstones_behind_it() {
    let disk = SimDisk::new();
    let log = Node::start(&disk).segment_bytes(700).create();
    let key = || Some("key".to_owned());
    let large = keyed(&[(key(), Some("x".repeat(9_000)))], Codec::Lz4);
    let tombstone = keyed(&[(key(), None)], Codec::None);
    let put = |index: u64, batch: &Bytes| {
        log.append(vec![records(1, index, index, std::slice::from_ref(batch))], sure()).unwrap();
    };
    put(0, &tombstone);
    put(1, &large);
    put(2, &tombstone);
    for index in 3..9 {
        put(index, &keyed(&[(Some(format!("k{index}")), Some("y".repeat(200)))], Codec::None));
    }
    let to = log.segments().last().unwrap().base_offset;
    let goal = Compacted { to, tombstones_to: to };
    // What inflates to more than that is not looked into.
    let limits = CompactLimits { keys_bytes_max: 1 << 20, inflate_bytes_max: 4_000 };
    finish(Compaction::new(Arc::clone(&log), goal, limits)).unwrap();
    assert_eq!(log.compacted(), goal);
    let read = read_from(&log, 0);
    assert!(!read.contains_key(&0), "the first tombstone supersedes nothing");
    assert!(
        read[&1].1.is_some() && read[&2].1.is_none(),
        "the value is there, so is its tombstone"
    );
}

#[test]
fn a_log_that_begins_behind_the_goal_is_compacted() {
    let disk = SimDisk::new();
    let node = Node::start(&disk).segment_bytes(900);
    let log = node.create();
    fill(&log, 1, 20);
    put_starts(&log);
    let segments = log.segments();
    log.purge(segments[2].end_index).unwrap();
    let goal = Compacted { to: segments[1].end_offset, tombstones_to: Offset(1) };
    assert!(log.log_start() > goal.to);
    compact(&log, goal);
    assert_eq!(log.compacted(), goal);
}
