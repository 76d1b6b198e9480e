//! Start points.

use bytes::Bytes;
use tidelog_log::sim::{CrashPlan, SimDisk};
use tidelog_log::{Error, StartPoint};
use tidelog_types::LogIndex;

use crate::support::*;

#[test]
fn each_segment_but_the_one_at_zero_wants_a_start_point_once() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    fill(&log, 1, 30);
    let firsts: Vec<_> = log.segments().iter().map(|s| s.first_index).collect();
    let wanting: Vec<_> = (0..30).map(LogIndex).filter(|i| log.starts_at(*i)).collect();
    assert_eq!(wanting, firsts[1..]);
    assert_eq!(log.newest_start().unwrap(), None);

    put_starts(&log);
    assert!((0..30).all(|i| !log.starts_at(LogIndex(i))));
    let newest = log.newest_start().unwrap().unwrap();
    assert_eq!(newest, start_at(&log, firsts[firsts.len() - 1]));
    assert_eq!(log.newest_start_position(), newest.frontier.last);
    assert_eq!(log.oldest_start().unwrap(), None, "the log begins at 0");
    drop(log);
    let log = node.open().log;
    assert_eq!(log.newest_start().unwrap(), Some(newest));
    assert!((0..30).all(|i| !log.starts_at(LogIndex(i))));
}

#[test]
fn apply_knows_a_segments_beginning_before_it_is_flushed() {
    let disk = SimDisk::new();
    let node = Node::stepped(&disk);
    let log = node.create();
    fill(&log, 1, 30);
    let planned: Vec<_> = (0..30).map(LogIndex).filter(|i| log.starts_at(*i)).collect();
    assert!(planned.len() >= 2, "boundaries are known while nothing is flushed");
    assert_eq!(log.segments().len(), 1);
    put_starts(&log);
    assert_eq!(log.newest_start_position(), None, "not written before the segment");
    node.step();
    let firsts: Vec<_> = log.segments().iter().skip(1).map(|s| s.first_index).collect();
    assert_eq!(planned, firsts);
    assert!(log.segments().iter().all(|segment| segment.started));
}

#[test]
fn a_start_point_of_another_log_is_refused() {
    let disk = SimDisk::new();
    let log = Node::start(&disk).create();
    fill(&log, 1, 30);
    let first = log.segments()[1].first_index;
    let good = start_at(&log, first);
    let mut other = good.clone();
    other.frontier.chain ^= 1;
    assert!(matches!(log.put_start(other).unwrap_err(), Error::Refused { .. }));
    let nowhere = start_at(&log, LogIndex(first.0 + 1));
    assert!(matches!(log.put_start(nowhere).unwrap_err(), Error::Refused { .. }));
    log.put_start(good).unwrap();
}

#[test]
fn a_damaged_start_point_is_derived_again_unless_it_is_the_first() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    fill(&log, 1, 30);
    put_starts(&log);
    let firsts: Vec<_> = log.segments().iter().map(|s| s.first_index).collect();
    let before = contents(&log);
    drop(log);
    let damaged = firsts[firsts.len() - 1];
    disk.flip(&path(damaged.0, "start"), 800).unwrap();
    let opened = node.open();
    assert_eq!(opened.starts_ignored, [damaged]);
    let log = opened.log;
    assert!(log.starts_at(damaged));
    assert_eq!(contents(&log), before);
    put_starts(&log);
    log.purge(LogIndex(29)).unwrap();
    drop(log);

    disk.flip(&path(damaged.0, "start"), 800).unwrap();
    let err = node.try_open().unwrap_err();
    assert!(err.to_string().contains("CRC"), "{err}");
}

#[test]
fn start_points_survive_a_power_cut_with_what_they_hold() {
    let disk = SimDisk::new();
    let log = Node::start(&disk).create();
    fill(&log, 1, 30);
    let first = log.segments()[1].first_index;
    let machine = Bytes::from(vec![7; 100_000]);
    let start = StartPoint { machine, ..start_at(&log, first) };
    log.put_start(start.clone()).unwrap();
    disk.crash(CrashPlan::LoseAll);
    assert_eq!(Node::start(&disk).open().log.newest_start().unwrap(), Some(start));
}
