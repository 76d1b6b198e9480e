//! Bugs planted on purpose, to see that tests catch them. Only in builds with `--cfg tidelog_faults`;
//! elsewhere [`canary!`](crate::canary!) is the constant `false`, and nothing of this file is in what
//! ships.

use std::sync::OnceLock;

/// The environment variable that plants a bug by its name, for tests that know nothing of bugs.
pub const VARIABLE: &str = "TIDELOG_CANARY";

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
    /// A new leader begins without the producers that its partition knows.
    ProducersReset,
    /// A read that goes on in the next segment skips its first entry.
    RollSkipsOne,
    /// The name of a new segment is never synced.
    SegmentNotInDirectory,
    /// Damage to what was safe is cut off like a torn tail.
    CorruptTakenForTorn,
    /// The bytes of records are not checked when they come from the disk.
    CrcNotChecked,
    /// A leader serves though no quorum has heard of it.
    DeposedLeaderServes,
    /// Segments are purged that hold records nobody trimmed.
    PurgeTakesRetained,
    /// A commit of a consumer group is taken under any epoch of its member.
    MemberEpochIgnored,
    /// A broker that lost its disk comes back under its old identity.
    WipedNodeAccepted,
    /// A replica is deleted as soon as it should be elsewhere, whether its group needs it or not.
    LeavesUnreleased,
    /// A replica that was given up and is made anew votes before it holds what it held.
    ForgottenLogVotes,
    /// Compaction takes a key's newest record out and keeps the older ones.
    CompactionTakesNewest,
    /// A broker that was declared lost for good is let in when it comes back.
    LostLetIn,
    /// A broker is taken out of the cluster whatever it still holds.
    RemovedWhileNeeded,
    /// A broker that was removed is not told so when it comes back.
    RemovedNotTold,
}

impl Canary {
    /// Every one.
    pub const ALL: [Self; 24] = [
        Self::AckBeforeFsync,
        Self::FullDiskAcked,
        Self::VoteNotSaved,
        Self::VoteOvertakesAppend,
        Self::LeaderRestored,
        Self::OrdinalNotChecked,
        Self::ReadAboveCommit,
        Self::SavedCommitTrusted,
        Self::ProducersForgotten,
        Self::ProducersReset,
        Self::RollSkipsOne,
        Self::SegmentNotInDirectory,
        Self::CorruptTakenForTorn,
        Self::CrcNotChecked,
        Self::DeposedLeaderServes,
        Self::PurgeTakesRetained,
        Self::MemberEpochIgnored,
        Self::WipedNodeAccepted,
        Self::LeavesUnreleased,
        Self::ForgottenLogVotes,
        Self::CompactionTakesNewest,
        Self::LostLetIn,
        Self::RemovedWhileNeeded,
        Self::RemovedNotTold,
    ];

    /// The bug of this name, in whatever case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| format!("{bug:?}").eq_ignore_ascii_case(name))
    }
}

static PLANTED: OnceLock<Option<Canary>> = OnceLock::new();

/// Plants a bug in this process, for good.
///
/// # Panics
/// When something has been planted, or looked for, already.
pub fn plant(canary: Canary) {
    PLANTED.set(Some(canary)).expect("a bug is planted before anything runs");
}

/// Whether this bug is planted.
///
/// # Panics
/// When the environment names a bug that does not exist: a test would pass for the wrong reason.
#[must_use]
pub fn planted(canary: Canary) -> bool {
    *PLANTED.get_or_init(from_environment) == Some(canary)
}

#[expect(clippy::disallowed_methods, reason = "a test that plants a bug has no other way in here")]
fn from_environment() -> Option<Canary> {
    let name = std::env::var(VARIABLE).ok()?;
    Some(Canary::named(&name).unwrap_or_else(|| panic!("{VARIABLE}: no bug is called {name:?}")))
}
