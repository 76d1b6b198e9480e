//! Recovery: torn is cut, corrupt is refused.

use tidelog_log::OpenError;
use tidelog_log::disk::{Disk, Open};
use tidelog_log::flusher::FlushJob;
use tidelog_log::sim::{CrashPlan, SimDisk};
use tidelog_types::LogIndex;

use crate::support::*;

const HEAD_BYTES: u64 = 128;

/// A log of one segment with `count` entries, each flushed on its own; the mark is not on disk.
fn written(count: usize) -> SimDisk {
    let disk = SimDisk::new();
    let log = Node::start(&disk).segment_bytes(1 << 20).create();
    fill(&log, 1, count);
    disk
}

fn corrupt_at(err: OpenError) -> Option<u64> {
    match err {
        OpenError::Corrupt { index, .. } => index.map(|index| index.0),
        err => panic!("not corrupt: {err}"),
    }
}

/// The length of one entry of `fill`.
fn entry_bytes(disk: &SimDisk, count: u64) -> u64 {
    (disk.file_len(&path(0, "log")).unwrap() - HEAD_BYTES) / count
}

#[test]
fn damage_to_what_a_later_entry_saw_synced_is_corrupt_at_every_bit() {
    let template = written(4);
    let bytes = entry_bytes(&template, 4);
    for (entry, expected) in [(0, Some(0)), (1, Some(1)), (2, Some(2))] {
        for byte in 0..bytes {
            let disk = SimDisk::of(template.image());
            let at = HEAD_BYTES + entry * bytes + byte;
            disk.flip(&path(0, "log"), at * 8 + byte % 8).unwrap();
            match Node::start(&disk).segment_bytes(1 << 20).try_open() {
                Err(err) => assert_eq!(corrupt_at(err), expected, "byte {byte} of {entry}"),
                // Only the zeros that pad an entry are covered by nothing, and mean nothing.
                Ok(opened) => {
                    assert!(byte >= bytes - 7, "byte {byte} of {entry}");
                    assert_eq!(contents(&opened.log).len(), 4);
                }
            }
        }
    }
}

#[test]
fn damage_to_the_last_flush_is_torn_above_the_mark_and_corrupt_below() {
    for ticked in [false, true] {
        let disk = SimDisk::new();
        let node = Node::start(&disk).segment_bytes(1 << 20);
        let log = node.create();
        fill(&log, 1, 4);
        if ticked {
            node.env.votes.tick();
        }
        drop(log);
        let bytes = entry_bytes(&disk, 4);
        disk.flip(&path(0, "log"), (HEAD_BYTES + 3 * bytes + 100) * 8).unwrap();
        disk.crash(CrashPlan::LoseAll);
        match Node::start(&disk).try_open() {
            Ok(opened) => {
                assert!(!ticked);
                assert_eq!(opened.torn_bytes, bytes);
                assert_eq!(opened.log.last(), Some(at(1, 2)));
            }
            Err(err) => {
                assert!(ticked);
                assert_eq!(corrupt_at(err), Some(3));
            }
        }
    }
}

#[test]
fn one_lost_write_inside_an_unsynced_flush_is_torn() {
    // Ten entries with one fsync; the power goes before it, and any sector may be missing.
    for hole in (0..4000).step_by(64) {
        let disk = SimDisk::new();
        let node = Node::stepped(&disk).segment_bytes(1 << 20);
        let log = node.create();
        fill_without_flush(&log, 2);
        node.step();
        fill_without_flush(&log, 10);
        disk.record();
        disk.fail(tidelog_log::sim::Fault {
            action: tidelog_log::sim::Action::Sync,
            path: ".log".into(),
            after: 0,
            times: 1,
        });
        // The write is made, the sync is not: as if the power went in between.
        let mut timeline = tidelog_log::sim::Timeline::new(disk.image());
        log.flush();
        disk.recorded().iter().for_each(|op| timeline.step(op));
        let image = timeline.crash(CrashPlan::Hole { nth: 0, at: hole });
        let opened = Node::start(&SimDisk::of(image)).segment_bytes(1 << 20).open();
        assert!(opened.log.last() >= Some(at(1, 1)), "hole {hole}");
        assert_eq!(read_all(&opened.log).len(), all(&opened.log).len());
    }
}

fn fill_without_flush(log: &tidelog_log::Log, count: usize) {
    for _ in 0..count {
        let entry = next_records(&log.frontier(), 1, 2, 100);
        log.append(vec![entry], any()).unwrap();
    }
}

#[test]
fn a_file_shorter_than_the_mark_is_corrupt() {
    let disk = SimDisk::new();
    let node = Node::start(&disk).segment_bytes(1 << 20);
    let log = node.create();
    fill(&log, 1, 4);
    node.env.votes.tick();
    drop(log);
    let bytes = entry_bytes(&disk, 4);
    let file = disk.open(&path(0, "log"), Open::Write).unwrap();
    file.set_len(HEAD_BYTES + 2 * bytes).unwrap();
    let err = node.try_open().unwrap_err();
    assert_eq!(corrupt_at(err), Some(2));
}

#[test]
fn anything_bad_in_a_closed_segment_is_corrupt() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    fill(&log, 1, 30);
    let segments = log.segments();
    drop(log);
    let last_of_first = segments[0].bytes - 20;
    disk.flip(&path(0, "log"), last_of_first * 8).unwrap();
    let err = node.try_open().unwrap_err();
    assert_eq!(corrupt_at(err), Some(segments[0].end_index.0 - 1));
}

#[test]
fn a_missing_segment_is_corrupt() {
    for missing in [1, 2] {
        let disk = SimDisk::new();
        let node = Node::start(&disk);
        let log = node.create();
        fill(&log, 1, 30);
        let first = log.segments()[missing].first_index;
        put_starts(&log);
        node.env.votes.tick();
        drop(log);
        disk.remove_file(&path(first.0, "log")).unwrap();
        assert_eq!(corrupt_at(node.try_open().unwrap_err()), Some(first.0));
    }
}

#[test]
fn a_bad_head_is_corrupt_and_a_head_that_was_never_finished_is_swept_away() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    fill(&log, 1, 30);
    let last = log.segments().last().unwrap().first_index;
    let end = log.segments().last().unwrap().end_index;
    drop(log);
    let image = disk.image();
    for bit in 0..HEAD_BYTES * 8 {
        let disk = SimDisk::of(image.clone());
        disk.flip(&path(last.0, "log"), bit).unwrap();
        match Node::start(&disk).try_open().unwrap_err() {
            OpenError::Corrupt { .. } | OpenError::NewerFormat { .. } => {}
            err => panic!("bit {bit}: {err}"),
        }
    }

    for bytes in [0, 1, 60, 127, 128] {
        let disk = SimDisk::of(image.clone());
        let file = disk.open(&path(end.0, "log"), Open::Create).unwrap();
        file.set_len(bytes).unwrap();
        let node = Node::start(&disk);
        let log = node.open().log;
        assert_eq!(log.last(), Some(at(1, 29)));
        fill(&log, 1, 10);
        drop(log);
        assert_eq!(all(&node.open().log).len(), 40);
    }
}

#[test]
fn a_newer_format_is_refused_with_a_sentence() {
    let disk = written(2);
    // The lowest byte of the format.
    disk.flip(&path(0, "log"), 11 * 8 + 1).unwrap();
    let err = Node::start(&disk).try_open().unwrap_err();
    assert!(matches!(err, OpenError::NewerFormat { format: 3, supported: 1, .. }), "{err}");
    assert!(err.to_string().ends_with("start a newer version"), "{err}");
}

#[test]
fn a_segment_of_another_group_is_refused() {
    let disk = written(2);
    let other = tidelog_types::GroupId::METADATA;
    let node = Node::start(&disk);
    tidelog_log::Log::create(node.env.clone(), other, node.config.clone(), None).unwrap();
    let theirs = data().join("metadata").join(format!("{:020}.log", 0));
    disk.rename(&path(0, "log"), &theirs).unwrap();
    let err = tidelog_log::Log::open(node.env.clone(), other, node.config.clone()).unwrap_err();
    assert!(err.to_string().contains("belongs to group"), "{err}");
}

#[test]
fn a_block_in_the_wrong_place_is_not_data() {
    // The second entry is written again where the third belongs: its CRC holds, its place does not.
    let disk = written(3);
    let bytes = entry_bytes(&disk, 3);
    let file = disk.open(&path(0, "log"), Open::Write).unwrap();
    let mut second = vec![0; bytes as usize];
    file.read_at(&mut second, HEAD_BYTES + bytes).unwrap();
    file.write_at(&[std::io::IoSlice::new(&second)], HEAD_BYTES + 2 * bytes).unwrap();
    file.sync_all().unwrap();
    let opened = Node::start(&disk).open();
    assert_eq!(opened.log.last(), Some(at(1, 1)), "torn, for nothing says that it was safe");
    assert_eq!(opened.torn_bytes, bytes);
}

#[test]
fn what_a_killed_process_wrote_is_synced_before_it_counts() {
    // Written, not synced; the process is killed, another opens the log; then the power goes.
    let disk = SimDisk::new();
    let node = Node::stepped(&disk);
    let log = node.create();
    fill_without_flush(&log, 3);
    disk.fail(tidelog_log::sim::Fault {
        action: tidelog_log::sim::Action::SyncDir,
        path: "none".into(),
        after: 0,
        times: 0,
    });
    disk.record();
    let mut timeline = tidelog_log::sim::Timeline::new(disk.image());
    node.step();
    let ops = disk.recorded();
    // Everything up to the sync of the entries, but not that sync.
    let sync = ops.iter().rposition(|op| matches!(op, tidelog_log::sim::Op::Sync { .. })).unwrap();
    ops[..sync].iter().for_each(|op| timeline.step(op));

    let disk = SimDisk::resume(timeline);
    let log = Node::start(&disk).open().log;
    assert_eq!(log.synced_end(), LogIndex(3));
    disk.crash(CrashPlan::LoseAll);
    assert_eq!(all(&Node::start(&disk).open().log).len(), 3);
}

#[test]
fn a_corrupt_record_is_never_served() {
    let disk = written(4);
    let bytes = entry_bytes(&disk, 4);
    for byte in 0..bytes - 8 {
        let node = Node::start(&SimDisk::of(disk.image())).cache_bytes(0);
        let log = node.open().log;
        let slices = log.entries(LogIndex(1)..LogIndex(2), 1).unwrap();
        let sim = rot(&node, &log, HEAD_BYTES + bytes + byte);
        let err = sim.read(offset(2), offset(4), 1).unwrap_err();
        assert_eq!(err.kind(), tidelog_log::ErrorKind::Corrupt, "byte {byte}: {err}");
        let err = slices[0].body.load().unwrap_err();
        assert_eq!(err.kind(), tidelog_log::ErrorKind::Corrupt, "byte {byte}: {err}");
        assert!(sim.entries(LogIndex(1)..LogIndex(2), 1).is_err());
        assert!(sim.read(offset(0), offset(2), 1).is_ok(), "others are");
    }
}

fn rot(
    node: &Node,
    log: &std::sync::Arc<tidelog_log::Log>,
    at: u64,
) -> std::sync::Arc<tidelog_log::Log> {
    let file = node.disk.open(&path(0, "log"), Open::Write).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, at).unwrap();
    file.write_at(&[std::io::IoSlice::new(&[byte[0] ^ 0x10])], at).unwrap();
    std::sync::Arc::clone(log)
}
