//! The votes of a node.

use std::sync::Arc;

use tidelog_log::flusher::{InlineFlusher, StepFlusher};
use tidelog_log::sim::{Action, CrashPlan, Fault, SimDisk};
use tidelog_log::{OpenError, Vote, VotesLog};
use tidelog_types::{GroupId, LogIndex, NodeId, PartitionId, Term};

use crate::support::*;

const HEAD_BYTES: u64 = 64;
const RECORD_BYTES: u64 = 88;

fn file() -> std::path::PathBuf {
    std::path::PathBuf::from("/votes.log")
}

fn open(disk: &SimDisk) -> Result<Arc<VotesLog>, OpenError> {
    VotesLog::open(Arc::new(disk.clone()), file(), Arc::new(InlineFlusher::default()), NODE)
}

fn vote(term: u64) -> Vote {
    Vote { term: Term(term), node: Some(NODE), committed: false }
}

fn other() -> GroupId {
    GroupId::new(group().topic, PartitionId(99))
}

#[test]
fn votes_survive_a_power_cut() {
    let disk = SimDisk::new();
    let votes = open(&disk).unwrap();
    votes.create(group(), sure());
    votes.create(other(), sure());
    for term in 1..20 {
        votes.save_vote(group(), vote(term), sure());
    }
    votes.note_commit(other(), at(3, 8));
    votes.raise_mark(other(), LogIndex(7));
    disk.crash(CrashPlan::LoseAll);
    let votes = open(&disk).unwrap();
    assert_eq!(votes.get(group()).unwrap().vote, Some(vote(19)));
    let record = votes.get(other()).unwrap();
    assert_eq!((record.commit, record.mark), (None, LogIndex(0)), "only noted");

    votes.note_commit(other(), at(3, 8));
    votes.note_commit(other(), at(2, 9));
    votes.raise_mark(other(), LogIndex(7));
    votes.raise_mark(other(), LogIndex(5));
    votes.tick();
    disk.crash(CrashPlan::LoseAll);
    let record = open(&disk).unwrap().get(other()).unwrap();
    assert_eq!((record.commit, record.mark), (Some(at(3, 8)), LogIndex(7)));
}

#[test]
fn many_votes_share_one_sync() {
    let disk = SimDisk::new();
    let steps = Arc::new(StepFlusher::default());
    let votes = VotesLog::open(Arc::new(disk.clone()), file(), steps.clone(), NODE).unwrap();
    let told = Told::default();
    for n in 0..500 {
        let group = GroupId::new(group().topic, PartitionId(n));
        votes.create(group, told.done());
        votes.save_vote(group, vote(4), told.done());
    }
    assert_eq!((steps.queued(), told.ok()), (1, 0));
    steps.run();
    assert_eq!((told.ok(), votes.stats().syncs()), (1000, 1));
    assert_eq!(open(&disk).unwrap().groups().len(), 500);
}

#[test]
fn a_vote_that_goes_back_is_refused() {
    let votes = open(&SimDisk::new()).unwrap();
    let told = Told::default();
    votes.save_vote(group(), vote(1), told.done());
    assert_eq!(told.failed(), 1, "unknown group");
    votes.create(group(), sure());
    votes.save_vote(group(), vote(5), sure());
    votes.save_vote(group(), vote(4), told.done());
    let rival = Vote { node: Some(NodeId::new(2, 1)), ..vote(5) };
    votes.save_vote(group(), rival, told.done());
    assert_eq!(told.failed(), 3);
    assert_eq!(votes.get(group()).unwrap().vote, Some(vote(5)));
    votes.save_vote(group(), Vote { committed: true, ..rival }, sure());
}

#[test]
fn a_lowered_mark_is_durable_on_return() {
    let disk = SimDisk::new();
    let votes = open(&disk).unwrap();
    votes.create(group(), sure());
    votes.raise_mark(group(), LogIndex(50));
    votes.tick();
    votes.lower_mark(group(), LogIndex(20)).unwrap();
    disk.crash(CrashPlan::LoseAll);
    assert_eq!(open(&disk).unwrap().get(group()).unwrap().mark, LogIndex(20));
}

#[test]
fn the_file_is_compacted_and_stays_small() {
    let disk = SimDisk::new();
    let votes = open(&disk).unwrap();
    for n in 0..10 {
        votes.create(GroupId::new(group().topic, PartitionId(n)), sure());
    }
    for term in 1..5000 {
        votes.save_vote(
            GroupId::new(group().topic, PartitionId(term as u32 % 10)),
            vote(term),
            sure(),
        );
    }
    assert!(disk.file_len(&file()).unwrap() < 70 * 1024);
    disk.crash(CrashPlan::LoseAll);
    let votes = open(&disk).unwrap();
    for (group, record) in votes.groups() {
        let newest = (4990..5000).find(|term| term % 10 == u64::from(group.partition.0)).unwrap();
        assert_eq!(record.vote, Some(vote(newest)));
    }
}

#[test]
fn damage_to_a_vote_that_was_vouched_for_is_an_error_at_every_bit() {
    let disk = SimDisk::new();
    let votes = open(&disk).unwrap();
    votes.create(group(), sure());
    votes.save_vote(group(), vote(1), sure());
    votes.save_vote(group(), vote(2), sure());
    let newest = HEAD_BYTES + 2 * RECORD_BYTES;
    assert_eq!(disk.file_len(&file()).unwrap(), newest + RECORD_BYTES);
    let unsealed = disk.image();
    votes.tick();
    votes.tick();
    assert_eq!(disk.file_len(&file()).unwrap(), newest + 2 * RECORD_BYTES, "vouched for once");
    let sealed = disk.image();

    for bit in 0..RECORD_BYTES * 8 {
        let disk = SimDisk::of(sealed.clone());
        disk.flip(&file(), newest * 8 + bit).unwrap();
        assert!(matches!(open(&disk).unwrap_err(), OpenError::Corrupt { .. }), "bit {bit}");
        // What only vouches can be lost without harm.
        let disk = SimDisk::of(sealed.clone());
        disk.flip(&file(), (newest + RECORD_BYTES) * 8 + bit).unwrap();
        assert_eq!(open(&disk).unwrap().get(group()).unwrap().vote, Some(vote(2)), "bit {bit}");
        // Before that, damage cannot be told from a torn write.
        let disk = SimDisk::of(unsealed.clone());
        disk.flip(&file(), newest * 8 + bit).unwrap();
        assert_eq!(open(&disk).unwrap().get(group()).unwrap().vote, Some(vote(1)), "bit {bit}");
    }
    for bit in 0..HEAD_BYTES * 8 {
        let disk = SimDisk::of(sealed.clone());
        disk.flip(&file(), bit).unwrap();
        open(&disk).unwrap_err();
    }
}

#[test]
fn damage_to_a_compacted_file_is_an_error() {
    let disk = SimDisk::new();
    let votes = open(&disk).unwrap();
    votes.create(group(), sure());
    let mut term = 1;
    while disk.file_len(&file()).unwrap() != HEAD_BYTES + RECORD_BYTES || term < 100 {
        votes.save_vote(group(), vote(term), sure());
        term += 1;
    }
    disk.flip(&file(), (HEAD_BYTES + 60) * 8).unwrap();
    assert!(matches!(open(&disk).unwrap_err(), OpenError::Corrupt { .. }));
}

#[test]
fn votes_of_another_node_are_refused() {
    let disk = SimDisk::new();
    open(&disk).unwrap();
    let stranger = NodeId::new(2, 1);
    let err = VotesLog::open(Arc::new(disk), file(), Arc::new(InlineFlusher::default()), stranger)
        .unwrap_err();
    assert!(matches!(err, OpenError::Foreign { .. }), "{err}");
}

#[test]
fn the_first_failure_poisons_the_votes() {
    for action in [Action::Write, Action::Sync] {
        let disk = SimDisk::new();
        let votes = open(&disk).unwrap();
        votes.create(group(), sure());
        votes.save_vote(group(), vote(1), sure());
        disk.fail(Fault { action, path: "votes".into(), after: 0, times: 1 });
        let told = Told::default();
        votes.save_vote(group(), vote(2), told.done());
        votes.save_vote(group(), vote(3), told.done());
        assert_eq!(told.failed(), 2, "the second though the disk is well again");
        assert!(votes.poisoned().is_some());
        assert!(votes.lower_mark(group(), LogIndex(0)).is_err());
        disk.crash(CrashPlan::LoseAll);
        assert_eq!(open(&disk).unwrap().get(group()).unwrap().vote, Some(vote(1)));
    }
}
