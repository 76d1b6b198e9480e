//! P2 and P5: what a reader was once given is there in the end, and the same.

use std::collections::BTreeMap;

use crate::history::Place;

pub(crate) fn check(
    read: &BTreeMap<Place, String>,
    end: &BTreeMap<Place, String>,
) -> Result<(), String> {
    match read.iter().find(|(place, value)| end.get(place) != Some(value)) {
        None => Ok(()),
        Some((place, value)) => {
            Err(format!("{place:?} was read as {value:?} and is {:?} in the end", end.get(place)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::examples::topic;

    #[test]
    fn record_that_is_gone_or_changed_is_found() {
        let read = topic(&["a", "b"]);
        assert_eq!(check(&read, &topic(&["a", "b", "c"])), Ok(()));
        assert!(check(&read, &topic(&["a"])).is_err());
        assert!(check(&read, &topic(&["a", "c"])).is_err());
    }
}
