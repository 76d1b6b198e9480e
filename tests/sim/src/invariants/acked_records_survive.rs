//! P1: what was acked is in every later complete read, where the ack said.

use std::collections::BTreeMap;

use crate::history::{Ack, Place};

pub(crate) fn check(acks: &[Ack], end: &BTreeMap<Place, String>) -> Result<(), String> {
    let mut lost = acks.iter().filter(|ack| end.get(&ack.place) != Some(&ack.value));
    let Some(first) = lost.next() else { return Ok(()) };
    let found = end.get(&first.place);
    Err(format!("{first:?} is not there but {found:?}, and {} more", lost.count()))
}
