//! A full disk: what finds no room waits, nothing is told that is not so, and nothing is lost.

use bytes::Bytes;
use tidelog_log::sim::{Action, CrashPlan, Fault, SimDisk};
use tidelog_log::{Error, ErrorKind, Frontier, Log, OpenError, StartPoint, Vote};
use tidelog_types::{GroupId, LogIndex, NodeId, PartitionId, Term};

use crate::support::*;

/// The head of a segment.
const HEAD_BYTES: u64 = 128;

/// A record of a vote on disk.
const RECORD_BYTES: u64 = 88;

/// Leaves so many bytes, whatever is on the disk.
fn leave(disk: &SimDisk, room: u64) {
    disk.limit(used(disk) + room);
}

fn used(disk: &SimDisk) -> u64 {
    disk.image().listing().iter().map(|(_, bytes)| *bytes as u64).sum()
}

/// There is room again, and everything is told.
fn free(disk: &SimDisk, node: &Node) {
    disk.limit(u64::MAX);
    node.env.votes.room().try_again(&*node.env.flusher);
    assert_eq!(node.env.votes.room().awaited_by(), 0);
}

/// Appends entries, and the start points of the segments that they begin.
fn append(log: &Log, count: usize, told: &Told) {
    for _ in 0..count {
        log.append(vec![next_records(&log.frontier(), 1, 2, 100)], told.done()).unwrap();
        if log.starts_at(log.frontier().last.unwrap().index) {
            put_starts(log);
        }
    }
}

fn vote(term: u64) -> Vote {
    Vote { term: Term(term), node: Some(NodeId::new(1, 1)), committed: false }
}

#[test]
fn what_finds_no_room_is_written_once_there_is_some() {
    let mut stuck_in_a_new_segment = 0;
    for room in (0..9000).step_by(137) {
        let disk = SimDisk::new();
        let node = Node::start(&disk);
        let log = node.create();
        leave(&disk, room);
        let told = Told::default();
        append(&log, 100, &told);
        let acked = told.ok();
        assert!(told.all().len() == acked && acked < 100, "room {room}");
        assert!(log.synced_end() >= LogIndex(acked as u64));
        assert!(log.poisoned().is_none());
        assert_eq!(node.env.votes.room().awaited_by(), 1);
        stuck_in_a_new_segment += usize::from(log.segments().last().unwrap().bytes == HEAD_BYTES);

        // What waits can be read, and tried for nothing, and takes no room.
        node.env.votes.room().try_again(&*node.env.flusher);
        assert_eq!((told.ok(), told.failed(), all(&log).len()), (acked, 0, 100));
        let held: u64 = log.segments().iter().map(|segment| segment.bytes).sum();
        assert!(used(&disk) - held < 1500, "room {room}: only what is safe lies there");

        let crashed = SimDisk::resume(disk.timeline());
        crashed.crash(CrashPlan::LoseAll);
        assert!(all(&Node::start(&crashed).open().log).len() >= acked, "room {room}");

        free(&disk, &node);
        assert_eq!((told.ok(), told.failed()), (100, 0), "room {room}");
        let held = contents(&log);
        append(&log, 30, &told);
        assert_eq!(log.synced_end(), LogIndex(130));
        disk.crash(CrashPlan::LoseAll);
        let log = Node::start(&disk).open().log;
        assert_eq!(contents(&log)[..100], held, "room {room}");
        assert_eq!(all(&log).len(), 130);
    }
    assert!(stuck_in_a_new_segment > 3, "{stuck_in_a_new_segment} of the tries");
}

#[test]
fn a_full_disk_may_fill_up_again_and_again() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    let told = Told::default();
    for round in 1..=50 {
        leave(&disk, round * 61);
        append(&log, 40, &told);
        assert_eq!(node.env.votes.room().awaited_by(), 1, "round {round}");
        // A little room is not enough for all of it.
        leave(&disk, 700);
        node.env.votes.room().try_again(&*node.env.flusher);
        assert_eq!(node.env.votes.room().awaited_by(), 1, "round {round}");
        free(&disk, &node);
        assert_eq!((told.ok() as u64, told.failed()), (round * 40, 0));
    }
    let held = contents(&log);
    assert!(log.segments().iter().skip(1).all(|segment| segment.started));
    disk.crash(CrashPlan::LoseAll);
    assert_eq!(contents(&Node::start(&disk).open().log), held);
}

#[test]
fn a_full_disk_refuses_to_cut_and_to_reset_and_changes_nothing() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    append(&log, 20, &Told::default());
    let frontier = Frontier { last: Some(at(3, 89)), ..log.frontier() };
    let start = StartPoint { index: LogIndex(90), frontier, machine: Bytes::from_static(b"state") };
    let refuses = |cut: &dyn Fn() -> Result<(), Error>| {
        let before = contents(&log);
        let err = cut().unwrap_err();
        assert!(matches!(err, Error::Full), "{err}");
        assert_eq!(err.kind(), ErrorKind::Retry);
        assert_eq!(contents(&log), before);
        assert!(log.poisoned().is_none());
    };
    // The votes have no room for the lower mark.
    leave(&disk, 0);
    refuses(&|| log.truncate_after(Some(LogIndex(9))));
    refuses(&|| log.reset(start.clone()));
    free(&disk, &node);
    // The log has none for what is pending, and the new one none for itself.
    leave(&disk, 90);
    let told = Told::default();
    append(&log, 1, &told);
    refuses(&|| log.truncate_after(Some(LogIndex(9))));
    refuses(&|| log.reset(start.clone()));
    free(&disk, &node);
    assert_eq!(told.ok(), 1);
    leave(&disk, 120);
    refuses(&|| log.reset(start.clone()));
    disk.limit(u64::MAX);

    log.truncate_after(Some(LogIndex(9))).unwrap();
    assert_eq!(all(&log).len(), 10);
    log.reset(start).unwrap();
    disk.crash(CrashPlan::LoseAll);
    assert_eq!(Node::start(&disk).open().log.first_index(), LogIndex(90));
}

#[test]
fn a_log_that_is_to_be_closed_waits_no_more() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    leave(&disk, 300);
    let told = Told::default();
    append(&log, 3, &told);
    assert!(told.failed() == 0 && log.waits_for_room());
    log.be_patient(false);
    assert_eq!(told.all().len(), 3);
    let err = told.all().into_iter().find_map(Result::err).unwrap();
    assert!(err.contains("no storage space"), "{err}");
    disk.limit(u64::MAX);
    let acked = told.ok();
    let refused = log.append(vec![blank(9, log.frontier().next_index().0)], told.done());
    assert!(matches!(refused.unwrap_err(), Error::Poisoned { .. }));
    // Nobody waits any more, though what is left of it is tried once.
    node.env.votes.room().try_again(&*node.env.flusher);
    assert_eq!(node.env.votes.room().awaited_by(), 0);
    disk.crash(CrashPlan::KeepAll);
    assert_eq!(all(&Node::start(&disk).open().log).len(), acked);

    // What never had to wait is closed as ever, and may be told to wait after all.
    let calm_disk = SimDisk::new();
    let calm = Node::start(&calm_disk);
    let log = calm.create();
    log.be_patient(false);
    append(&log, 1, &told);
    assert_eq!(told.ok(), acked + 1);
    log.be_patient(true);
    leave(&calm_disk, 0);
    append(&log, 1, &told);
    free(&calm_disk, &calm);
    assert_eq!(told.ok(), acked + 2);
}

#[test]
fn a_log_that_was_retired_leaves_its_directory_alone() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    disk.refuse(Fault { action: Action::Open, path: ".idx".into(), after: 0, times: 1 });
    append(&log, 30, &Told::default());
    log.retire();
    let before = disk.image().listing();
    node.env.votes.room().try_again(&*node.env.flusher);
    log.after_flush(any());
    node.env.flusher.submit(log);
    assert_eq!(disk.image().listing(), before);
}

#[test]
fn votes_wait_for_room() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    drop(node.create());
    let votes = &node.env.votes;
    let other = GroupId::new(group().topic, PartitionId(77));
    votes.create(other, sure());
    leave(&disk, 40);
    let told = Told::default();
    let before = used(&disk);
    for term in 1..=3 {
        votes.save_vote(group(), vote(term), told.done());
    }
    votes.tick();
    assert_eq!((told.all().len(), votes.room().awaited_by()), (0, 1));
    assert_eq!(used(&disk), before, "what got in gives its room back");
    assert!(
        votes.lower_mark(group(), LogIndex(0)).is_err(),
        "nobody may rely on what is not written"
    );
    let crashed = SimDisk::resume(disk.timeline());
    crashed.crash(CrashPlan::LoseAll);
    let reopened = Node::start(&crashed);
    assert_eq!(reopened.env.votes.get(group()).unwrap().vote, None, "nobody was told of one");

    // What waits holds up the log whose record it is.
    assert!(matches!(node.try_open().unwrap_err(), OpenError::Full { .. }));

    free(&disk, &node);
    assert_eq!((told.ok(), told.failed()), (3, 0));
    drop(node.open());
    leave(&disk, 0);
    votes.save_vote(other, vote(1), told.done());
    assert_eq!(votes.room().awaited_by(), 1);
    assert!(node.try_open().is_ok(), "its record is written");
    free(&disk, &node);
    disk.crash(CrashPlan::LoseAll);
    let reopened = Node::start(&disk);
    assert_eq!(reopened.env.votes.get(group()).unwrap().vote, Some(vote(3)));
    assert_eq!(reopened.env.votes.get(other).unwrap().vote, Some(vote(1)));
}

/// What there is no room for may be a name.
#[test]
fn names_wait_for_room() {
    let cases = [
        (Action::Open, ".log"),
        (Action::Open, ".tmp"),
        (Action::Open, ".idx"),
        (Action::Rename, ".tmp"),
    ];
    for (action, path) in cases {
        let mut waited = 0;
        for after in 0..4 {
            let disk = SimDisk::new();
            let node = Node::start(&disk);
            let log = node.create();
            // The start point that follows an entry has it tried again at once.
            let times = if path == ".log" { 2 } else { 1 };
            // An earlier temporary file would be removed first, which needs no room.
            let after = if action == Action::Rename { 1 + 2 * after } else { after };
            disk.refuse(Fault { action, path: path.into(), after, times });
            let told = Told::default();
            for _ in 0..60 {
                append(&log, 1, &told);
                waited += node.env.votes.room().awaited_by();
                node.env.votes.room().try_again(&*node.env.flusher);
                assert_eq!(node.env.votes.room().awaited_by(), 0, "{action:?} {path} {after}");
            }
            assert_eq!((told.ok(), told.failed()), (60, 0), "{action:?} {path} {after}");
            assert!(log.segments().iter().all(|segment| segment.started));
            let names = disk.image().names(&dir()).filter(|name| name.ends_with(".tmp")).count();
            assert_eq!(names, 0);
            let held = contents(&log);
            disk.crash(CrashPlan::LoseAll);
            assert_eq!(contents(&Node::start(&disk).open().log), held);
        }
        assert_eq!(
            waited > 0,
            path != ".idx",
            "{action:?} {path}: an index is waited for by nobody"
        );
    }
}

/// A sync that says it found no room says nothing of what it left: only a file made anew is tried again.
#[test]
fn a_sync_that_finds_no_room_is_final() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    disk.refuse(Fault { action: Action::Sync, path: ".log".into(), after: 0, times: 1 });
    let told = Told::default();
    append(&log, 1, &told);
    assert_eq!(told.failed(), 1);
    assert!(log.poisoned().is_some());
    disk.refuse(Fault { action: Action::Sync, path: "votes".into(), after: 0, times: 1 });
    node.env.votes.save_vote(group(), vote(1), told.done());
    assert_eq!(told.failed(), 2);
    assert!(node.env.votes.poisoned().is_some());
}

/// The power goes while something waits, or was tried again: whatever survives of it opens, with all that
/// was told.
#[test]
fn power_may_go_while_something_waits() {
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let disk = SimDisk::new();
        let node = Node::start(&disk);
        let log = node.create();
        let told = Told::default();
        append(&log, dice.roll(9) as usize, &told);
        leave(&disk, dice.roll(4000));
        append(&log, 40, &told);
        if dice.roll(2) == 0 {
            leave(&disk, dice.roll(900));
            node.env.votes.room().try_again(&*node.env.flusher);
        }
        let acked = told.ok();
        assert_eq!(told.failed(), 0);
        let held = contents(&log);
        disk.crash(CrashPlan::Random(seed));
        disk.limit(u64::MAX);
        let node = Node::start(&disk);
        let log = node.open().log;
        let found = contents(&log);
        assert!(found.len() >= acked && held.starts_with(&found), "seed {seed}");
        append(&log, 20, &told);
        assert_eq!(told.failed(), 0);
    }
}

/// There is no room to write all records anew, but there is some for a new one.
#[test]
fn votes_are_appended_to_where_there_is_no_room_to_write_them_anew() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    drop(node.create());
    let votes = &node.env.votes;
    let file = data().join("votes.log");
    let mut term = 0;
    let mut save = |done| {
        term += 1;
        votes.save_vote(group(), vote(term), done);
        disk.file_len(&file).unwrap()
    };
    // The next record makes it long enough to be written anew, in less than two records.
    while save(sure()) <= 64 * 1024 - RECORD_BYTES {}
    leave(&disk, RECORD_BYTES + 12);
    let told = Told::default();
    let longest = save(told.done());
    assert!(longest > 64 * 1024, "{longest}");
    assert_eq!(told.ok(), 1);
    disk.limit(u64::MAX);
    assert!(save(sure()) < longest);
}

#[test]
fn a_log_whose_vote_record_found_no_room_is_finished_later() {
    let mut finished = 0;
    for room in (0..1000).step_by(8) {
        let disk = SimDisk::new();
        let node = Node::start(&disk);
        leave(&disk, room);
        let made = Log::create(node.env.clone(), group(), node.config.clone(), None);
        if made.is_ok() {
            break;
        }
        assert_eq!(disk.image().names(&dir()).count(), 0, "room {room}");
        // Whoever finds its record opens it, as a node does, and finds no room again.
        let known = |node: &Node| node.env.votes.get(group()).is_some();
        if known(&node) {
            assert!(matches!(node.try_open().unwrap_err(), OpenError::Full { .. }), "room {room}");
        }
        for crash in [true, false] {
            let copy = SimDisk::resume(disk.timeline());
            let node = if crash {
                copy.crash(CrashPlan::LoseAll);
                copy.limit(u64::MAX);
                Node::start(&copy)
            } else {
                disk.limit(u64::MAX);
                Node { env: node.env.clone(), config: node.config.clone(), ..Node::start(&copy) }
            };
            let log = if known(&node) { node.open().log } else { node.create() };
            finished += usize::from(known(&node));
            let told = Told::default();
            append(&log, 3, &told);
            assert_eq!(told.ok(), 3, "room {room}");
        }
    }
    assert!(finished > 0);
}

#[test]
fn a_full_disk_opens_what_is_on_it() {
    let disk = SimDisk::new();
    let node = Node::start(&disk);
    let log = node.create();
    append(&log, 60, &Told::default());
    let held = contents(&log);
    drop((log, node));
    disk.crash(CrashPlan::LoseAll);
    leave(&disk, 0);
    let node = Node::start(&disk);
    let log = node.open().log;
    assert_eq!(contents(&log), held);
    let told = Told::default();
    append(&log, 1, &told);
    assert_eq!(told.all().len(), 0);
    free(&disk, &node);
    assert_eq!(told.ok(), 1);
}
