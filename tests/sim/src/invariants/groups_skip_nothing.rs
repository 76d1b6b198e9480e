//! P9: every record below a committed offset was handed to some member of the group.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_client::{Offset, PartitionId};

use crate::history::Place;

pub(crate) fn check(
    committed: &BTreeMap<PartitionId, Offset>,
    delivered: &BTreeSet<Place>,
) -> Result<(), String> {
    for (partition, end) in committed {
        let skipped = (0..end.0).find(|at| !delivered.contains(&(*partition, Offset(*at))));
        if let Some(skipped) = skipped {
            return Err(format!(
                "partition {partition} is committed up to {end}, and nobody got offset {skipped}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::examples::place;

    #[test]
    fn record_that_nobody_got_is_found_below_the_committed_offset() {
        let committed = |offset| BTreeMap::from([(PartitionId(0), Offset(offset))]);
        let delivered = BTreeSet::from([place(0), place(2)]);
        assert_eq!(check(&committed(1), &delivered), Ok(()));
        assert!(check(&committed(3), &delivered).is_err());
    }
}
