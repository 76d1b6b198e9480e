//! P3: the offsets of a partition are 0, 1, 2 and so on.

use std::collections::BTreeMap;

use tidelog_client::{Offset, PartitionId};

use crate::history::Place;

pub(crate) fn check(end: &BTreeMap<Place, String>) -> Result<(), String> {
    let mut next: BTreeMap<PartitionId, Offset> = BTreeMap::new();
    for (partition, offset) in end.keys() {
        let expected = next.entry(*partition).or_default();
        if offset != expected {
            return Err(format!("partition {partition} goes on with {offset}, not {expected}"));
        }
        *expected = Offset(offset.0 + 1);
    }
    Ok(())
}
