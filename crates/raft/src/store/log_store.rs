//! openraft's log storage over one group's log and the node's vote journal.

use std::fmt;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, RaftLogReader};
use tidelog_log as log;
use tidelog_log::{Log, VotesLog};
use tidelog_types::{GroupId, LogIndex, canary, failpoint};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};

use super::entry;
use crate::config::{Entry, LogId, TypeConfig, Vote, log_id, position, raft_vote, stored_vote};
use crate::executor::{self, Executor};
use crate::node::Suspect;
use crate::space;

/// Bytes of entries in one replication message; one entry always passes.
const REPLICATION_BYTES_MAX: usize = 1024 * 1024;

/// How long a follower waits for entries that are damaged here.
const MENDED_WITHIN: Duration = Duration::from_secs(30);

/// How often they are read again.
const MENDED_CHECK: Duration = Duration::from_millis(200);

/// Entries handed to apply at a time, so that a restart does not list a whole log at once.
const APPLY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The log storage of one group. Clones are readers of the same log.
#[derive(Clone)]
pub(crate) struct LogStore {
    group: GroupId,
    log: Arc<Log>,
    votes: Arc<VotesLog>,
    executor: Arc<dyn Executor>,
    suspects: mpsc::Sender<Suspect>,
    damage: Arc<OnceLock<String>>,
    /// True once the replica is to end, whatever it waits for.
    closing: watch::Receiver<bool>,
}

impl fmt::Debug for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStore").field("group", &self.group).finish_non_exhaustive()
    }
}

impl LogStore {
    pub(crate) fn new(
        group: GroupId,
        log: Arc<Log>,
        votes: Arc<VotesLog>,
        executor: Arc<dyn Executor>,
        suspects: mpsc::Sender<Suspect>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self { group, log, votes, executor, suspects, damage: Arc::default(), closing }
    }

    /// Waits for a completion, which a full disk holds up: not when the replica is to end.
    async fn written(&mut self, done: Completion) -> io::Result<()> {
        let closes = async {
            // Nobody is left to say so.
            if self.closing.wait_for(|closing| *closing).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            done = settled(done) => done,
            () = closes => Err(io::Error::other("the replica is closed")),
        }
    }

    /// Entries of `range` without bodies of records, as apply wants them; a prefix when many.
    async fn heads(&self, range: Range<LogIndex>) -> io::Result<Vec<Entry>> {
        if let Some(entries) = self.log.in_memory(range.clone(), APPLY_BYTES_MAX) {
            return entries.into_iter().map(entry::from_log).collect();
        }
        let log = Arc::clone(&self.log);
        let read = executor::run(&*self.executor, move || {
            let entries = log.entries(range, APPLY_BYTES_MAX);
            entries.map(|entries| entries.into_iter().map(entry::from_log).collect())
        });
        read.await?.map_err(|err| self.refused(err))?
    }

    /// An error of the log for the engine, which keeps nothing of it but the text.
    fn refused(&self, err: log::Error) -> io::Error {
        if err.kind() == log::ErrorKind::Corrupt {
            // The first that was met is enough.
            let _ = self.damage.set(err.to_string());
        }
        io::Error::other(err)
    }

    /// Damage that the engine has met.
    pub(crate) fn damage(&self) -> Arc<OnceLock<String>> {
        Arc::clone(&self.damage)
    }

    /// Entries of `range` with their bodies in memory, as replication sends them.
    async fn whole(&self, range: Range<LogIndex>) -> io::Result<Vec<Entry>> {
        if let Some(entries) = self.log.in_memory(range.clone(), REPLICATION_BYTES_MAX) {
            return entries.into_iter().map(entry::from_log).collect();
        }
        let entries = self.load(range).await?;
        entries.into_iter().map(entry::from_log).collect()
    }

    /// Entries from disk. Where they are damaged they may come back soon, from a follower that has
    /// them: an error would stop the engine, and only one follower waits here.
    async fn load(&self, range: Range<LogIndex>) -> io::Result<Vec<log::Entry>> {
        let deadline = Instant::now() + MENDED_WITHIN;
        loop {
            let (log, range) = (Arc::clone(&self.log), range.clone());
            let load = move || log.load(range, REPLICATION_BYTES_MAX);
            match executor::run(&*self.executor, load).await? {
                Ok(entries) => return Ok(entries),
                Err(err) if err.kind() == log::ErrorKind::Corrupt && Instant::now() < deadline => {
                    Suspect::tell(&self.suspects, self.group, &err);
                    sleep(MENDED_CHECK).await;
                }
                Err(err) => return Err(self.refused(err)),
            }
        }
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + fmt::Debug + Send>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let wanted = bounds(&range, self.log.frontier().last.map(|last| last.index));
        let mut entries: Vec<Entry> = Vec::new();
        while entries.len() < (wanted.end.0.saturating_sub(wanted.start.0)) as usize {
            let from = wanted.start.plus(entries.len() as u64);
            let more = self.heads(from..wanted.end).await?;
            if more.is_empty() {
                break;
            }
            entries.extend(more);
        }
        Ok(entries)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.whole(LogIndex(start)..LogIndex(end)).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self
            .votes
            .get(self.group)
            .and_then(|record| record.vote)
            .and_then(|vote| raft_vote(&vote)))
    }
}

/// The half-open range of indexes that `range` names, cut at the end of the log.
fn bounds(range: &impl RangeBounds<u64>, last: Option<LogIndex>) -> Range<LogIndex> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start + 1,
        Bound::Unbounded => 0,
    };
    let log_end = last.map_or(0, |last| last.0 + 1);
    let end = match range.end_bound() {
        Bound::Included(end) => end + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => log_end,
    };
    LogIndex(start)..LogIndex(end.min(log_end).max(start))
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let purged = self.log.purged().map(log_id);
        let last = self.log.frontier().last.map(log_id);
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.or(purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    /// Saves the vote after everything appended before it: openraft takes a vote's completion as
    /// covering earlier appends (H12), so an unsynced one must never hide behind it.
    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        if canary!(VoteNotSaved) {
            return Ok(());
        }
        if !canary!(VoteOvertakesAppend) {
            let (done, flushed) = oneshot::channel();
            self.log.after_flush(notify(done));
            self.written(flushed).await?;
        }

        failpoint!("replica", "vote", Before);
        let (done, saved) = oneshot::channel();
        self.votes.save_vote(self.group, stored_vote(vote), notify(done));
        self.written(saved).await?;
        failpoint!("replica", "vote", After);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(committed) = committed {
            self.votes.note_commit(self.group, position(&committed));
        }
        Ok(())
    }

    /// The saved commit or the last entry on disk, whichever is smaller: a commit can come from two
    /// followers before this replica's own fsync, and openraft refuses one above its log.
    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let saved = self.votes.get(self.group).and_then(|record| record.commit);
        let start = self.log.newest_start_position();
        let last = self.log.frontier().last;
        // A start point is written only once apply has passed it, so it is committed too.
        if canary!(SavedCommitTrusted) {
            return Ok(saved.max(start).map(log_id));
        }
        let Some(commit) = saved.max(start).min(last) else { return Ok(None) };
        let log = Arc::clone(&self.log);
        let at = executor::run(&*self.executor, move || log.position_of(commit.index))
            .await?
            .map_err(io::Error::other)?;
        Ok(at.map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries = entries.into_iter().map(entry::into_new).collect::<io::Result<Vec<_>>>()?;
        let done: log::Done = Box::new(move |result| {
            failpoint!("replica", "append", After);
            callback.io_completed(result.map_err(|err| io::Error::new(err.kind(), err)));
        });
        failpoint!("replica", "append", Before);
        self.log.append(entries, done).map_err(io::Error::other)?;
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let log = Arc::clone(&self.log);
        let last = last.map(|id| LogIndex(id.index));
        failpoint!("replica", "truncate", Before);
        space::run(&*self.executor, self.group, move || log.truncate_after(last)).await?;
        failpoint!("replica", "truncate", After);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let log = Arc::clone(&self.log);
        failpoint!("replica", "purge", Before);
        executor::run(&*self.executor, move || log.purge(LogIndex(upto.index)))
            .await?
            .map_err(io::Error::other)?;
        failpoint!("replica", "purge", After);
        Ok(())
    }
}

fn notify(done: oneshot::Sender<Result<(), Arc<io::Error>>>) -> log::Done {
    Box::new(move |result| {
        // openraft drops the wait only when the group stops.
        let _ = done.send(result);
    })
}

type Completion = oneshot::Receiver<Result<(), Arc<io::Error>>>;

async fn settled(done: Completion) -> io::Result<()> {
    match done.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(err)) => Err(io::Error::new(err.kind(), err)),
        Err(_) => Err(io::Error::other("flusher stopped")),
    }
}
