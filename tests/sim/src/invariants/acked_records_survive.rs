//! P1: what was acked is in every later complete read, where the ack said.

use std::collections::BTreeMap;

use crate::history::{Ack, Place};

pub(crate) fn check(acks: &[Ack], end: &BTreeMap<Place, String>) -> Result<(), String> {
    let mut lost = acks.iter().filter(|ack| end.get(&ack.place) != Some(&ack.value));
    let Some(first) = lost.next() else { return Ok(()) };
    let found = end.get(&first.place);
    Err(format!("{first:?} is not there but {found:?}, and {} more", lost.count()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::examples::{ack, topic};

    #[test]
    fn record_that_is_gone_or_elsewhere_is_found() {
        let end = topic(&["a", "b"]);
        assert_eq!(check(&[ack("a", 0, 1, 2), ack("b", 1, 1, 2)], &end), Ok(()));
        assert!(check(&[ack("c", 2, 1, 2)], &end).is_err());
        assert!(check(&[ack("a", 1, 1, 2)], &end).is_err());
    }
}
