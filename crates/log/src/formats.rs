//! The formats of this crate's files, for who tells people what a build reads and writes.

use crate::segment::Head;
use crate::{start, votes};

/// A segment: a `.log` file.
pub const SEGMENT: u32 = Head::FORMAT;
/// A start point: a `.start` file.
pub const START_POINT: u32 = start::FORMAT;
/// The votes of a node: `votes.log`.
pub const VOTES: u32 = votes::FORMAT;
