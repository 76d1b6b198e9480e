//! P3: when one send had completed before another began, it has the lower offset.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_client::PartitionId;

use crate::history::Ack;

pub(crate) fn check(acks: &[Ack]) -> Result<(), String> {
    let mut partitions: BTreeMap<PartitionId, Vec<&Ack>> = BTreeMap::new();
    for ack in acks {
        partitions.entry(ack.place.0).or_default().push(ack);
    }
    for acks in partitions.values_mut() {
        acks.sort_by_key(|ack| ack.place.1);
        // From the back: nothing behind may have completed before this one began.
        let mut soonest: Option<&Ack> = None;
        for ack in acks.iter().rev() {
            if let Some(later) = soonest.filter(|later| later.completed < ack.invoked) {
                return Err(format!("{later:?} had completed before {ack:?} began"));
            }
            let completed = |ack: Option<&Ack>| ack.map_or(Duration::MAX, |ack| ack.completed);
            if ack.completed < completed(soonest) {
                soonest = Some(ack);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::examples::ack;

    #[test]
    fn later_send_with_a_lower_offset_is_found() {
        // At the same time either may be the first.
        assert_eq!(check(&[ack("a", 1, 1, 5), ack("b", 0, 4, 6)]), Ok(()));
        assert_eq!(check(&[ack("a", 0, 1, 2), ack("b", 1, 3, 4)]), Ok(()));
        assert!(check(&[ack("a", 1, 1, 2), ack("b", 0, 3, 4)]).is_err());
        // Not only between neighbours.
        assert!(check(&[ack("a", 2, 1, 2), ack("c", 1, 1, 9), ack("b", 0, 3, 4)]).is_err());
    }
}
