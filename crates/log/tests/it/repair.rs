//! Rot is found wherever it is, and mended with what another replica holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidelog_log::disk::Disk;
use tidelog_log::sim::{CrashPlan, SimDisk, Timeline};
use tidelog_log::{
    Damage, DamagedFile, Error, Log, NewEntry, OpenError, Salvaged, Scrub, Scrubbed,
};
use tidelog_types::LogIndex;

use crate::support::*;

/// A log of several closed segments, all with start points, whose marks are on disk.
fn written() -> SimDisk {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    for _ in 0..20 {
        fill(&log, 1, 1);
        put_starts(&log);
        log.append(vec![command(1, log.frontier().next_index().0, b"command")], sure()).unwrap();
        put_starts(&log);
    }
    node.env.votes.tick();
    assert!(log.segments().len() >= 4, "{:?}", log.segments());
    disk
}

/// What a whole pass finds.
fn scrub(log: &Arc<Log>) -> Vec<Damage> {
    let mut pass = Scrub::new(Arc::clone(log));
    let mut found = Vec::new();
    loop {
        match pass.step(300).unwrap() {
            Scrubbed::Clean(_) => {}
            Scrubbed::Damaged(damage) => found.push(damage),
            Scrubbed::Over => return found,
        }
    }
}

/// Entries as a replica sends them to another.
pub(crate) fn sent(from: &Log, range: std::ops::Range<LogIndex>) -> Vec<NewEntry> {
    let mut out = Vec::new();
    let mut next = range.start;
    while next < range.end {
        for entry in from.load(next..range.end, 1000).unwrap() {
            next = entry.header.position.index.next();
            out.push(NewEntry {
                position: entry.header.position,
                kind: entry.header.kind,
                append_time: entry.header.append_time,
                ordinal: entry.header.ordinal,
                body: entry.body.load().unwrap(),
                expect_chain: Some(entry.header.chain),
                original: entry.original.clone(),
            });
        }
    }
    out
}

fn mend(log: &Arc<Log>, segment: LogIndex, twin: &Log) -> Result<PathBuf, Error> {
    let mut mending = log.mend(segment)?;
    mending.push(&sent(twin, mending.wanted()))?;
    mending.finish()
}

fn bytes_of(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, tidelog_log::disk::Open::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// The bits of an entry's padding mean nothing and nothing covers them.
fn is_noticed(found: &[Damage]) -> bool {
    !found.is_empty()
}

#[test]
fn a_flip_anywhere_in_a_closed_segment_is_found_and_mended_to_the_bit() {
    let template = written().image();
    let twin_disk = SimDisk::of(template.clone());
    let twin = Node::start(&twin_disk).open().log;
    let segments = twin.segments();
    let (mut flips, mut unnoticed) = (0, 0);
    for segment in &segments[..segments.len() - 1] {
        let name = path(segment.first_index.0, "log");
        let whole = bytes_of(&twin_disk, &name);
        for byte in (0..segment.bytes).step_by(13) {
            let disk = SimDisk::of(template.clone());
            let log = Node::start(&disk).open().log;
            disk.flip(&name, byte * 8 + byte % 8).unwrap();
            flips += 1;
            let found = scrub(&log);
            if !is_noticed(&found) {
                unnoticed += 1;
                assert_eq!(contents(&log), contents(&twin), "byte {byte} is no padding");
                continue;
            }
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].segment, segment.first_index);
            assert_eq!((found[0].place, found[0].is_last), (DamagedFile::Entries, false));
            let aside = mend(&log, found[0].segment, &twin).unwrap();
            assert_eq!(scrub(&log), []);
            assert_eq!(contents(&log), contents(&twin));
            assert_eq!(read_all(&log), read_all(&twin));
            assert_eq!(bytes_of(&disk, &aside).len(), whole.len());
            assert_ne!(bytes_of(&disk, &aside), whole, "the damaged bytes are kept");
            drop(log);
            disk.crash(CrashPlan::LoseAll);
            assert_eq!(contents(&Node::start(&disk).open().log), contents(&twin));
        }
    }
    println!("figure flips: {flips}\nfigure flips in padding: {unnoticed}");
    println!("figure flips mended: {}", flips - unnoticed);
    assert!(unnoticed * 20 < flips, "{unnoticed} of {flips}");
}

#[test]
fn a_damaged_start_point_is_found_and_one_behind_the_first_can_be_forgotten() {
    let disk = written();
    let log = Node::start(&disk).open().log;
    let third = log.segments()[2].first_index;
    disk.flip(&path(third.0, "start"), 400).unwrap();
    let found = scrub(&log);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].segment, found[0].place), (third, DamagedFile::Start));
    log.forget_start(third).unwrap();
    assert_eq!(scrub(&log), []);
    drop(log);

    let log = Node::start(&disk).open().log;
    let second = log.segments()[1].first_index;
    log.purge(LogIndex(second.0 - 1)).unwrap();
    assert_eq!(log.first_index(), second);
    disk.flip(&path(second.0, "start"), 400).unwrap();
    assert_eq!(scrub(&log)[0].place, DamagedFile::FirstStart);
    assert!(matches!(log.forget_start(second), Err(Error::Refused { .. })));
}

#[test]
fn entries_of_another_history_do_not_mend_a_segment() {
    let disk = written();
    let log = Node::start(&disk).open().log;
    let first = log.segments()[0].clone();
    disk.flip(&path(0, "log"), (first.bytes / 2) * 8).unwrap();

    let other_disk = SimDisk::new();
    let other = Node::start(&other_disk).create();
    fill(&other, 1, 40);
    let mut mending = log.mend(LogIndex::ZERO).unwrap();
    let refused = mending.push(&sent(&other, mending.wanted()));
    assert!(matches!(refused, Err(Error::ChainMismatch { .. })), "{refused:?}");

    let mut mending = log.mend(LogIndex::ZERO).unwrap();
    let mut unvouched = sent(&other, mending.wanted());
    unvouched.iter_mut().for_each(|entry| entry.expect_chain = None);
    mending.push(&unvouched).unwrap();
    assert!(matches!(mending.finish(), Err(Error::Refused { .. })));

    let missing = log.mend(LogIndex::ZERO).unwrap();
    assert!(matches!(missing.finish(), Err(Error::Refused { .. })));
    assert_eq!(scrub(&log).len(), 1, "nothing was put in its place");
}

#[test]
fn power_may_go_at_any_moment_of_a_mending() {
    let template = written().image();
    let twin_disk = SimDisk::of(template.clone());
    let twin = Node::start(&twin_disk).open().log;
    let disk = SimDisk::of(template);
    let log = Node::start(&disk).open().log;
    let second = log.segments()[1].clone();
    let name = path(second.first_index.0, "log");
    disk.flip(&name, (second.bytes / 2) * 8).unwrap();
    disk.record();
    let mut timeline = Timeline::new(disk.image());
    mend(&log, second.first_index, &twin).unwrap();
    drop(log);
    let mut mended = 0;
    for op in disk.recorded() {
        timeline.step(&op);
        for plan in [CrashPlan::LoseAll, CrashPlan::KeepAll, CrashPlan::Random(7)] {
            let disk = SimDisk::of(timeline.crash(plan));
            let log = Node::start(&disk).open().log;
            if scrub(&log).is_empty() {
                mended += 1;
            } else {
                mend(&log, second.first_index, &twin).unwrap();
            }
            assert_eq!(contents(&log), contents(&twin));
        }
    }
    assert!(mended > 0);
}

/// Takes a damaged log out, and fetches from `twin` what is missing, in steps of `step` entries; with
/// a crash in between.
fn refill(disk: &SimDisk, twin: &Log, crash: bool) {
    let mut crashed = false;
    loop {
        let node = Node::start(disk);
        let log = match Log::salvage(&node.env, group(), &node.config).unwrap() {
            Salvaged::Prefix(log) => log,
            Salvaged::Nothing => {
                let start = twin.oldest_start().unwrap();
                Log::begin_again(&node.env, group(), &node.config, start.as_ref()).unwrap()
            }
        };
        let (from, end) = (log.frontier().next_index(), twin.frontier().next_index());
        for (n, entry) in sent(twin, from..end).into_iter().enumerate() {
            log.append(vec![entry], sure()).unwrap();
            if crash && !crashed && n == 3 {
                crashed = true;
                break;
            }
        }
        if crashed && log.frontier() != twin.frontier() {
            node.env.votes.tick();
            drop(log);
            disk.crash(CrashPlan::LoseAll);
            let refused = Node::start(disk).try_open();
            assert!(matches!(refused, Err(OpenError::Unfinished { .. })), "{refused:?}");
            continue;
        }
        return log.finish_salvage().unwrap();
    }
}

#[test]
fn what_recovery_refuses_is_salvaged_and_filled_up_again() {
    let template = written().image();
    let twin_disk = SimDisk::of(template.clone());
    let twin = Node::start(&twin_disk).open().log;
    let mut refused = 0;
    let segments = twin.segments();
    for (n, segment) in segments.iter().enumerate() {
        // A bad head anywhere, and bad entries where recovery looks.
        let looked_at = if n == segments.len() - 1 { segment.bytes } else { 128 };
        for byte in (0..looked_at).step_by(17) {
            let disk = SimDisk::of(template.clone());
            disk.flip(&path(segment.first_index.0, "log"), byte * 8 + byte % 8).unwrap();
            match Node::start(&disk).try_open() {
                Ok(opened) => assert_eq!(contents(&opened.log), contents(&twin)),
                Err(OpenError::Corrupt { .. }) => {
                    refused += 1;
                    refill(&disk, &twin, byte % 2 == 0);
                    let opened = Node::start(&disk).open();
                    assert_eq!(contents(&opened.log), contents(&twin), "byte {byte} of {n}");
                    assert_eq!(scrub(&opened.log), []);
                    let names = disk.list(&dir()).unwrap();
                    assert!(!names.iter().any(|name| name.ends_with("aside")), "{names:?}");
                    assert!(names.iter().any(|name| name.ends_with("rotten")), "{names:?}");
                }
                Err(err) => panic!("byte {byte} of {n}: {err}"),
            }
        }
    }
    println!("{refused} damaged logs filled up again");
    assert!(refused > 20);
}

#[test]
fn a_log_without_its_first_start_point_begins_again_where_its_leader_does() {
    let template = {
        let disk = written();
        let node = Node::start(&disk);
        let log = node.open().log;
        let second = log.segments()[1].first_index;
        log.purge(LogIndex(second.0 - 1)).unwrap();
        disk.image()
    };
    let twin_disk = SimDisk::of(template.clone());
    let twin = Node::start(&twin_disk).open().log;
    let third = twin.segments()[1].first_index;
    twin.purge(LogIndex(third.0 - 1)).unwrap();
    let disk = SimDisk::of(template);
    let first = Node::start(&disk).open().log.first_index();
    disk.flip(&path(first.0, "start"), 400).unwrap();
    // Recovery needs only the newest start point, and the oldest one.
    assert!(matches!(Node::start(&disk).try_open(), Err(OpenError::Corrupt { .. })));
    refill(&disk, &twin, true);
    let opened = Node::start(&disk).open();
    assert_eq!(opened.log.first_index(), third);
    assert_eq!(contents(&opened.log), contents(&twin));
}
