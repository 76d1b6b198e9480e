//! What a step of a disk is done to, by the name of the file.

use std::path::Path;

/// Kinds of files, and directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Entries of a group.
    Segment,
    /// Where entries stand in a segment.
    Index,
    /// The state before a segment.
    Start,
    /// Votes, commits and durable marks of all groups.
    Votes,
    /// The file that takes the place of the votes.
    VotesCopy,
    /// Who the broker is.
    Identity,
    /// A segment that is made whole.
    Mend,
    /// Bytes that are kept for the operator, and the mark of a log that is being filled up.
    Aside,
    Directory,
}

impl Target {
    pub(super) const ALL: [Self; 9] = [
        Self::Segment,
        Self::Index,
        Self::Start,
        Self::Votes,
        Self::VotesCopy,
        Self::Identity,
        Self::Mend,
        Self::Aside,
        Self::Directory,
    ];

    /// The name in [`failpoint::STEPS`](tidelog_types::failpoint::STEPS).
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Index => "index",
            Self::Start => "start",
            Self::Votes => "votes",
            Self::VotesCopy => "votes-copy",
            Self::Identity => "identity",
            Self::Mend => "mend",
            Self::Aside => "aside",
            Self::Directory => "directory",
        }
    }

    /// The kind of a path, by its name alone.
    pub(super) fn of(path: &Path) -> Self {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match name.split_once('.') {
            Some(("votes", "tmp")) => Self::VotesCopy,
            Some(("votes", _)) => Self::Votes,
            Some(("node", _)) => Self::Identity,
            Some((_, "log")) => Self::Segment,
            Some((_, "idx")) => Self::Index,
            Some((_, "start" | "tmp")) => Self::Start,
            Some((_, "mended")) => Self::Mend,
            Some((_, "new" | "old")) | None if name != "unfinished" => Self::Directory,
            _ => Self::Aside,
        }
    }
}
