//! No disk holds an entry of a later term than its vote: a node that forgot the term could vote in
//! it once more, against what it has taken from its leader. Term 0 has no votes: in it every member
//! writes the first membership by itself.

use std::collections::BTreeMap;

use tidelog_types::Term;

use crate::votes::Votes;

/// Compares the term of each group's last durable entry on `disk` with the vote.
pub(crate) fn check(
    disk: u32,
    votes: &Votes,
    last_terms: &BTreeMap<String, Term>,
) -> Result<(), String> {
    let terms: BTreeMap<_, _> =
        votes.iter().map(|(id, vote)| (id.to_string(), vote.term)).collect();
    let above = |(group, last): (&String, &Term)| {
        let voted = terms.get(group);
        let covered = *last == Term(0) || voted.is_some_and(|voted| voted >= last);
        (!covered).then(|| {
            format!(
                "group {group} on disk {disk} has an entry of term {last}, its vote is {voted:?}"
            )
        })
    };
    last_terms.iter().find_map(above).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use tidelog_log::Vote;
    use tidelog_types::GroupId;

    use super::*;

    #[test]
    fn entry_of_a_term_without_a_vote_is_found() {
        let vote = Vote { term: Term(3), node: None, committed: false };
        let votes = Votes::from([(GroupId::default(), vote)]);
        let last = |term| BTreeMap::from([(GroupId::default().to_string(), Term(term))]);
        assert_eq!(check(1, &votes, &last(3)), Ok(()));
        assert!(check(1, &votes, &last(4)).is_err());
        assert!(check(1, &Votes::new(), &last(1)).is_err());
        assert_eq!(check(1, &Votes::new(), &last(0)), Ok(()));
    }
}
