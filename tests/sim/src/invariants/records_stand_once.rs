//! P7: a record that a producer sent once, and resent however often, stands in the log once.

use std::collections::BTreeMap;

use crate::history::Place;

pub(crate) fn check(end: &BTreeMap<Place, String>) -> Result<(), String> {
    let mut places = BTreeMap::new();
    for (place, value) in end {
        if let Some(first) = places.insert(value, place) {
            return Err(format!("{value:?} stands at {first:?} and at {place:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::examples::topic;

    #[test]
    fn record_that_stands_twice_is_found() {
        assert_eq!(check(&topic(&["a", "b"])), Ok(()));
        assert!(check(&topic(&["a", "b", "a"])).is_err());
    }
}
