//! Whether the disk has room. Below a floor a node takes no records, while what must go on still can:
//! reads, deletions, the metadata, consumer groups.
//!
//! Two steps down, so that a leader stops before its followers do: below the floor a node takes no batch
//! from a producer, below half of it none from a leader either. That keeps the disk from running full by
//! what is written here. Others may fill it all the same: then what finds no room waits in memory, and is
//! tried again as often as the disk is asked.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidelog_log::disk::Disk;
use tidelog_log::flusher::Flusher;
use tidelog_log::{self as log, VotesLog};
use tidelog_types::GroupId;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::executor::{self, Executor};

/// How often the disk is asked. Longer: more is written below the floor before it is noticed, and what
/// waits for room waits longer.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How much room there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskSpace {
    /// Enough.
    #[default]
    Enough,
    /// Below the floor: no batches of producers.
    Low,
    /// Below half of it: no records of leaders either.
    VeryLow,
    /// Something that was to be written found none, and waits for it. This node leads nothing.
    Full,
}

/// How often a snapshot or the like that found no room is tried again: it may be large.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Where the room of a node's disk is found out.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) dir: PathBuf,
    /// The floor in bytes; 0: none.
    pub(crate) free_min: u64,
    /// What knows who waits for room.
    pub(crate) votes: Arc<VotesLog>,
    pub(crate) flusher: Arc<dyn Flusher>,
}

/// Follows the room on the disk until the node stops.
pub(crate) async fn follow(watched: Watched, space: watch::Sender<DiskSpace>) {
    let Watched { disk, executor, dir, free_min, votes, flusher } = watched;
    let (mut was_told, mut free) = (false, u64::MAX);
    loop {
        let (disk, path) = (Arc::clone(&disk), dir.clone());
        match executor::run(&*executor, move || disk.free_bytes(&path)).await {
            Ok(Ok(bytes)) => {
                was_told = false;
                free = bytes;
            }
            // As it was: a disk that does not answer fails where it is used.
            Ok(Err(err)) => {
                if !std::mem::replace(&mut was_told, true) {
                    error!(%err, dir = %dir.display(), "the disk does not tell how much room it has");
                }
            }
            Err(_) => return,
        }
        let before = *space.borrow();
        let waiting = votes.room().awaited_by();
        let now = level(before, free, free_min, waiting);
        if space.send_if_modified(|known| std::mem::replace(known, now) != now) {
            tell(before, now, free, free_min, waiting);
        }
        votes.room().try_again(&*flusher);
        sleep(LOOK_EVERY).await;
    }
}

/// Runs `work` for `group` until it finds room: an engine that is told of a full disk stops for good.
pub(crate) async fn run<T: Send + 'static>(
    executor: &dyn Executor,
    group: GroupId,
    work: impl Fn() -> Result<T, log::Error> + Clone + Send + 'static,
) -> io::Result<T> {
    let mut was_told = false;
    loop {
        match executor::run(executor, work.clone()).await? {
            Err(log::Error::Full) => {
                if !std::mem::replace(&mut was_told, true) {
                    error!(%group, "the disk is full: a log that is to be cut or replaced waits for room");
                }
                sleep(AGAIN_AFTER).await;
            }
            done => return done.map_err(io::Error::other),
        }
    }
}

/// What so many free bytes come to, and so many logs that find no room. It gets better only with a tenth
/// more than it got worse at, so that it does not change to and fro.
fn level(before: DiskSpace, free: u64, free_min: u64, waiting: usize) -> DiskSpace {
    if waiting > 0 {
        return DiskSpace::Full;
    }
    let at = |bytes: u64| match bytes {
        bytes if bytes >= free_min => DiskSpace::Enough,
        bytes if bytes >= free_min / 2 => DiskSpace::Low,
        _ => DiskSpace::VeryLow,
    };
    let now = at(free);
    if now < before { at(free / 11 * 10).min(before) } else { now }
}

fn tell(before: DiskSpace, now: DiskSpace, free_bytes: u64, free_min: u64, waiting: usize) {
    match now {
        DiskSpace::Full => {
            error!(
                free_bytes,
                waiting, "the disk is full: what could not be written waits for room"
            );
        }
        DiskSpace::Enough => info!(free_bytes, free_min, "the disk has room again"),
        DiskSpace::Low if before == DiskSpace::Enough => {
            error!(free_bytes, free_min, "the disk is nearly full: no batches are taken");
        }
        DiskSpace::Low => warn!(free_bytes, free_min, "the disk has more room, but not enough"),
        DiskSpace::VeryLow => {
            error!(free_bytes, free_min, "the disk is nearly full: no records are taken at all");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_finds_no_room_is_believed() {
        assert_eq!(level(DiskSpace::Enough, 5_000, 1_000, 1), DiskSpace::Full);
        assert_eq!(level(DiskSpace::Enough, 5_000, 0, 1), DiskSpace::Full);
        assert_eq!(level(DiskSpace::Full, 0, 0, 0), DiskSpace::Enough);
        assert_eq!(level(DiskSpace::Full, 1_050, 1_000, 0), DiskSpace::Low);
        assert_eq!(level(DiskSpace::Full, 5_000, 1_000, 0), DiskSpace::Enough);
    }

    #[test]
    fn it_gets_worse_at_once_and_better_with_a_margin() {
        use DiskSpace::{Enough, Low, VeryLow};
        let steps = [
            (1_000, Enough),
            (999, Low),
            (1_000, Low),
            (1_099, Low),
            (1_100, Enough),
            (499, VeryLow),
            (549, VeryLow),
            (550, Low),
            (500, Low),
            (499, VeryLow),
            (5_000, Enough),
        ];
        let mut now = Enough;
        for (free, expected) in steps {
            now = level(now, free, 1_000, 0);
            assert_eq!(now, expected, "with {free} free");
        }
    }
}
