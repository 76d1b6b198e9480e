//! What the engine may trust of this storage: no vote overtakes an append on its way to the disk, and
//! no commit is above the log.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::poll;
use openraft::storage::{IOFlushed, RaftLogStorage};
use tidelog_log::disk::Disk;
use tidelog_log::flusher::StepFlusher;
use tidelog_log::sim::SimDisk;
use tidelog_log::{self as log, CacheBudget, Log, VotesLog};
use tidelog_types::{GroupId, LogIndex, LogPosition, NodeId, Term};

use super::log_store::LogStore;
use crate::config::{Entry, Payload, Vote, log_id};
use crate::executor::InlineExecutor;

const GROUP: GroupId = GroupId::METADATA;

/// A storage whose disk is written and synced only when the test says so.
struct Fixture {
    steps: Arc<StepFlusher>,
    votes: Arc<VotesLog>,
    store: LogStore,
}

impl Fixture {
    fn new() -> Self {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
        let data = PathBuf::from("data");
        disk.create_dir(&data).unwrap();
        let steps = Arc::new(StepFlusher::default());
        let (path, node) = (data.join("votes.log"), NodeId::new(1, 1));
        let votes = VotesLog::open(Arc::clone(&disk), path, steps.clone(), node).unwrap();
        let env = log::Env {
            disk,
            data,
            votes: Arc::clone(&votes),
            flusher: steps.clone(),
            generations: Arc::new(|| 1),
        };
        let config = log::Config::new(Arc::new(CacheBudget::new(1024 * 1024)));
        let log = Log::create(env, GROUP, config, None).unwrap();
        let store = LogStore::new(
            GROUP,
            log,
            Arc::clone(&votes),
            Arc::new(InlineExecutor),
            tokio::sync::mpsc::channel(1).0,
            tokio::sync::watch::channel(false).1,
        );
        steps.run();
        Self { steps, votes, store }
    }

    async fn append(&mut self, index: u64) {
        let entry = Entry::at(at(index), Payload::Blank);
        self.store.append([entry], IOFlushed::noop()).await.unwrap();
    }
}

fn at(index: u64) -> LogPosition {
    LogPosition { term: Term(1), index: LogIndex(index) }
}

/// Hazard H12: the engine takes a vote's completion as covering every earlier append.
#[tokio::test]
async fn vote_is_not_even_begun_before_all_that_was_appended_is_on_disk() {
    let mut fixture = Fixture::new();
    fixture.append(0).await;
    let (steps, votes) = (Arc::clone(&fixture.steps), Arc::clone(&fixture.votes));
    let vote = Vote::new(2, NodeId::new(1, 1));
    let mut saving = Box::pin(fixture.store.save_vote(&vote));
    assert!(poll!(&mut saving).is_pending());
    assert_eq!(votes.get(GROUP).unwrap().vote, None, "the vote waits for the entry");
    steps.run();
    assert!(poll!(&mut saving).is_pending());
    assert!(votes.get(GROUP).unwrap().vote.is_some(), "the entry is synced, the vote is next");
    steps.run();
    saving.await.unwrap();
}

/// Hazard H5: a commit can come from two followers before this replica's own fsync, and the entries
/// that it speaks of are lost with the power.
#[tokio::test]
async fn saved_commit_above_the_log_is_cut_to_it() {
    let mut fixture = Fixture::new();
    fixture.append(0).await;
    fixture.append(1).await;
    fixture.steps.run();
    fixture.store.save_committed(Some(log_id(at(7)))).await.unwrap();
    assert_eq!(fixture.store.read_committed().await.unwrap(), Some(log_id(at(1))));
}
