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
