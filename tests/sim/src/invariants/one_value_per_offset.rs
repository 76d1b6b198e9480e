//! P2: whoever reads an offset, and whenever, gets the same record.

use std::collections::BTreeMap;

use crate::history::Place;

/// Compares what has just been read at `place` with what was read there first, and keeps it when it is
/// the first.
pub(crate) fn check(
    read: &mut BTreeMap<Place, String>,
    place: Place,
    value: String,
) -> Result<(), String> {
    let first = read.entry(place).or_insert_with(|| value.clone());
    if *first == value {
        return Ok(());
    }
    Err(format!("{place:?} was read as {first:?} and as {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::examples::place;

    #[test]
    fn offset_with_two_values_is_found() {
        let mut read = BTreeMap::new();
        let mut check = |offset, value: &str| check(&mut read, place(offset), value.to_owned());
        assert_eq!(check(1, "a"), Ok(()));
        assert_eq!(check(1, "a"), Ok(()));
        assert_eq!(check(2, "b"), Ok(()));
        assert!(check(1, "b").is_err());
        assert!(check(1, "b").is_err(), "the first one counts");
    }
}
