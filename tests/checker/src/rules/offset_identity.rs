//! P2: an offset of a partition has one value, for whoever wrote or reads it.

use std::collections::HashMap;

use crate::history::{Fact, History};
use crate::verdict::{Docket, Rule};

pub(crate) fn check(history: &History, docket: &mut Docket<'_>) {
    let mut values = HashMap::new();
    for entry in history.entries() {
        let (log, offset, id) = match entry.fact {
            Fact::Produced { log, offset, id } => (log, offset, id),
            Fact::Delivered { slot, offset, id, .. } => (history.log_of(slot), offset, id),
            _ => continue,
        };
        let (first, place) = *values.entry((log, offset)).or_insert((id, entry.place));
        if first != id {
            docket.blame(Rule::OffsetIdentity, entry.place, || {
                let (log, place) = (history.log_name(log), history.place(place));
                format!("{log}@{offset} is record {id}, and was record {first} at {place}")
            });
        }
    }
}
