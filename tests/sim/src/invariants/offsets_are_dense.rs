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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::examples::{place, topic};

    #[test]
    fn gap_is_found_and_so_is_a_partition_without_its_begin() {
        let mut end = topic(&["a", "b", "c"]);
        assert_eq!(check(&end), Ok(()));
        end.remove(&place(1));
        assert!(check(&end).is_err());
        end.remove(&place(0));
        assert!(check(&end).is_err());
    }
}
