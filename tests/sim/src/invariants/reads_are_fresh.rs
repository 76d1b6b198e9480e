//! P1 and H4: what had been acked before a read began is there, whoever answers it.

use crate::history::Place;

/// Compares what a read of `place` found with the value that had been acked there before.
pub(crate) fn check(place: Place, acked: &str, found: Option<&str>) -> Result<(), String> {
    if found == Some(acked) {
        return Ok(());
    }
    Err(format!("{acked:?} was acked at {place:?}, a read found {found:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::examples::place;

    #[test]
    fn read_that_misses_an_ack_is_found() {
        assert_eq!(check(place(0), "a", Some("a")), Ok(()));
        assert!(check(place(0), "a", None).is_err());
        assert!(check(place(0), "a", Some("b")).is_err());
    }
}
