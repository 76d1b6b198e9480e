//! Reading, from memory and from disk alike.

use std::time::Duration;

use tidelog_log::sim::SimDisk;
use tidelog_log::{Body, Error, ErrorKind};
use tidelog_types::{LogIndex, Offset, Timestamp};

use crate::support::*;

/// Runs a check on a log in memory and on the same log cold, over several segments.
fn check(count: usize, check: impl Fn(&tidelog_log::Log)) {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    fill(&log, 1, count);
    assert!(log.segments().len() >= 3);
    check(&log);
    drop(log);
    check(&node.cache_bytes(0).open().log);
}

#[test]
fn reads_give_whole_batches_from_any_offset() {
    check(30, |log| {
        assert_eq!(log.written_end(), Offset(60));
        for from in 0..60 {
            for bytes_max in [0, 1, 400, 1 << 20] {
                let read = log.read(offset(from), offset(60), bytes_max).unwrap();
                let first = tidelog_types::batch::Info::read(&read.batches[0]).unwrap();
                assert_eq!(first.base_offset.0, from / 2 * 2, "the first may begin below");
                let bytes: usize = read.batches.iter().map(|b| b.len()).sum();
                assert!(read.batches.len() == 1 || bytes <= bytes_max);
                assert_eq!(read.next.0, first.base_offset.0 + 2 * read.batches.len() as u64);
            }
        }
    });
}

#[test]
fn reads_stop_at_until() {
    check(30, |log| {
        let read = log.read(offset(10), offset(20), 1 << 20).unwrap();
        assert_eq!((read.batches.len(), read.next), (5, offset(20)));
        let read = log.read(offset(20), offset(20), 1 << 20).unwrap();
        assert_eq!((read.batches.len(), read.next), (0, offset(20)));
        let read = log.read(offset(60), offset(99), 1 << 20).unwrap();
        assert_eq!((read.batches.len(), read.next), (0, offset(60)), "at the end: nothing yet");
        let err = log.read(offset(61), offset(99), 1).unwrap_err();
        assert!(matches!(err, Error::OutOfRange { .. }), "{err}");
        assert_eq!(err.kind(), ErrorKind::Invalid);
    });
}

#[test]
fn entries_are_found_by_index() {
    check(30, |log| {
        let end = log.frontier().next_index();
        for from in 0..30 {
            let entries = log.entries(LogIndex(from)..end, 1 << 20).unwrap();
            assert_eq!(entries[0].header.position, at(1, from));
            assert_eq!(entries.len() as u64, 30 - from);
            let loaded = log.load(LogIndex(from)..end, 600).unwrap();
            assert!(loaded.len() <= 2 && !loaded.is_empty());
            assert!(loaded.iter().all(|e| matches!(e.body, Body::Memory(_))));
            assert_eq!(log.position_of(LogIndex(from)).unwrap(), Some(at(1, from)));
        }
        assert_eq!(log.position_of(LogIndex(30)).unwrap(), None);
        assert!(log.entries(LogIndex(30)..LogIndex(40), 1).unwrap().is_empty());
        assert!(log.entries(LogIndex(3)..LogIndex(3), 1).unwrap().is_empty());
    });
}

#[test]
fn infos_carry_the_stamped_offsets() {
    check(30, |log| {
        for entry in all(log) {
            assert_eq!(entry.batches[0].base_offset, entry.header.base_offset);
            assert_eq!(entry.batches[0].count, 2);
        }
    });
}

#[test]
fn offsets_are_found_by_timestamp() {
    // Entry i holds two records, at 1_000_000 + 10 i and one millisecond later.
    check(30, |log| {
        let find = |t: i64, until: u64| {
            let found = log.offset_at(Timestamp(1_000_000 + t), offset(until)).unwrap();
            found.map(|(offset, time)| (offset.0, time.0 - 1_000_000))
        };
        assert_eq!(find(-50, 60), Some((0, 0)));
        assert_eq!(find(0, 60), Some((0, 0)));
        assert_eq!(find(1, 60), Some((1, 1)), "the very record");
        assert_eq!(find(2, 60), Some((2, 10)));
        for entry in 0..30 {
            assert_eq!(find(entry * 10, 60), Some((entry as u64 * 2, entry * 10)));
        }
        assert_eq!(find(291, 60), Some((59, 291)));
        assert_eq!(find(292, 60), None);
        assert_eq!(find(290, 58), None, "not beyond until");
    });
}

#[test]
fn timestamps_that_go_back_are_found_where_they_come_first() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    let times = [100, 900, 50, 200, 950, 10, 960];
    for (n, time) in (0..).zip(times) {
        log.append(vec![records(1, n, n, &[batch(1, 700, time)])], sure()).unwrap();
    }
    assert!(log.segments().len() >= 3);
    drop(log);
    let log = node.open().log;
    for (t, expected) in [(0, 0), (100, 0), (101, 1), (900, 1), (901, 4), (951, 6)] {
        let found = log.offset_at(Timestamp(t), offset(7)).unwrap().unwrap();
        assert_eq!(found.0, offset(expected), "timestamp {t}");
    }
    assert_eq!(log.offset_at(Timestamp(961), offset(7)).unwrap(), None);
}

#[test]
fn a_lost_or_damaged_index_is_rebuilt() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    fill(&log, 1, 30);
    put_starts(&log);
    let segments = log.segments();
    let before = contents(&log);
    drop(log);
    let first = segments[0].first_index.0;
    let second = segments[1].first_index.0;
    node.disk.remove_file(&path(first, "idx")).unwrap();
    disk.flip(&path(second, "idx"), 8 * 60).unwrap();
    let log = node.cache_bytes(0).open().log;
    assert_eq!(contents(&log), before);
    assert_eq!(read_all(&log).len(), 30);
    let found = log.offset_at(Timestamp(1_000_000), offset(60)).unwrap();
    assert_eq!(found, Some((offset(0), Timestamp(1_000_000))));
}

#[test]
fn retention_names_whole_closed_segments() {
    check(30, |log| {
        let segments = log.segments();
        let end = |n: usize| Some(segments[n].end_offset);
        let last = segments.len() - 1;
        let total: u64 = segments.iter().map(|s| s.bytes).sum();
        let hour = Duration::from_secs(3600);
        let after = |n: usize, ms: i64| Timestamp(segments[n].append_time.0 + 3_600_000 + ms);

        assert_eq!(log.retention(Timestamp(0), Some(hour), Some(u64::MAX)), None);
        assert_eq!(log.retention(after(0, 0), Some(hour), None), None);
        assert_eq!(log.retention(after(0, 1), Some(hour), None), end(0));
        assert_eq!(log.retention(Timestamp(i64::MAX), Some(hour), None), end(last - 1));
        assert_eq!(log.retention(Timestamp(0), None, Some(0)), end(last - 1), "never the last");
        assert_eq!(log.retention(Timestamp(0), None, Some(total)), None);
        assert_eq!(log.retention(Timestamp(0), None, Some(total - 1)), end(0));
    });
}

#[test]
fn append_times_are_those_of_the_entries() {
    check(30, |log| {
        let entries = log.entries(LogIndex(0)..log.frontier().next_index(), 1 << 20).unwrap();
        let mut looked = 0;
        for entry in entries.iter().filter(|entry| entry.header.kind == tidelog_log::Kind::Records)
        {
            for at in entry.header.base_offset.0..entry.header.frontier().next_offset.0 {
                let found = log.append_time_at(offset(at), offset(60)).unwrap();
                assert_eq!(found, Some(entry.header.append_time), "offset {at}");
                looked += 1;
            }
        }
        assert_eq!(looked, 60);
        assert_eq!(log.append_time_at(offset(60), offset(99)).unwrap(), None);
        assert_eq!(log.append_time_at(offset(20), offset(20)).unwrap(), None);
    });
}
