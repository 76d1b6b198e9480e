//! Truncate, purge, reset, delete.

use bytes::Bytes;
use tidelog_log::sim::{CrashPlan, SimDisk};
use tidelog_log::{Error, ErrorKind, Frontier, Log, OpenError, StartPoint};
use tidelog_types::{LogIndex, Offset, Term, Timestamp};

use crate::support::*;

#[test]
fn truncated_logs_go_on_where_they_were_cut() {
    // Everything is cut at every index, in memory and cold, then written anew in another term.
    let original = {
        let log = Node::start(&SimDisk::new()).create();
        fill(&log, 1, 30);
        contents(&log)
    };
    for keep in 0..30_u64 {
        for cache in [0, 1 << 20] {
            let disk = SimDisk::new();
            let node = Node::start(&disk).cache_bytes(cache);
            let log = node.create();
            fill(&log, 1, 30);
            let last = keep.checked_sub(1).map(LogIndex);
            log.truncate_after(last).unwrap();
            assert_eq!(log.last().map(|l| l.index), last);
            assert_eq!(log.written_end(), Offset(keep * 2));
            assert_eq!(contents(&log), original[..keep as usize]);
            fill(&log, 2, 5);
            let after = contents(&log);
            assert_eq!(after.len() as u64, keep + 5);
            assert_eq!(read_all(&log).len() as u64, keep + 5);
            disk.crash(CrashPlan::LoseAll);
            let log = Node::start(&disk).open().log;
            assert_eq!(contents(&log), after, "keep {keep}");
            assert_eq!(log.frontier().ordinal_term, Term(2));
        }
    }
}

#[test]
fn truncation_completes_what_is_pending_without_the_pool() {
    let disk = SimDisk::new();
    let node = Node::stepped(&disk);
    let log = node.create();
    let told = Told::default();
    for n in 0..5 {
        log.append(vec![blank(1, n)], told.done()).unwrap();
    }
    log.truncate_after(Some(LogIndex(2))).unwrap();
    assert_eq!(told.ok(), 5);
    assert_eq!(log.last(), Some(at(1, 2)));
    node.step();
    assert_eq!(log.synced_end(), LogIndex(3));
}

#[test]
fn truncation_behind_the_end_changes_nothing_and_before_the_beginning_is_refused() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    fill(&log, 1, 30);
    put_starts(&log);
    log.truncate_after(Some(LogIndex(29))).unwrap();
    log.truncate_after(Some(LogIndex(99))).unwrap();
    assert_eq!(log.last(), Some(at(1, 29)));
    log.purge(LogIndex(15)).unwrap();
    assert!(log.first_index() > LogIndex(5));
    let err = log.truncate_after(Some(LogIndex(3))).unwrap_err();
    assert!(matches!(err, Error::Refused { .. }), "{err}");
}

#[test]
fn a_slice_of_a_truncated_entry_is_gone_and_never_other_bytes() {
    let disk = SimDisk::new();
    let log = Node::start(&disk).cache_bytes(0).create();
    fill(&log, 1, 30);
    let before = all(&log);
    log.truncate_after(Some(LogIndex(9))).unwrap();
    fill(&log, 2, 20);
    for entry in &before[10..] {
        let err = entry.body.load().unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Retry, "{err}");
    }
    for entry in &before[..6] {
        entry.body.load().expect("entries of untouched segments stay readable");
    }
}

#[test]
fn purge_drops_whole_segments_that_a_start_point_follows() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    fill(&log, 1, 30);
    let firsts: Vec<_> = log.segments().iter().map(|s| s.first_index).collect();
    log.purge(LogIndex(29)).unwrap();
    assert_eq!(log.first_index(), LogIndex(0), "without start points nothing goes");

    let expected = start_at(&log, firsts[2]);
    log.put_start(expected.clone()).unwrap();
    log.purge(LogIndex(firsts[2].0 - 2)).unwrap();
    assert_eq!(log.first_index(), LogIndex(0), "not all entries are below");
    log.purge(LogIndex(firsts[2].0 - 1)).unwrap();
    assert_eq!(log.first_index(), firsts[2]);
    assert_eq!(log.purged(), Some(at(1, firsts[2].0 - 1)));
    assert_eq!(log.oldest_start().unwrap(), Some(expected));

    put_starts(&log);
    log.purge(LogIndex(1000)).unwrap();
    assert_eq!(log.first_index(), firsts[firsts.len() - 1], "the last segment stays");
    let before = (contents(&log), log.purged(), log.log_start());
    let err = log.read(offset(0), offset(60), 10).unwrap_err();
    assert!(matches!(err, Error::OutOfRange { .. }), "{err}");
    let err = log.entries(LogIndex(0)..LogIndex(3), 10).unwrap_err();
    assert!(matches!(err, Error::Purged { .. }), "{err}");
    assert_eq!(log.position_of(log.purged().unwrap().index).unwrap(), log.purged());

    disk.crash(CrashPlan::LoseAll);
    let log = Node::start(&disk).open().log;
    assert_eq!((contents(&log), log.purged(), log.log_start()), before);
    fill(&log, 1, 3);
}

fn snapshot(index: u64) -> StartPoint {
    let frontier = Frontier {
        last: Some(at(7, index - 1)),
        next_offset: Offset(5000),
        ordinal_term: Term(7),
        ordinal_next: 3,
        append_time: Timestamp(9_000_000),
        chain: 0x1234_5678,
    };
    StartPoint { index: LogIndex(index), frontier, machine: Bytes::from_static(b"machine") }
}

#[test]
fn reset_begins_the_log_at_a_snapshot_wherever_it_lies() {
    for index in [1, 5, 29, 30, 31, 1000] {
        let disk = SimDisk::new();
        let node = Node::start(&disk);
        let log = node.create();
        fill(&log, 1, 30);
        let held = all(&log);
        log.reset(snapshot(index)).unwrap();
        assert_eq!(log.first_index(), LogIndex(index));
        assert_eq!(log.purged(), Some(at(7, index - 1)));
        assert_eq!(log.frontier(), snapshot(index).frontier);
        assert_eq!(log.oldest_start().unwrap(), Some(snapshot(index)));
        assert_eq!(log.newest_start().unwrap(), Some(snapshot(index)));
        assert!(all(&log).is_empty());
        for entry in held {
            // In memory, or gone: never another entry.
            if let Err(err) = entry.body.load() {
                assert_eq!(err.kind(), ErrorKind::Retry, "{err}");
            }
        }
        fill(&log, 7, 20);
        let before = contents(&log);
        assert_eq!(log.log_start(), Offset(5000));
        disk.crash(CrashPlan::LoseAll);
        let log = Node::start(&disk).open().log;
        assert_eq!(contents(&log), before);
        assert_eq!(log.oldest_start().unwrap(), Some(snapshot(index)));
    }
}

#[test]
fn a_start_point_that_does_not_end_at_its_index_is_refused() {
    let disk = SimDisk::new();
    let log = Node::start(&disk).create();
    let mut start = snapshot(10);
    start.index = LogIndex(11);
    assert!(matches!(log.reset(start).unwrap_err(), Error::Refused { .. }));
}

#[test]
fn create_begins_at_a_start_point() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let start = Some(snapshot(50));
    let log = Log::create(node.env.clone(), group(), node.config.clone(), start.clone()).unwrap();
    assert_eq!((log.first_index(), log.log_start()), (LogIndex(50), Offset(5000)));
    fill(&log, 7, 3);
    disk.crash(CrashPlan::LoseAll);
    let log = Node::start(&disk).open().log;
    assert_eq!(log.oldest_start().unwrap(), start);
    assert_eq!(all(&log).len(), 3);
}

#[test]
fn create_refuses_what_exists_and_open_what_is_missing() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    assert!(matches!(node.try_open().unwrap_err(), OpenError::Missing { .. }));
    node.create();
    let again = Log::create(node.env.clone(), group(), node.config.clone(), None);
    assert!(matches!(again.unwrap_err(), OpenError::Exists { .. }));

    // A directory without its vote record, and the reverse, are lost replicas.
    let other = SimDisk::new();
    let node = Node::start(&other);
    node.disk.create_dir(&dir()).unwrap();
    assert!(matches!(node.try_open().unwrap_err(), OpenError::Missing { .. }));
    let create = Log::create(node.env.clone(), group(), node.config.clone(), None);
    assert!(matches!(create.unwrap_err(), OpenError::Exists { .. }));
}

#[test]
fn a_deleted_log_is_gone_and_its_vote_is_not_forgotten() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    fill(&log, 1, 10);
    let vote = tidelog_log::Vote { term: Term(6), node: Some(NODE), committed: true };
    node.env.votes.save_vote(group(), vote, sure());
    drop(log);
    Log::delete(&node.env, group()).unwrap();
    Log::delete(&node.env, group()).expect("may be finished again");
    assert!(!node.disk.list(&data()).unwrap().contains(&group().to_string()));
    assert!(matches!(node.try_open().unwrap_err(), OpenError::Missing { .. }));

    disk.crash(CrashPlan::LoseAll);
    let node = Node::start(&disk);
    let record = node.env.votes.get(group()).unwrap();
    assert!(record.deleted);
    let log = node.create();
    let record = node.env.votes.get(group()).unwrap();
    assert_eq!((record.vote, record.deleted, record.mark), (Some(vote), false, LogIndex(0)));
    fill(&log, 6, 2);
    drop(log);
    assert_eq!(all(&node.open().log).len(), 2);
}
