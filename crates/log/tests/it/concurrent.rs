//! Readers, a writer, retention and flusher threads at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tidelog_log::flusher::ThreadFlusher;
use tidelog_log::sim::{CrashPlan, SimDisk};
use tidelog_log::{Error, ErrorKind, Log};
use tidelog_types::batch::{Info, verify_crc};
use tidelog_types::{LogIndex, Offset};

use crate::support::*;

/// What was committed: the CRC of each batch by its offset. A reader must see these and no others.
#[derive(Default)]
struct Truth {
    batches: Mutex<BTreeMap<u64, u32>>,
    high_watermark: AtomicU64,
    stop: AtomicBool,
}

fn read_on(log: &Log, truth: &Truth, mut dice: u64) -> usize {
    let mut seen = 0;
    while !truth.stop.load(Ordering::Acquire) {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let end = truth.high_watermark.load(Ordering::Acquire);
        let start = log.log_start().0;
        if end <= start {
            std::thread::yield_now();
            continue;
        }
        let from = start + (dice >> 33) % (end - start);
        match log.read(Offset(from), Offset(end), 3000) {
            Ok(read) => {
                let truth = truth.batches.lock().unwrap();
                let mut next = None;
                for bytes in read.batches {
                    verify_crc(&bytes).unwrap();
                    let info = Info::read(&bytes).unwrap();
                    assert_eq!(truth.get(&info.base_offset.0), Some(&info.crc));
                    assert!(next.is_none_or(|next| next == info.base_offset));
                    next = Some(info.next_offset());
                    seen += 1;
                }
            }
            // Trimmed, or purged, between the look and the read.
            Err(Error::OutOfRange { .. }) => {}
            Err(err) => assert_eq!(err.kind(), ErrorKind::Retry, "{err}"),
        }
    }
    seen
}

#[test]
fn readers_see_only_what_was_committed() {
    let disk = SimDisk::new();
    let flusher = Arc::new(ThreadFlusher::new(3).unwrap());
    let node = Node::with(Arc::new(disk.clone()), data(), flusher, None)
        .unwrap()
        .segment_bytes(6000)
        .cache_bytes(5000);
    let log = node.create();
    let truth = Arc::new(Truth::default());
    let readers: Vec<_> = (0..3)
        .map(|n| {
            let (log, truth) = (Arc::clone(&log), Arc::clone(&truth));
            std::thread::spawn(move || read_on(&log, &truth, n * 77 + 1))
        })
        .collect();

    let mut term = 1;
    for round in 0..300_u64 {
        let committed = log.frontier();
        let append = |log: &Log, term| {
            let entry = next_records(&log.frontier(), term, 2, 200 + (round as usize * 7) % 900);
            let info = Info::read(&entry.body[0]).unwrap();
            let header = log.append(vec![entry], sure()).unwrap()[0];
            (header.base_offset.0, info.crc)
        };
        if round % 7 == 3 {
            // A tail that is never committed is cut again.
            for _ in 0..3 {
                append(&log, term);
            }
            log.truncate_after(committed.last.map(|last| last.index)).unwrap();
            term += 1;
            assert_eq!(log.frontier(), committed);
        }
        let fresh: Vec<_> = (0..3).map(|_| append(&log, term)).collect();
        let (done, wait) = std::sync::mpsc::channel();
        log.after_flush(Box::new(move |result| done.send(result).unwrap()));
        wait.recv().unwrap().unwrap();
        truth.batches.lock().unwrap().extend(fresh);
        truth.high_watermark.store(log.written_end().0, Ordering::Release);
        if round % 20 == 19 {
            put_starts(&log);
            let last = log.last().unwrap().index;
            log.purge(LogIndex(last.0.saturating_sub(60))).unwrap();
        }
    }
    truth.stop.store(true, Ordering::Release);
    let seen: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
    println!("{seen} batches were read meanwhile");
    assert!(log.first_index() > LogIndex::ZERO, "something was purged");
    let before = contents(&log);
    drop(log);
    disk.crash(CrashPlan::LoseAll);
    assert_eq!(contents(&Node::start(&disk).open().log), before);
}
