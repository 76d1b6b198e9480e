//! Positions and times, one newtype each, so that a record position is never mistaken for a Raft one.

use std::fmt;

macro_rules! position {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The first position.
            pub const ZERO: Self = Self(0);

            /// The position `count` places later.
            #[must_use]
            pub const fn plus(self, count: u64) -> Self {
                Self(self.0 + count)
            }

            /// The position right after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }

            /// The position right before this one; `None` at zero.
            #[must_use]
            pub const fn previous(self) -> Option<Self> {
                match self.0.checked_sub(1) {
                    Some(position) => Some(Self(position)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

position! {
    /// The position of a record in its partition, as users see it: dense, from zero.
    ///
    /// On the wire and in a batch it is an `i64`; ours never passes `i64::MAX`.
    Offset
}

position! {
    /// The position of an entry in the Raft log of its group.
    LogIndex
}

position! {
    /// A Raft term. As a leader epoch on the wire it is an `i32`.
    Term
}

impl Offset {
    /// The offset as the `i64` of the wire and of the batch header.
    #[must_use]
    pub const fn to_wire(self) -> i64 {
        self.0 as i64
    }

    /// An offset from the wire; `None` when it is negative.
    #[must_use]
    pub const fn from_wire(wire: i64) -> Option<Self> {
        if wire < 0 { None } else { Some(Self(wire as u64)) }
    }
}

impl Term {
    /// The term as the `i32` leader epoch of the wire, `i32::MAX` when it does not fit.
    #[must_use]
    pub const fn to_leader_epoch(self) -> i32 {
        if self.0 > i32::MAX as u64 { i32::MAX } else { self.0 as i32 }
    }
}

/// Where an entry stands in a Raft log: the term of its leader and its index.
///
/// Ordered as Raft compares logs, by term first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    /// The term of the leader that created the entry.
    pub term: Term,
    /// The index of the entry.
    pub index: LogIndex,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.term, self.index)
    }
}

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
