//! Bugs planted on purpose, to see that the simulation catches them. Only in builds with
//! `--cfg tidelog_faults`; elsewhere [`canary!`](crate::canary!) is the constant `false`, and nothing
//! of this file is in what ships.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// A flush completes without its fdatasync.
    AckBeforeFsync,
    /// A write that found the disk full counts as written.
    FullDiskAcked,
    /// A vote is never written.
    VoteNotSaved,
    /// A vote is saved before what was appended earlier is on disk.
    VoteOvertakesAppend,
    /// A leader that restarts leads its old term again.
    LeaderRestored,
    /// An entry out of turn counts.
    OrdinalNotChecked,
    /// Consumers are given what is written, committed or not.
    ReadAboveCommit,
    /// A saved commit above the log is believed.
    SavedCommitTrusted,
    /// A partition's start points forget its producers.
    ProducersForgotten,
}

impl Canary {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::AckBeforeFsync,
        Self::FullDiskAcked,
        Self::VoteNotSaved,
        Self::VoteOvertakesAppend,
        Self::LeaderRestored,
        Self::OrdinalNotChecked,
        Self::ReadAboveCommit,
        Self::SavedCommitTrusted,
        Self::ProducersForgotten,
    ];
}

/// The planted bug's place in [`Canary::ALL`], plus one.
static PLANTED: AtomicUsize = AtomicUsize::new(0);

/// Plants a bug in this process, for good.
pub fn plant(canary: Canary) {
    PLANTED.store(canary as usize + 1, Ordering::Relaxed);
}

/// Whether this bug is planted.
#[must_use]
pub fn planted(canary: Canary) -> bool {
    PLANTED.load(Ordering::Relaxed) == canary as usize + 1
}
