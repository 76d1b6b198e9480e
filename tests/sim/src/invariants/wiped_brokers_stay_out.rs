//! A broker that lost its disk never votes again under its old identity: it has forgotten what it
//! promised.

use crate::votes::Votes;

/// Looks for votes on the disk of a broker, whose earlier disk is gone when it is `wiped`.
pub(crate) fn check(wiped: bool, votes: &Votes) -> Result<(), String> {
    if wiped && !votes.is_empty() {
        return Err(format!("a broker without its disk has voted: {votes:?}"));
    }
    Ok(())
}
