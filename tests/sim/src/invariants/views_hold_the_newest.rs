//! Compaction: of each key the newest acked record is read, and nothing that was never sent.

use std::collections::{BTreeMap, BTreeSet};

/// What may be the newest value of each key: the last that was acked, and those of which nobody knows
/// whether they were written; `None` is a tombstone.
pub(crate) type Known = BTreeMap<String, BTreeSet<Option<String>>>;

/// What a reader met, in the order in which it did: offset, key and value.
pub(crate) type Seen = Vec<(u64, String, Option<String>)>;

/// Notes a write. One whose outcome is not known may still come, at any time.
pub(crate) fn note(known: &mut Known, key: String, value: Option<String>, is_acked: bool) {
    let values = known.entry(key).or_default();
    if is_acked {
        values.retain(|value| value.as_deref().is_some_and(|value| value.starts_with(UNKNOWN)));
        values.insert(value);
    } else {
        let value = value.unwrap_or_default();
        values.insert(Some(format!("{UNKNOWN}{value}")));
    }
}

/// Before a value of which it is not known whether it was written.
const UNKNOWN: char = '?';

/// Checks what was read in the end against what is known, and against all that was ever sent.
pub(crate) fn check(known: &Known, sent: &BTreeSet<String>, seen: &Seen) -> Result<(), String> {
    check_order(seen)?;
    let mut newest: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for (offset, key, value) in seen {
        if value.as_ref().is_some_and(|value| !sent.contains(value)) {
            return Err(format!("{value:?} at offset {offset} was never sent"));
        }
        newest.insert(key, value.as_deref());
    }
    for (key, values) in known {
        let found = newest.get(key.as_str()).copied().flatten();
        let may_be = |known: &Option<String>| match known.as_deref() {
            Some(unknown) if unknown.starts_with(UNKNOWN) => {
                found.unwrap_or_default() == &unknown[UNKNOWN.len_utf8()..]
            }
            known => known == found,
        };
        // Nothing was ever acked: then it may not be there at all.
        let all_unknown =
            values.iter().all(|value| value.as_deref().is_some_and(|v| v.starts_with(UNKNOWN)));
        let may_be_absent = all_unknown && found.is_none();
        if !may_be_absent && !values.iter().any(may_be) {
            return Err(format!("the newest of {key} is {found:?}, and should be of {values:?}"));
        }
    }
    Ok(())
}

/// Offsets ascend, whatever was taken out between them.
pub(crate) fn check_order(seen: &Seen) -> Result<(), String> {
    match seen.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
        Some(pair) => Err(format!("{:?} comes before {:?}", pair[0], pair[1])),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(records: &[(&str, Option<&str>)]) -> Seen {
        let record = |(offset, (key, value)): (u64, &(&str, Option<&str>))| {
            (offset, (*key).to_owned(), value.map(str::to_owned))
        };
        (0..).zip(records).map(record).collect()
    }

    #[test]
    fn an_older_value_and_one_that_came_back_to_life_are_found() {
        let mut known = Known::new();
        note(&mut known, "a".into(), Some("1 |".into()), true);
        note(&mut known, "a".into(), Some("2 |".into()), true);
        note(&mut known, "b".into(), Some("3 |".into()), true);
        note(&mut known, "b".into(), None, true);
        let sent = ["1 |", "2 |", "3 |", "4 |"].map(str::to_owned).into();
        let check_of = |records: &[_]| check(&known, &sent, &seen(records));
        assert_eq!(check_of(&[("a", Some("1 |")), ("a", Some("2 |"))]), Ok(()));
        assert_eq!(check_of(&[("a", Some("2 |")), ("b", None)]), Ok(()));
        assert!(check_of(&[("a", Some("1 |"))]).is_err(), "the newest is gone");
        assert!(check_of(&[("a", Some("2 |")), ("b", Some("3 |"))]).is_err(), "it was deleted");
        assert!(check_of(&[("a", Some("2 |")), ("c", Some("9 |"))]).is_err(), "never sent");
        assert!(check_of(&[]).is_err());
    }

    #[test]
    fn what_nobody_knows_of_may_be_there_or_not() {
        let mut known = Known::new();
        note(&mut known, "a".into(), Some("1 |".into()), true);
        note(&mut known, "a".into(), Some("2 |".into()), false);
        let sent = ["1 |", "2 |"].map(str::to_owned).into();
        for value in ["1 |", "2 |"] {
            assert_eq!(check(&known, &sent, &seen(&[("a", Some(value))])), Ok(()));
        }
        assert!(check(&known, &sent, &seen(&[])).is_err());
        note(&mut known, "b".into(), None, false);
        assert_eq!(check(&known, &sent, &seen(&[("a", Some("1 |"))])), Ok(()));
    }
}
