//! Of one disk, the vote of a group that has become durable is never followed by an earlier one, nor
//! by one for another node in the same term, unless a quorum chose that one.

use tidelog_types::GroupId;

use crate::votes::Votes;

/// Compares what is durable of the votes on `disk` with what was before.
pub(crate) fn check(disk: u32, before: &Votes, now: &Votes) -> Result<(), String> {
    let went_back = |group: &GroupId| {
        let (old, new) = (before.get(group)?, now.get(group));
        let kept = new.is_some_and(|new| new == old || new.may_replace(old));
        (!kept).then(|| format!("group {group} on disk {disk}: {old:?}, then {new:?}"))
    };
    before.keys().find_map(went_back).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use tidelog_log::Vote;
    use tidelog_types::Term;

    use super::*;

    #[test]
    fn vote_that_is_gone_or_older_is_found() {
        let votes = |term| {
            let vote = Vote { term: Term(term), node: None, committed: false };
            Votes::from([(GroupId::default(), vote)])
        };
        assert_eq!(check(1, &votes(1), &votes(2)), Ok(()));
        assert!(check(1, &votes(2), &votes(1)).is_err());
        assert!(check(1, &votes(2), &Votes::new()).is_err());
    }
}
