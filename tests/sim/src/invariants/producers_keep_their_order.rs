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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::examples::ack;

    #[test]
    fn producer_whose_records_change_places_is_found() {
        let (first, second) = (ack("a", 1, 1, 2), ack("b", 0, 1, 2));
        assert_eq!(check(&[second.clone(), first.clone()]), Ok(()));
        assert!(check(&[first.clone(), second.clone()]).is_err());
        let of_another = Ack { producer: 2, ..second };
        assert_eq!(check(&[first, of_another]), Ok(()));
    }
}
