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

#[cfg(test)]
mod tests {
    use tidelog_log::Vote;
    use tidelog_types::{GroupId, Term};

    use super::*;

    #[test]
    fn vote_of_a_broker_without_its_disk_is_found() {
        let vote = Vote { term: Term(1), node: None, committed: false };
        let votes = Votes::from([(GroupId::default(), vote)]);
        assert_eq!(check(false, &votes), Ok(()));
        assert_eq!(check(true, &Votes::new()), Ok(()));
        assert!(check(true, &votes).is_err());
    }
}
