//! P6: a reader sees the offsets of a partition one after the other, without a skip or a repeat.

use std::collections::BTreeMap;

use tidelog_client::{Offset, PartitionId};

use crate::history::Place;

/// What one reader, that began with the first offset, must see next.
#[derive(Debug, Default)]
pub(crate) struct Next(BTreeMap<PartitionId, Offset>);

impl Next {
    /// The reader has been given the record at `place`.
    pub(crate) fn check(&mut self, place: Place) -> Result<(), String> {
        let (partition, offset) = place;
        let next = Offset(offset.0 + 1);
        let expected = self.0.insert(partition, next).unwrap_or_default();
        if offset == expected {
            return Ok(());
        }
        Err(format!("{offset} of partition {partition} instead of {expected}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::examples::place;

    #[test]
    fn skip_and_repeat_are_found() {
        let mut next = Next::default();
        assert_eq!(next.check(place(0)), Ok(()));
        assert_eq!(next.check(place(1)), Ok(()));
        assert_eq!(next.check((PartitionId(1), Offset(0))), Ok(()));
        assert!(next.check(place(1)).is_err());
        assert!(next.check(place(3)).is_err());
    }
}
