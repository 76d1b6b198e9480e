//! Every record that is read was sent.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::Place;

pub(crate) fn check(sent: &BTreeSet<String>, end: &BTreeMap<Place, String>) -> Result<(), String> {
    match end.iter().find(|(_, value)| !sent.contains(*value)) {
        None => Ok(()),
        Some((place, value)) => Err(format!("{value:?} at {place:?} was never sent")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::examples::topic;

    #[test]
    fn record_that_nobody_sent_is_found() {
        let sent = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        assert_eq!(check(&sent, &topic(&["b", "a"])), Ok(()));
        assert!(check(&sent, &topic(&["a", "c"])).is_err());
    }
}
