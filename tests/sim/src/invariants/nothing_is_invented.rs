//! Every record that is read was sent.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::Place;

pub(crate) fn check(sent: &BTreeSet<String>, end: &BTreeMap<Place, String>) -> Result<(), String> {
    match end.iter().find(|(_, value)| !sent.contains(*value)) {
        None => Ok(()),
        Some((place, value)) => Err(format!("{value:?} at {place:?} was never sent")),
    }
}
