//! P4 and P7: what one producer sends to one partition lies there in the order of the sends.

use std::collections::BTreeMap;

use crate::history::Ack;

pub(crate) fn check(acks: &[Ack]) -> Result<(), String> {
    // Acks are noted in the order of the sends, producer by producer.
    let mut last: BTreeMap<_, &Ack> = BTreeMap::new();
    for ack in acks {
        let before = last.insert((ack.producer, ack.place.0), ack);
        if let Some(before) = before.filter(|before| before.place.1 >= ack.place.1) {
            return Err(format!("{before:?} was sent before {ack:?}"));
        }
    }
    Ok(())
}
