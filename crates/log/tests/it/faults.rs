//! Failing disks: fail stop, never a wrong completion.

use tidelog_log::sim::{Action, CrashPlan, Fault, SimDisk};
use tidelog_log::{Error, ErrorKind, Vote};
use tidelog_types::{LogIndex, NodeId, Term};

use crate::support::*;

/// Appends until something fails; how many were completed without an error.
fn append_until_refused(log: &tidelog_log::Log, told: &Told) -> usize {
    for _ in 0..200 {
        let entry = next_records(&log.frontier(), 1, 2, 100);
        if log.append(vec![entry], told.done()).is_err() {
            break;
        }
    }
    told.ok()
}

#[test]
fn the_first_failure_poisons_the_log_and_nothing_is_lost() {
    let actions = [
        (Action::Write, ".log"),
        (Action::Sync, ".log"),
        (Action::SyncDir, ""),
        (Action::Open, ".log"),
    ];
    for (action, path) in actions {
        for after in 0..6 {
            let disk = SimDisk::new();
            let node = Node::start(&disk);
            let log = node.create();
            disk.fail(Fault { action, path: path.into(), after, times: 1 });
            let told = Told::default();
            let acked = append_until_refused(&log, &told);
            assert!(told.failed() >= 1, "{action:?} {after}");
            assert!(log.poisoned().is_some());
            assert_eq!(log.synced_end(), LogIndex(acked as u64));

            // The disk is well again: nothing is retried.
            disk.heal();
            let later = Told::default();
            let err = log.append(vec![blank(9, log.frontier().next_index().0)], later.done());
            assert!(matches!(err.unwrap_err(), Error::Poisoned { .. }));
            log.after_flush(later.done());
            assert_eq!((later.ok(), later.failed()), (0, 2));
            assert_eq!(log.truncate_after(None).unwrap_err().kind(), ErrorKind::Fatal);
            assert_eq!(log.purge(LogIndex(0)).unwrap_err().kind(), ErrorKind::Fatal);

            disk.crash(CrashPlan::LoseAll);
            let opened = Node::start(&disk).open();
            assert_eq!(all(&opened.log).len(), acked, "{action:?} {after}");
        }
    }
}

#[test]
fn a_failed_read_is_an_error_and_not_the_end_of_the_log() {
    let disk = SimDisk::new();
    let node = Node::start(&disk).cache_bytes(0);
    let log = node.create();
    fill(&log, 1, 30);
    disk.fail(Fault { action: Action::Read, path: ".log".into(), after: 0, times: 3 });
    assert_eq!(log.read(offset(0), offset(60), 100).unwrap_err().kind(), ErrorKind::Fatal);
    assert!(log.entries(LogIndex(3)..LogIndex(9), 100).is_err());
    assert!(log.position_of(LogIndex(2)).is_err());
    assert_eq!(all(&log).len(), 30);
    fill(&log, 1, 1);
}

#[test]
fn a_failure_while_a_log_is_cut_leaves_a_log_that_opens() {
    let actions = [Action::Open, Action::Write, Action::Sync, Action::SyncDir, Action::Rename];
    type Cut = fn(&tidelog_log::Log) -> Result<(), Error>;
    let cuts: [(&str, Cut, std::ops::RangeInclusive<usize>); 2] = [
        ("truncate", |log| log.truncate_after(Some(LogIndex(7))), 8..=30),
        ("purge", |log| log.purge(LogIndex(29)), 1..=30),
    ];
    for (name, cut, left) in cuts {
        for action in actions {
            for after in 0..12 {
                let disk = SimDisk::new();
                let node = Node::start(&disk);
                let log = node.create();
                fill(&log, 1, 30);
                put_starts(&log);
                node.env.votes.tick();
                let before = contents(&log);
                disk.fail(Fault { action, path: String::new(), after, times: 1 });
                let failed = cut(&log).is_err();
                assert_eq!(failed, log.poisoned().is_some() || node.env.votes.poisoned().is_some());
                for plan in [CrashPlan::LoseAll, CrashPlan::KeepAll] {
                    let copy = SimDisk::resume(disk.timeline());
                    copy.crash(plan);
                    let log = Node::start(&copy).open().log;
                    let after = contents(&log);
                    assert!(left.contains(&after.len()), "{name} {action:?}: {}", after.len());
                    assert!(before.windows(after.len()).any(|window| window == after));
                }
            }
        }
    }
}

/// The page cache shows what a failed sync did not bring to the disk, and takes it for clean: a process
/// that restarts, on a machine that does not, must not believe that its own sync covers it.
#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_written_again() {
    for path in ["0000.log", "votes.log"] {
        let disk = SimDisk::new();
        let node = Node::start(&disk);
        let log = node.create();
        fill(&log, 1, 3);
        disk.fail(Fault { action: Action::Sync, path: path.into(), after: 0, times: 1 });
        let vote = Vote { term: Term(7), node: Some(NodeId::new(1, 1)), committed: false };
        node.env.votes.save_vote(group(), vote, any());
        let entry = next_records(&log.frontier(), 1, 2, 100);
        log.append(vec![entry], any()).unwrap();
        disk.kill();

        let seen = |node: Node| {
            let log = node.open().log;
            (all(&log).len(), node.env.votes.get(group()).unwrap().vote)
        };
        let found = seen(Node::start(&disk));
        disk.crash(CrashPlan::LoseAll);
        assert_eq!(seen(Node::start(&disk)), found, "after a failed sync of {path}");
    }
}
