//! P8: the committed offset of a partition is a linearizable register that only rises: whoever asks
//! sees at least what any call had shown that was over before, and nothing that nobody has committed.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_client::PartitionId;

use crate::history::{RegisterCall, Shown};

pub(crate) fn check(calls: &[RegisterCall]) -> Result<(), String> {
    let mut partitions: BTreeMap<PartitionId, Vec<&RegisterCall>> = BTreeMap::new();
    for call in calls {
        partitions.entry(call.partition).or_default().push(call);
    }
    partitions.values().try_for_each(|calls| check_one(calls))
}

fn check_one(calls: &[&RegisterCall]) -> Result<(), String> {
    let seen = |call: &RegisterCall| match call.shown {
        Shown::Offset(offset) => Some(offset.0 + 1),
        Shown::Nothing => Some(0),
        Shown::Unknown => None,
    };
    for call in calls {
        // What is shown counts from one, so that nothing is less than offset 0.
        let Some(shown) = seen(call) else { continue };
        let before = calls.iter().filter(|other| other.completed < call.invoked);
        let highest = before.max_by_key(|other| seen(other));
        if let Some(higher) = highest.filter(|other| seen(other) > Some(shown)) {
            return Err(format!("{call:?} although {higher:?} was over before"));
        }
        let begun = calls.iter().filter(|other| other.invoked <= call.completed);
        let committed: BTreeSet<u64> = begun.filter_map(|other| other.commit).collect();
        if shown > 0 && !committed.contains(&(shown - 1)) {
            return Err(format!("{call:?} although nobody had committed that"));
        }
        if call.commit.is_some_and(|commit| shown < commit + 1) {
            return Err(format!("{call:?} was taken and does not hold"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidelog_client::Offset;

    use super::*;

    fn call(from: u64, to: u64, commit: Option<u64>, shown: Option<u64>) -> RegisterCall {
        let (invoked, completed) = (Duration::from_secs(from), Duration::from_secs(to));
        let shown = shown.map_or(Shown::Nothing, |offset| Shown::Offset(Offset(offset)));
        RegisterCall { partition: PartitionId(0), commit, invoked, completed, shown }
    }

    #[test]
    fn register_that_forgets_or_invents_is_found() {
        let commit = || call(1, 2, Some(5), Some(5));
        assert_eq!(check(&[commit(), call(3, 4, None, Some(5))]), Ok(()));
        assert_eq!(check(&[commit(), call(1, 2, None, None)]), Ok(()));
        assert_eq!(check(&[commit(), call(3, 4, Some(2), Some(5))]), Ok(()));
        assert!(check(&[commit(), call(3, 4, None, None)]).is_err());
        assert!(check(&[commit(), call(3, 4, None, Some(6))]).is_err());
        assert!(check(&[commit(), call(3, 4, Some(2), Some(2))]).is_err());
        assert!(check(&[call(0, 0, None, Some(5)), commit()]).is_err());
    }
}
