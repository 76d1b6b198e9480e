//! What an applied command came to.

use super::Committed;

pub use crate::metadata::Refusal;

/// What an applied command came to. What a member has to hear is read from the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect, or had before.
    Done,
    /// Commits, in the order of the command: what holds for each now, or why it was refused.
    Committed(Vec<Result<Committed, Refusal>>),
    /// A seek, in the order of the command: what held for each before.
    Sought(Vec<Option<Committed>>),
}
