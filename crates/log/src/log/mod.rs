//! One group's log.

mod append;
mod compact;
mod compacted;
mod create;
mod cut;
mod describe;
mod env;
mod flush;
mod look;
mod mend;
mod read;
mod recover;
mod rewrite;
mod roll;
mod salvage;
mod scrub;
mod starts;
mod state;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use tidelog_types::{GroupId, LogIndex};

pub use compact::{CompactLimits, CompactReport, CompactStep, Compaction};
pub use compacted::Compacted;
pub use env::{Config, Done, Env, Generations, Listener, Opened, Read, SegmentInfo};
pub use mend::Mending;
pub use salvage::Salvaged;
pub use scrub::{Damage, DamagedFile, Scrub, Scrubbed};
use state::State;

use crate::error::Error;
use crate::room::Failure;
use crate::segment::Segment;

/// How many closed segments of a log keep their file open and their index points loaded.
const HOT_SEGMENTS_MAX: usize = 4;

/// One group's log on disk: `<data>/<group>/<first index>.log | .idx | .start`.
///
/// Invariants:
/// - The segments follow one another without a hole; there is at least one, and only the last one
///   is written to.
/// - The first segment begins at index 0 or has its start point on disk.
/// - Everything that is not on stable storage is in memory.
/// - What was completed without an error is on stable storage.
pub struct Log {
    me: Weak<Self>,
    group: GroupId,
    dir: PathBuf,
    env: Env,
    config: Config,
    state: Mutex<State>,
    /// The flush lock: held by whoever writes to the last segment. The one lock held across I/O.
    turn: Mutex<()>,
    /// Serialises truncate, purge and reset.
    upkeep: Mutex<()>,
    /// A flush job was submitted and has not begun.
    queued: AtomicBool,
    /// The closed segments that were used last, newest first.
    hot: Mutex<VecDeque<Arc<Segment>>>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("group", &self.group).finish_non_exhaustive()
    }
}

impl Log {
    fn new(env: Env, group: GroupId, config: Config, state: State) -> Arc<Self> {
        let dir = directory(&env.data, group);
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            group,
            dir,
            env,
            config,
            state: Mutex::new(state),
            turn: Mutex::default(),
            upkeep: Mutex::default(),
            queued: AtomicBool::new(false),
            hot: Mutex::default(),
        })
    }

    /// The group.
    #[must_use]
    pub const fn group(&self) -> GroupId {
        self.group
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Has a flush job run, if none waits already.
    fn submit(&self) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        // Without an owner left there is nobody to flush for.
        if let Some(me) = self.me.upgrade() {
            self.env.flusher.submit(me);
        }
    }

    /// Stops the log for good: every pending and later completion gets this error.
    fn poison(&self, err: io::Error) -> Arc<io::Error> {
        let (poison, done) = {
            let mut state = self.state();
            let poison = state.poison.get_or_insert_with(|| Arc::new(err)).clone();
            (poison, std::mem::take(&mut state.done))
        };
        for done in done {
            done(Err(Arc::clone(&poison)));
        }
        poison
    }

    fn poisoned_by(&self, err: io::Error) -> Error {
        Error::Poisoned { source: self.poison(err) }
    }

    fn failed(&self, failure: Failure) -> Error {
        match failure {
            Failure::Full(_) if !self.state().ends => Error::Full,
            Failure::Full(err) | Failure::Final(err) => self.poisoned_by(err),
        }
    }

    /// The failure that poisoned the log, if one did.
    #[must_use]
    pub fn poisoned(&self) -> Option<Arc<io::Error>> {
        self.state().poison.clone()
    }

    fn alive(&self) -> Result<(), Error> {
        match self.poisoned() {
            Some(source) => Err(Error::Poisoned { source }),
            None => Ok(()),
        }
    }

    /// Ends all work on the files: they may be another log's from now on, opened anew. What is read
    /// goes on as long as it finds them. Blocks.
    pub fn retire(&self) {
        let _upkeep = lock(&self.upkeep);
        let _turn = lock(&self.turn);
        self.poison(io::Error::other("the log was closed"));
    }

    /// Lets entries below `end` leave the memory, as far as they are flushed.
    pub(crate) fn evict(&self, end: LogIndex) {
        let freed = self.state().evict(end);
        self.config.cache.give_back(freed);
    }

    /// Whether entries below `end` are in memory.
    pub(crate) fn holds_below(&self, end: LogIndex) -> bool {
        self.state().tail.front().is_some_and(|first| first.header.position.index < end)
    }

    /// Notes that a closed segment is in use, and lets go of the one that was not for longest.
    fn touch(&self, segment: &Arc<Segment>) {
        let mut hot = lock(&self.hot);
        hot.retain(|other| !Arc::ptr_eq(other, segment));
        hot.push_front(Arc::clone(segment));
        if hot.len() > HOT_SEGMENTS_MAX
            && let Some(cold) = hot.pop_back()
            && !self.state().is_last(&cold)
        {
            cold.release();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let held = self.state().drop_tail();
        self.config.cache.give_back(held);
    }
}

/// The directory of a group.
fn directory(data: &Path, group: GroupId) -> PathBuf {
    data.join(group.to_string())
}

/// The name of a segment's file.
fn file_name(first_index: LogIndex, extension: &str) -> String {
    format!("{:020}.{extension}", first_index.0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a panic under a lock of the log leaves nothing to go on with")
}
