//! Appending and flushing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tidelog_log::disk::OsDisk;
use tidelog_log::flusher::ThreadFlusher;
use tidelog_log::sim::{CrashPlan, SimDisk};
use tidelog_log::{Error, Kind};
use tidelog_types::{LogIndex, Offset, Term, Timestamp};

use crate::support::*;

#[test]
fn appended_entries_are_readable_before_they_are_flushed() {
    let disk = SimDisk::new();
    let node = Node::stepped(&disk);
    let log = node.create();
    let told = Told::default();
    let headers =
        log.append(vec![blank(1, 0), records(1, 1, 0, &[batch(3, 10, 5)])], told.done()).unwrap();
    assert_eq!(headers[1].base_offset, Offset(0));
    assert_eq!(headers[1].offsets_taken, 3);
    assert_eq!(log.in_memory(LogIndex(0)..LogIndex(9), 1 << 20).unwrap().len(), 2);
    assert_eq!((log.written_end(), log.synced_end()), (Offset(0), LogIndex(0)));
    assert_eq!(told.all().len(), 0, "nothing is completed before the flush");

    node.step();
    assert_eq!(told.ok(), 1);
    assert_eq!((log.written_end(), log.synced_end()), (Offset(3), LogIndex(2)));
}

#[test]
fn completions_come_in_order_and_one_flush_takes_all_that_is_pending() {
    let disk = SimDisk::new();
    let node = Node::stepped(&disk);
    let log = node.create();
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    for n in 0..5 {
        let order = Arc::clone(&order);
        let done = Box::new(move |_: Result<(), _>| order.lock().unwrap().push(n));
        log.append(vec![blank(1, n)], done).unwrap();
    }
    let last = Arc::clone(&order);
    log.after_flush(Box::new(move |_| last.lock().unwrap().push(99)));
    assert_eq!(node.steps.as_ref().unwrap().queued(), 1, "a job is queued once");
    let before = node.env.votes.stats().syncs();
    node.step();
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 99]);
    assert_eq!(node.env.votes.stats().syncs() - before, 1, "one fdatasync for five appends");
}

#[test]
fn after_flush_with_nothing_pending_is_called() {
    let disk = SimDisk::new();
    let log = Node::start(&disk).create();
    let told = Told::default();
    log.after_flush(told.done());
    assert_eq!(told.ok(), 1);
}

#[test]
fn listeners_hear_of_each_flush() {
    let disk = SimDisk::new();
    let log = Node::start(&disk).create();
    let heard = Arc::new(AtomicUsize::new(0));
    let hear = Arc::clone(&heard);
    log.on_written(Arc::new(move || {
        hear.fetch_add(1, Ordering::Relaxed);
    }));
    fill(&log, 1, 3);
    assert_eq!(heard.load(Ordering::Relaxed), 3);
}

#[test]
fn entries_that_do_not_follow_are_refused_as_a_whole() {
    let disk = SimDisk::new();
    let log = Node::start(&disk).create();
    log.append(vec![blank(2, 0)], sure()).unwrap();
    let cases = [
        ("a hole", vec![blank(2, 2)]),
        ("again", vec![blank(2, 0)]),
        ("an older term", vec![blank(1, 1)]),
        ("a hole behind a good one", vec![blank(2, 1), blank(2, 3)]),
    ];
    for (name, entries) in cases {
        let told = Told::default();
        let err = log.append(entries, told.done()).unwrap_err();
        assert!(matches!(err, Error::NotConsecutive { .. }), "{name}: {err}");
        assert_eq!(told.failed(), 1, "{name}: completed all the same");
        assert_eq!(log.last(), Some(at(2, 0)), "{name}");
    }
}

#[test]
fn bodies_that_a_kind_does_not_allow_are_refused() {
    let disk = SimDisk::new();
    let log = Node::start(&disk).create();
    let good = batch(1, 10, 1);
    let mut flipped = good.to_vec();
    flipped[70] ^= 1;
    let mut of_leader = records(1, 0, 0, &[flipped.into()]);
    of_leader.expect_chain = Some(0);
    let cases = [
        ("records without a batch", records(1, 0, 0, &[])),
        ("half a batch", records(1, 0, 0, &[good.slice(..good.len() - 1)])),
        (
            "two batches in one part",
            records(1, 0, 0, &[[good.clone(), good.clone()].concat().into()]),
        ),
        ("a batch with a bad CRC from a leader", of_leader),
        ("over the limit", records(1, 0, 0, &[batch(1, 17 << 20, 1)])),
    ];
    for (name, entry) in cases {
        let err = log.append(vec![entry], any()).unwrap_err();
        assert!(matches!(err, Error::BadBody { .. }), "{name}: {err}");
    }
    assert_eq!(log.last(), None);
}

#[test]
fn a_follower_refuses_another_chain_than_the_leaders() {
    let (disk, other) = (SimDisk::new(), SimDisk::new());
    let leader = Node::start(&disk).create();
    let follower = Node::start(&other).create();
    fill(&leader, 1, 3);
    for entry in all(&leader) {
        let mut copy = records(
            1,
            entry.header.position.index.0,
            entry.header.ordinal,
            &entry.body.load().unwrap(),
        );
        copy.append_time = entry.header.append_time;
        copy.expect_chain = Some(entry.header.chain ^ 1);
        let err = follower.append(vec![copy.clone()], any()).unwrap_err();
        assert!(matches!(err, Error::ChainMismatch { .. }), "{err}");
        copy.expect_chain = Some(entry.header.chain);
        follower.append(vec![copy], sure()).unwrap();
    }
    assert_eq!(contents(&leader), contents(&follower));
    assert_eq!(leader.frontier(), follower.frontier());
}

#[test]
fn records_out_of_turn_are_void_and_take_no_offset() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    let b = |count| batch(count, 10, 7);
    // (term, ordinal, void)
    let script = [
        (1, 0, false),
        (1, 1, false),
        (1, 3, true),
        (1, 2, false),
        (1, 2, true),
        (2, 3, true),
        (2, 0, false),
        (3, 0, false),
        (3, 1, false),
    ];
    let mut offset = 0;
    for (index, (term, ordinal, void)) in script.into_iter().enumerate() {
        let header = log
            .append(vec![records(term, index as u64, ordinal, &[b(2), b(3)])], sure())
            .unwrap()[0];
        assert_eq!(header.void, void, "entry {index}");
        assert_eq!(header.base_offset, Offset(offset), "entry {index}");
        offset += if void { 0 } else { 5 };
        assert_eq!(header.next_offset(), Offset(offset), "entry {index}");
    }
    assert_eq!(log.written_end(), Offset(30));
    assert_eq!(read_all(&log).len(), 12, "void batches are not read");
    let before = (contents(&log), log.frontier());
    drop(log);
    let opened = node.cache_bytes(0).open();
    assert_eq!((contents(&opened.log), opened.log.frontier()), before);
    assert_eq!(read_all(&opened.log).len(), 12);
}

#[test]
fn append_times_never_go_back() {
    let disk = SimDisk::new();
    let log = Node::start(&disk).create();
    let mut times = Vec::new();
    for (index, time) in [10, 5, 20, 19].into_iter().enumerate() {
        let mut entry = blank(1, index as u64);
        entry.append_time = Timestamp(time);
        times.push(log.append(vec![entry], sure()).unwrap()[0].append_time.0);
    }
    assert_eq!(times, [10, 10, 20, 20]);
}

#[test]
fn bodies_on_disk_are_stamped_with_the_offset_and_the_entrys_term() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    let batches = [batch(2, 5, 1), batch(4, 5, 2)];
    log.append(vec![blank(4, 0), records(4, 1, 0, &batches)], sure()).unwrap();
    let in_memory = read_all(&log);
    drop(log);
    let log = node.open().log;
    let from_disk = read_all(&log);
    assert_eq!(in_memory, from_disk);
    for (stored, (base, sent)) in from_disk.iter().zip([(0_u64, &batches[0]), (2, &batches[1])]) {
        assert_eq!(stored[..8], base.to_be_bytes(), "base offset");
        assert_eq!(stored[12..16], 4_i32.to_be_bytes(), "leader epoch");
        assert_eq!(stored[16..], sent[16..], "the rest is the producer's");
        assert_eq!(stored[8..12], sent[8..12], "length");
    }
}

#[test]
fn opaque_bodies_come_back() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    let mut member = command(1, 1, b"who takes part");
    member.kind = Kind::Membership;
    log.append(vec![command(1, 0, b""), member, command(1, 2, b"do it")], sure()).unwrap();
    drop(log);
    let log = node.open().log;
    let bodies: Vec<_> = contents(&log).into_iter().map(|(_, _, body)| body.concat()).collect();
    assert_eq!(bodies, [b"".to_vec(), b"who takes part".to_vec(), b"do it".to_vec()]);
}

#[test]
fn unflushed_entries_stay_in_memory_however_small_the_budget() {
    let disk = SimDisk::new();
    let node = Node::stepped(&disk).cache_bytes(1000);
    let log = node.create();
    for _ in 0..20 {
        let entry = next_records(&log.frontier(), 1, 2, 100);
        log.append(vec![entry], sure()).unwrap();
    }
    assert!(node.config.cache.used() > 1000);
    assert_eq!(log.in_memory(LogIndex(0)..LogIndex(20), 1 << 20).unwrap().len(), 20);
    node.step();
    assert!(node.config.cache.used() <= 1000, "evicted once flushed");
    assert!(log.in_memory(LogIndex(0)..LogIndex(20), 1 << 20).is_none());
    assert_eq!(all(&log).len(), 20, "and read from disk");
    drop(log);
    assert_eq!(node.config.cache.used(), 0, "a dropped log gives its bytes back");
}

#[test]
fn a_busy_log_evicts_an_idle_one() {
    let disk = SimDisk::new();
    let node = Node::start(&disk).cache_bytes(10_000);
    let idle = node.create();
    fill(&idle, 1, 10);
    let other = tidelog_types::GroupId::METADATA;
    let busy =
        tidelog_log::Log::create(node.env.clone(), other, node.config.clone(), None).unwrap();
    fill(&busy, 1, 40);
    assert!(idle.in_memory(LogIndex(0)..LogIndex(9), 1).is_none(), "the oldest goes first");
    assert!(busy.in_memory(LogIndex(39)..LogIndex(40), 1).is_some());
    assert!(node.config.cache.used() <= 10_000);
}

#[test]
fn threads_flush_many_logs_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_owned();
    let node =
        Node::with(Arc::new(OsDisk), data.clone(), Arc::new(ThreadFlusher::new(4).unwrap()), None)
            .unwrap()
            .segment_bytes(16 * 1024)
            .cache_bytes(32 * 1024);
    let groups: Vec<_> = (0..4)
        .map(|n| tidelog_types::GroupId::new(group().topic, tidelog_types::PartitionId(n)))
        .collect();
    let mut written = Vec::new();
    for group in &groups {
        let log =
            tidelog_log::Log::create(node.env.clone(), *group, node.config.clone(), None).unwrap();
        let (done, wait) = std::sync::mpsc::channel();
        for _ in 0..200 {
            let done = done.clone();
            let entry = next_records(&log.frontier(), 1, 3, 200);
            log.append(vec![entry], Box::new(move |r| done.send(r).unwrap())).unwrap();
        }
        drop(done);
        assert_eq!(wait.iter().map(|r| r.unwrap()).count(), 200);
        assert_eq!(log.synced_end(), LogIndex(200));
        written.push(contents(&log));
    }
    assert!(node.env.votes.stats().synced_bytes() > 4 * 200 * 600);
    for (group, written) in groups.iter().zip(&written) {
        let opened = tidelog_log::Log::open(node.env.clone(), *group, node.config.clone()).unwrap();
        assert_eq!(opened.torn_bytes, 0);
        assert_eq!(&contents(&opened.log), written);
        assert_eq!(read_all(&opened.log).len(), 200);
        assert!(opened.log.segments().len() > 5);
    }
}

#[test]
fn a_log_of_many_terms_survives_a_power_cut() {
    let disk = SimDisk::new();
    let log = Node::start(&disk).create();
    for term in 1..10 {
        fill(&log, term, 3);
    }
    let before = contents(&log);
    assert_eq!(log.frontier().ordinal_term, Term(9));
    disk.crash(CrashPlan::LoseAll);
    assert_eq!(contents(&Node::start(&disk).open().log), before);
}

#[test]
fn appending_copies_no_body() {
    let disk = SimDisk::new();
    let log = Node::stepped(&disk).create();
    let sent: Bytes = batch(1, 1000, 1);
    log.append(vec![records(1, 0, 0, std::slice::from_ref(&sent))], any()).unwrap();
    let held = log.in_memory(LogIndex(0)..LogIndex(1), 1).unwrap();
    let part = &held[0].body.in_memory().unwrap()[0];
    assert_eq!(part.as_ptr(), sent.as_ptr());
}
